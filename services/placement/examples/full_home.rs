//! The home node of a room is full. Placement ranks the nodes for the next participant and gives a reason for each;
//! the participant gets a seat on `sto-1`, the approved spill node, and never on `aws-sto-1`, which policy denies.
//!
//! `cargo run -p systir-placement --example full_home`

#![allow(clippy::disallowed_methods, reason = "an example reads the clock")]

use std::collections::HashMap;
use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use systir_placement::{
    CarryingNodes, Demand, LoadReport, NodeCandidate, RoleDecision, RoomToPlace, Row, SeatBook, SeatQuotas,
    SeatRequest, propose,
};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let now = Instant::now();
    let room = RoomToPlace {
        institution: "ku.dk".to_owned(),
        tag: "lecture".to_owned(),
        assignment: Some(CarryingNodes { home: "cph-1".to_owned(), spill: Vec::new() }),
    };
    // One seat book on each node. The home node's only seat is taken.
    let mut seat_books = HashMap::from([
        ("cph-1", SeatBook::new(1, SeatQuotas::default())),
        ("sto-1", SeatBook::new(6, SeatQuotas::default())),
        ("aws-sto-1", SeatBook::new(100, SeatQuotas::default())),
    ]);
    let home = seat_books.get_mut("cph-1").ok_or("cph-1 has no seat book")?;
    home.reserve(request("anna", "join-1"), now)?;
    home.commit("lecture", "join-1")?;

    let candidates = [
        candidate("cph-1", 1, 1, allow("ku-home-denmark", None), allow("ku-spill-nordic", Some(1))),
        candidate("sto-1", 0, 6, deny(&[], "no rule permits it"), allow("ku-spill-nordic", Some(1))),
        candidate("aws-sto-1", 0, 100, deny_cloud(), deny_cloud()),
    ];
    let proposal = propose(&room, &Demand::default(), &candidates);
    let mut out = std::io::stdout();
    writeln!(out, "The ladder for the next participant:")?;
    for row in &proposal.table {
        print_row(&mut out, row)?;
    }

    // The nodes are asked in this order; the first that reserves a seat gets the participant.
    let mut media_node = None;
    for step in &proposal.steps {
        let seats = seat_books.get_mut(step.node.as_str()).ok_or("a step names an unknown node")?;
        match seats.reserve(request("bo", "join-2"), now) {
            Ok(reservation) => {
                writeln!(
                    out,
                    "{} reserves a seat: {} of {} are used.",
                    step.node, reservation.used, reservation.capacity
                )?;
                media_node = Some(step.node.as_str());
                break;
            }
            Err(refusal) => writeln!(out, "{} refuses: {refusal}", step.node)?,
        }
    }

    assert_eq!(media_node, Some("sto-1"));
    let steps: Vec<_> = proposal.steps.iter().map(|step| step.node.as_str()).collect();
    assert_eq!(steps, ["sto-1", "cph-1"], "the full home node is asked last, the denied node never");
    let reasons: Vec<_> = proposal.table.iter().map(|row| (row.node.as_str(), row.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [("sto-1", "spill-approved"), ("cph-1", "home-full"), ("aws-sto-1", "policy-denied")]
    );
    assert_eq!(seat_books["aws-sto-1"].used(), 0);
    Ok(())
}

/// A node with its load, as it reported it half a second ago, and the policy decisions on it.
fn candidate(
    node: &str,
    participants: u32,
    capacity: u32,
    home: RoleDecision,
    spill: RoleDecision,
) -> NodeCandidate {
    let load = LoadReport { participants, capacity, cpu_permille: 100, age_ms: 500 };
    NodeCandidate { node: node.to_owned(), load, draining: false, alive: true, home, spill }
}

fn allow(rule: &str, tier: Option<u32>) -> RoleDecision {
    RoleDecision { allowed: true, tier, rules: vec![rule.to_owned()], why: "approved".to_owned() }
}

fn deny(rules: &[&str], why: &str) -> RoleDecision {
    let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
    RoleDecision { allowed: false, tier: None, rules, why: why.to_owned() }
}

fn deny_cloud() -> RoleDecision {
    deny(&["ku-host-controlled-from-eea"], "the machine is owned by amazon, controlled from US")
}

fn print_row(out: &mut impl std::io::Write, row: &Row) -> std::io::Result<()> {
    let rank = row.rank.map_or("-".to_owned(), |rank| (rank + 1).to_string());
    writeln!(out, "  {rank} {:<9} {:<13} {}", row.node, row.reason.as_str(), row.sentence)
}

fn request<'a>(identity: &'a str, join_id: &'a str) -> SeatRequest<'a> {
    SeatRequest { institution: "ku.dk", room: "lecture", identity, join_id, elsewhere: 0 }
}
