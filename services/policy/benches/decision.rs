//! Latency of one decision and of fifty in a row, and of the check of a participant's ticket. Prints p50 and p99 beside criterion's mean.

#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use systir_documents::{DirectoryNode, Lifetime, PublicKey, SigningKey, Ticket, TicketPermission};
use systir_policy::demo::{self, DemoDocuments};
use systir_policy::{Action, Claims, PolicyEngine, Request, Subject};

type BoxError = Box<dyn std::error::Error>;

fn key() -> Result<PublicKey, BoxError> {
    Ok(SigningKey::from_seed("bench", [1; 32])?.public())
}

/// The demo's documents with forty-seven more nodes like `sto-1`.
fn fifty_nodes() -> Result<DemoDocuments, BoxError> {
    let lifetime = Lifetime { issued: 0, renew_by: 1, not_after: 2 };
    let (key, prefix) = (key()?, "192.0.2.0/24".parse()?);
    let mut documents = DemoDocuments::new(lifetime, "", |_| (vec![key.clone()], vec![prefix]))?;
    let nodes = &mut documents.directory.nodes;
    let template = nodes.iter().find(|node| node.id == "sto-1").ok_or("the demo has no sto-1")?.clone();
    nodes.extend((2..49).map(|number| DirectoryNode {
        id: format!("sto-{number}"),
        spiffe_id: format!("spiffe://nordu.net/relay/sto-{number}"),
        ..template.clone()
    }));
    Ok(documents)
}

/// A participant's ticket, and the key of its gateway.
fn ticket() -> Result<(String, PublicKey), BoxError> {
    let gateway = SigningKey::from_seed("bench", [1; 32])?;
    let ticket = Ticket {
        gateway: "cph-1".to_owned(),
        institution: demo::INSTITUTION.to_owned(),
        room: "a3UuZGs/bGVjdHVyZQ".to_owned(),
        room_sid: "RM_4kTqYb2xNc7h".to_owned(),
        identity: "anna.lund@ku.dk".to_owned(),
        participant_sid: "PA_9fQmWv3sKd5j".to_owned(),
        join_number: 1_800_000_000_000,
        kind: 0,
        hidden: false,
        recorder: false,
        permissions: TicketPermission::ALL.iter().copied().collect(),
        sources: None,
        media_node: "sto-1".to_owned(),
        issued_ms: 1_800_000_000_000,
        not_after_ms: 1_800_000_600_000,
    };
    Ok((ticket.sign(&gateway)?, gateway.public()))
}

/// A decision as a node makes it: the room's class from its name, then the rules.
fn ask(engine: &PolicyEngine, node: &str) -> bool {
    let request = Request {
        institution: demo::INSTITUTION,
        action: Action::Spill,
        subject: Subject::Node(node),
        room: engine.room(demo::INSTITUTION, black_box("Lecture on matters of State")),
        claims: Claims { e2ee: true, load_percent: Some(40) },
    };
    engine.decide(black_box(&request)).allowed
}

fn count_allowed(engine: &PolicyEngine) -> usize {
    engine.nodes().filter(|facts| ask(engine, &facts.id)).count()
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
    let documents = fifty_nodes()?;
    let engine = documents.engine()?;
    percentiles("allowed", 10_000, || ask(&engine, "sto-1").into());
    percentiles("forbidden", 10_000, || ask(&engine, "aws-sto-1").into());
    percentiles("50 nodes", 500, || count_allowed(&engine));
    percentiles("load", 50, || documents.engine().map_or(0, |engine| engine.institutions().count()));
    let (ticket, key) = ticket()?;
    let keys = [key];
    percentiles("ticket", 10_000, || Ticket::verify(black_box(&ticket), &keys).is_ok().into());
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("decide allowed", |b| b.iter(|| ask(&engine, "sto-1")));
    criterion.bench_function("decide forbidden", |b| b.iter(|| ask(&engine, "aws-sto-1")));
    criterion.bench_function("50 nodes", |b| b.iter(|| count_allowed(&engine)));
    criterion.bench_function("verify a ticket", |b| b.iter(|| Ticket::verify(black_box(&ticket), &keys)));
    criterion.final_summary();
    Ok(())
}
