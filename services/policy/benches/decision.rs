//! Latency of one decision and of fifty in a row. Prints p50 and p99 beside criterion's mean.

#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use systir_policy::{
    Action, Claims, IdentityProof, NodeFacts, Nodes, PolicyEngine, Request, RoomAttributes, Subject, demo,
};

type BoxError = Box<dyn std::error::Error>;

/// The demo's three nodes and forty-seven more like `sto-1`.
fn fifty_nodes() -> Result<Nodes, BoxError> {
    let demo = Nodes::parse(demo::NODES)?;
    let template = demo.get("sto-1").ok_or("the demo has no sto-1")?;
    let more = (2..49).map(|number| NodeFacts {
        id: format!("sto-{number}"),
        spiffe_id: format!("spiffe://nordu.net/relay/sto-{number}"),
        ..template.clone()
    });
    Ok(Nodes::new(demo.iter().cloned().chain(more).collect(), Default::default())?)
}

fn ask(engine: &PolicyEngine, nodes: &Nodes, node: &str) -> bool {
    let request = Request {
        institution: demo::INSTITUTION,
        action: Action::Spill,
        subject: Subject::Node(nodes.evidence(node, IdentityProof::Planned)),
        room: RoomAttributes::default(),
        claims: Claims { e2ee: true, load_percent: Some(40) },
    };
    engine.decide(black_box(&request)).allowed
}

fn count_allowed(engine: &PolicyEngine, nodes: &Nodes) -> usize {
    nodes.iter().filter(|facts| ask(engine, nodes, &facts.id)).count()
}

fn percentiles(name: &str, rounds: usize, mut run: impl FnMut() -> usize) {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times.get(rounds * percent / 100).copied().unwrap_or_default();
    eprintln!("{name}: p50 {:?}, p99 {:?}", at(50), at(99));
}

fn main() -> Result<(), BoxError> {
    let nodes = fifty_nodes()?;
    let engine = demo::engine(&nodes)?;
    percentiles("allowed", 10_000, || ask(&engine, &nodes, "sto-1").into());
    percentiles("forbidden", 10_000, || ask(&engine, &nodes, "aws-sto-1").into());
    percentiles("50 nodes", 500, || count_allowed(&engine, &nodes));
    percentiles("load", 50, || demo::engine(&nodes).map_or(0, |engine| engine.institutions().count()));
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("decide allowed", |b| b.iter(|| ask(&engine, &nodes, "sto-1")));
    criterion.bench_function("decide forbidden", |b| b.iter(|| ask(&engine, &nodes, "aws-sto-1")));
    criterion.bench_function("50 nodes", |b| b.iter(|| count_allowed(&engine, &nodes)));
    criterion.final_summary();
    Ok(())
}
