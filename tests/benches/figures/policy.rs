//! The time of one policy decision, as gateways, links and admission ask for it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use systir_documents::{
    DocumentHash, Grant, GrantTerms, Lifetime, SignedGrant, SigningKey, Ticket, TicketPermission,
};
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
    let mut figures = vec![Figure::new("policy decision p99", us(p99), "µs", 200.0, how)];
    figures.extend(notes(us)?);
    Ok(figures)
}

/// What it takes to read a grant and a ticket and to verify their signatures.
fn notes(us: impl Fn(Duration) -> f64) -> Result<[Figure; 2]> {
    let key = SigningKey::from_seed("cph-1", [1; 32])?;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let grant = Grant {
        institution: demo::INSTITUTION.to_owned(),
        room: "a3UuZGs/bGVjdHVyZQ".to_owned(),
        sid: "RM_4kTqYb2xNc7h".to_owned(),
        epoch: 1,
        serial: 1,
        home: "cph-1".to_owned(),
        successor_of: None,
        terms: GrantTerms {
            trust_domain: "nordu.net".to_owned(),
            homes: names(&["cph-1"]),
            spill: names(&["sto-1"]),
            gateways: names(&["cph-1", "sto-1"]),
            class: "standard".to_owned(),
            e2ee: false,
            policy_version: 1,
            policy_hash: DocumentHash::of("policy"),
            directory_version: 1,
            directory_hash: DocumentHash::of("directory"),
        },
        issued_ms: 1_800_000_000_000,
        not_after_ms: 1_800_000_600_000,
    };
    let ticket = Ticket {
        gateway: "cph-1".to_owned(),
        institution: demo::INSTITUTION.to_owned(),
        room: grant.room.clone(),
        room_sid: grant.sid.clone(),
        identity: "anna.lund@ku.dk".to_owned(),
        participant_sid: "PA_9fQmWv3sKd5j".to_owned(),
        join_number: grant.issued_ms,
        kind: 0,
        hidden: false,
        recorder: false,
        permissions: TicketPermission::ALL.iter().copied().collect(),
        sources: None,
        media_node: "sto-1".to_owned(),
        issued_ms: grant.issued_ms,
        not_after_ms: grant.not_after_ms,
    };
    let (ticket, grant) = (ticket.sign(&key)?, SignedGrant::sign(grant, &key)?);
    let keys = [key.public()];
    let of_grant = p99_of(|| SignedGrant::verify(black_box(grant.note()), |_| keys.to_vec()).is_ok());
    let of_ticket = p99_of(|| Ticket::verify(black_box(&ticket), &keys).is_ok());
    let figure = |name: &'static str, time: [Duration; 2]| {
        let [p50, p99] = time.map(&us);
        Figure::new(name, p99, "µs", 100.0, format!("p50 {p50:.0} µs of {ROUNDS}: text and signature"))
    };
    Ok([figure("grant check p99", of_grant), figure("ticket check p99", of_ticket)])
}

/// Median and 99th percentile.
fn p99_of(mut run: impl FnMut() -> bool) -> [Duration; 2] {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        black_box(run());
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    [50, 99].map(|percent| times.get(ROUNDS * percent / 100).copied().unwrap_or_default())
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
