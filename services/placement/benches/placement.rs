//! Cost of placement: one decision among a hundred nodes, and a join storm of two hundred joins a second
//! with load reports up to five seconds old. Time is simulated, so the storm's outcome is the same on every
//! machine; only the cost is measured.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use systir_placement::{
    CarryingNodes, Demand, LoadReport, NodeCandidate, RoleDecision, RoomToPlace, SeatBook, SeatQuotas,
    SeatRequest, propose,
};

const NODES: usize = 100;
const SEATS: u32 = 25;
/// Joins of the storm.
const JOINS: usize = 2_000;
const JOINS_PER_SECOND: u32 = 200;
/// Interval of load reports in the storm.
const REPORT_EVERY: Duration = Duration::from_secs(5);
const DECISIONS: usize = 5_000;

/// A home and ninety-nine other nodes; policy approves two of three.
fn nodes() -> Vec<NodeCandidate> {
    let decision = |allowed, tier| RoleDecision {
        allowed,
        tier,
        rules: vec!["ku.dk/eea".to_owned()],
        why: "the machine is controlled from US".to_owned(),
    };
    let node = |index: usize| {
        let approved = index == 0 || index % 3 != 2;
        NodeCandidate {
            node: format!("node-{index}"),
            load: LoadReport { participants: 0, capacity: SEATS, cpu_permille: 100, age_ms: 0 },
            draining: false,
            alive: true,
            home: decision(index == 0, None),
            spill: decision(approved, Some(index as u32 % 4)),
        }
    };
    (0..NODES).map(node).collect()
}

fn room(assignment: CarryingNodes) -> RoomToPlace {
    RoomToPlace { institution: "ku.dk".to_owned(), tag: "lecture".to_owned(), assignment: Some(assignment) }
}

fn decision() -> Vec<Duration> {
    let candidates = nodes();
    let room = room(CarryingNodes { home: "node-0".to_owned(), spill: vec!["node-1".to_owned()] });
    let mut times = Vec::with_capacity(DECISIONS);
    for _ in 0..DECISIONS {
        let begun = Instant::now();
        black_box(propose(black_box(&room), &Demand::default(), black_box(&candidates)));
        times.push(begun.elapsed());
    }
    times
}

#[derive(Default)]
struct Storm {
    times: Vec<Duration>,
    asked: Vec<usize>,
    refused: usize,
    /// Seats taken on the fullest node.
    fullest: u32,
    /// Seats on nodes that policy denied.
    denied: u32,
    carrying: usize,
}

fn request(id: &str) -> SeatRequest<'_> {
    SeatRequest { institution: "ku.dk", room: "lecture", identity: id, join_id: id, elsewhere: 0 }
}

fn storm() -> Storm {
    let mut reported = nodes();
    let mut books: BTreeMap<String, SeatBook> = reported
        .iter()
        .map(|node| (node.node.clone(), SeatBook::new(SEATS, SeatQuotas::default())))
        .collect();
    let mut assignment = CarryingNodes { home: "node-0".to_owned(), spill: Vec::new() };
    let mut storm = Storm::default();
    let start = Instant::now();
    let mut reported_at = Duration::ZERO;
    for join in 0..JOINS {
        let at = Duration::from_secs(1) * join as u32 / JOINS_PER_SECOND;
        if at >= reported_at + REPORT_EVERY {
            reported_at = at;
            for node in &mut reported {
                node.load.participants = books.get(&node.node).map_or(0, SeatBook::used);
            }
        }
        let age = (at - reported_at).as_millis() as u64;
        reported.iter_mut().for_each(|node| node.load.age_ms = age);
        let begun = Instant::now();
        let proposal = propose(&room(assignment.clone()), &Demand::default(), &reported);
        let id = join.to_string();
        let mut asked = 0;
        let admitted = proposal.steps.iter().find(|step| {
            asked += 1;
            books.get_mut(&step.node).is_some_and(|book| {
                // Committed at once, so that no reservation expires.
                book.reserve(request(&id), start + at).is_ok() && book.commit("lecture", &id).is_ok()
            })
        });
        storm.times.push(begun.elapsed());
        storm.asked.push(asked);
        match admitted {
            Some(step) if step.node != assignment.home && !assignment.spill.contains(&step.node) => {
                assignment.spill.push(step.node.clone());
            }
            Some(_) => {}
            None => storm.refused += 1,
        }
    }
    storm.fullest = books.values().map(SeatBook::used).max().unwrap_or_default();
    let denied = reported.iter().filter(|node| !node.home.allowed && !node.spill.allowed);
    storm.denied = denied.filter_map(|node| books.get(&node.node)).map(SeatBook::used).sum();
    storm.carrying = assignment.spill.len() + 1;
    storm
}

fn percentile<T: Copy + Ord + Default>(values: &mut [T], percent: usize) -> T {
    values.sort_unstable();
    values
        .get((values.len() * percent / 100).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

fn main() -> std::io::Result<()> {
    let mut decisions = decision();
    let mut storm = storm();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["placement", "p50", "p99", "max"]);
    let mut row = |name: String, values: [String; 3]| {
        let cells = values.map(|value| Cell::new(value).set_alignment(CellAlignment::Right));
        table.add_row([Cell::new(name)].into_iter().chain(cells));
    };
    let us = |time: Duration| format!("{:.0} µs", time.as_secs_f64() * 1e6);
    row(
        format!("a decision among {NODES} nodes"),
        [50, 99, 100].map(|percent| us(percentile(&mut decisions, percent))),
    );
    row(
        format!("a join of {JOINS_PER_SECOND} a second, reports up to {} s old", REPORT_EVERY.as_secs()),
        [50, 99, 100].map(|percent| us(percentile(&mut storm.times, percent))),
    );
    row(
        "nodes asked for it".to_owned(),
        [50, 99, 100].map(|percent| percentile(&mut storm.asked, percent).to_string()),
    );
    writeln!(std::io::stdout(), "{table}")?;
    writeln!(
        std::io::stdout(),
        "storm: {JOINS} joins, {} admitted by {} nodes of {SEATS} seats, fullest {}, refused {}, on nodes that \
         policy denies {}",
        JOINS - storm.refused,
        storm.carrying,
        storm.fullest,
        storm.refused,
        storm.denied
    )
}
