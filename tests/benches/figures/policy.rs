//! The time of one policy decision, as gateways, links and admission ask for it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use systir_documents::{Lifetime, SigningKey};
use systir_policy::demo::{self, DemoDocuments};
use systir_policy::{Action, Claims, PolicyEngine, Request, RoomAttributes, Subject};

use crate::figure::Figure;

const ROUNDS: usize = 1_000;
/// The median batch counts, so that time slices of other processes do not.
const BATCHES: usize = 21;

pub(crate) fn measure() -> Result<Vec<Figure>> {
    let lifetime = Lifetime { issued: 0, renew_by: 1, not_after: 2 };
    let (key, prefix) = (SigningKey::from_seed("node", [1; 32])?.public(), "192.0.2.0/24".parse()?);
    let engine = DemoDocuments::new(lifetime, "", |_| (vec![key.clone()], vec![prefix]))?.engine()?;
    let mut batches: Vec<[Duration; 2]> = (0..BATCHES).map(|_| batch(&engine)).collect();
    batches.sort_unstable_by_key(|[_, p99]| *p99);
    let [p50, p99] = batches.get(BATCHES / 2).copied().unwrap_or_default();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let how = format!("p50 {:.0} µs; median of {BATCHES} batches of {ROUNDS}, half denied", us(p50));
    Ok(vec![Figure::new("policy decision p99", us(p99), "µs", 200.0, how)])
}

/// Median and 99th percentile of one batch.
fn batch(engine: &PolicyEngine) -> [Duration; 2] {
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        // Allowed and denied decisions alternate.
        let node = if round % 2 == 0 { "sto-1" } else { "aws-sto-1" };
        let request = Request {
            institution: demo::INSTITUTION,
            action: Action::Spill,
            subject: Subject::Node(node),
            room: RoomAttributes::default(),
            claims: Claims { e2ee: true, load_percent: Some(40) },
        };
        let begun = Instant::now();
        black_box(engine.decide(black_box(&request)).allowed);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    [50, 99].map(|percent| times.get(ROUNDS * percent / 100).copied().unwrap_or_default())
}
