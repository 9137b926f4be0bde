use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::input::LoadReport;
use crate::seat_book::{SeatBook, SeatQuotas, SeatRequest};

fn allow(tier: u32) -> RoleDecision {
    RoleDecision { allowed: true, tier: Some(tier), rules: vec!["approved".into()], why: "approved".into() }
}

fn deny() -> RoleDecision {
    RoleDecision {
        allowed: false,
        tier: Some(0),
        rules: vec!["no-foreign-control".into()],
        why: "it is controlled from US".into(),
    }
}

fn node(
    name: &str,
    home: RoleDecision,
    spill: RoleDecision,
    participants: u32,
    capacity: u32,
) -> NodeCandidate {
    let load = LoadReport { participants, capacity, cpu_permille: 100, age_ms: 500 };
    NodeCandidate { node: name.into(), load, draining: false, alive: true, home, spill }
}

/// The demo's three nodes, with this many participants on `cph-1` and `sto-1`.
fn demo(cph: u32, sto: u32) -> Vec<NodeCandidate> {
    vec![
        node("aws-sto-1", deny(), deny(), 0, 100),
        node("cph-1", allow(0), allow(0), cph, 4),
        node("sto-1", deny(), allow(1), sto, 6),
    ]
}

fn room(assignment: Option<(&str, &[&str])>) -> RoomToPlace {
    RoomToPlace {
        institution: "ku.dk".into(),
        tag: "physics".into(),
        assignment: assignment.map(|(home, spill)| CarryingNodes {
            home: home.into(),
            spill: spill.iter().map(|s| s.to_string()).collect(),
        }),
    }
}

fn nodes(proposal: &Proposal) -> Vec<&str> {
    proposal.steps.iter().map(|s| &*s.node).collect()
}

fn row_of<'a>(proposal: &'a Proposal, node: &str) -> &'a Row {
    proposal.table.iter().find(|r| r.node == node).unwrap()
}

#[test]
fn home_with_a_seat_is_asked_first() {
    let proposal = propose(&room(Some(("cph-1", &[]))), &Demand::default(), &demo(1, 0));
    assert_eq!(nodes(&proposal), ["cph-1", "sto-1"]);
    assert_eq!(row_of(&proposal, "cph-1").reason, Reason::Home);
}

#[test]
fn full_home_spills_to_sister_never_to_cloud() {
    let proposal = propose(&room(Some(("cph-1", &[]))), &Demand::default(), &demo(4, 0));
    assert_eq!(nodes(&proposal), ["sto-1", "cph-1"], "a full home is asked again, last");
    assert_eq!(proposal.steps[0].reason, Reason::SpillApproved);
    assert_eq!(proposal.steps[1].reason, Reason::HomeFull);
    let cloud = row_of(&proposal, "aws-sto-1");
    assert_eq!((cloud.rank, cloud.reason), (None, Reason::PolicyDenied));
    assert!(cloud.sentence.contains("controlled from US") && cloud.sentence.contains("no-foreign-control"));
}

#[test]
fn with_every_approved_node_full_the_refusal_says_so_and_names_no_node() {
    let proposal = propose(&room(Some(("cph-1", &["sto-1"]))), &Demand::default(), &demo(4, 6));
    assert_eq!(nodes(&proposal), ["cph-1", "sto-1"]);
    assert_eq!(proposal.refusal, None);
    let refusal = proposal.refused(&[Reason::Full, Reason::Full]);
    assert_eq!(refusal.reason, Reason::ApprovedFull);
    assert!(refusal.sentence.contains("ku.dk") && !refusal.sentence.contains("cph-1"));
}

#[test]
fn a_stale_report_does_not_change_the_policys_order() {
    let mut candidates = demo(4, 0);
    candidates[1].load.age_ms = 5_000;
    let proposal = propose(&room(Some(("cph-1", &[]))), &Demand::default(), &candidates);
    assert_eq!(nodes(&proposal), ["cph-1", "sto-1"]);
}

#[test]
fn spill_nodes_are_asked_in_the_policys_order_whatever_their_load() {
    let mut candidates = demo(4, 5);
    candidates.push(node("oslo-1", deny(), allow(2), 0, 100));
    candidates.push(node("unranked", deny(), RoleDecision { tier: None, ..allow(0) }, 0, 100));
    let proposal = propose(&room(Some(("cph-1", &["oslo-1"]))), &Demand::default(), &candidates);
    assert_eq!(nodes(&proposal), ["sto-1", "oslo-1", "unranked", "cph-1"]);
}

#[test]
fn within_a_tier_the_node_that_carries_the_room_already_comes_first() {
    let candidates = vec![
        node("cph-1", allow(0), deny(), 4, 4),
        node("sto-1", deny(), allow(1), 0, 9),
        node("sto-2", deny(), allow(1), 8, 9),
    ];
    let proposal = propose(&room(Some(("cph-1", &["sto-2"]))), &Demand::default(), &candidates);
    assert_eq!(nodes(&proposal), ["sto-2", "sto-1", "cph-1"]);
}

#[test]
fn viewers_leave_the_last_seats_of_home_to_others() {
    let candidates = vec![node("cph-1", allow(0), deny(), 8, 10), node("sto-1", deny(), allow(1), 0, 9)];
    let room = room(Some(("cph-1", &[])));
    let viewer = propose(&room, &Demand { view_only: true }, &candidates);
    assert_eq!(nodes(&viewer), ["sto-1", "cph-1"]);
    assert_eq!(viewer.steps[0].reason, Reason::SpillViewer);
    assert_eq!(nodes(&propose(&room, &Demand::default(), &candidates)), ["cph-1", "sto-1"]);
}

#[test]
fn a_new_room_is_homed_where_policy_allows_and_a_seat_is_free() {
    let mut candidates = demo(4, 0);
    candidates.push(node("cph-2", allow(1), allow(1), 0, 4));
    let proposal = propose(&room(None), &Demand::default(), &candidates);
    assert_eq!(proposal.home.as_deref(), Some("cph-2"));
    assert_eq!(proposal.steps[0].role, MediaRole::Home);

    let full = propose(&room(None), &Demand::default(), &demo(4, 0));
    assert_eq!(full.home.as_deref(), Some("cph-1"), "it is home though every participant spills");
    assert_eq!(nodes(&full), ["sto-1", "cph-1"]);
}

#[test]
fn a_draining_home_still_lets_the_room_grow() {
    let mut candidates = demo(1, 0);
    candidates[1].draining = true;
    let proposal = propose(&room(Some(("cph-1", &[]))), &Demand::default(), &candidates);
    assert_eq!(nodes(&proposal), ["sto-1"]);
    assert_eq!(row_of(&proposal, "cph-1").reason, Reason::Draining);
}

#[test]
fn with_home_offline_the_assigned_nodes_admit_and_no_other_is_added() {
    let mut candidates = demo(1, 0);
    candidates.push(node("sto-2", deny(), allow(0), 0, 9));
    candidates[1].alive = false;
    let proposal = propose(&room(Some(("cph-1", &["sto-1"]))), &Demand::default(), &candidates);
    assert_eq!(nodes(&proposal), ["sto-1"]);
    assert_eq!(row_of(&proposal, "sto-2").reason, Reason::HomeOffline);
    assert_eq!(row_of(&proposal, "cph-1").reason, Reason::NoLease);
    candidates.remove(1);
    let unknown = propose(&room(Some(("cph-1", &["sto-1"]))), &Demand::default(), &candidates);
    assert_eq!(nodes(&unknown), ["sto-1"]);
    assert_eq!(row_of(&unknown, "cph-1").role, MediaRole::Home);
}

#[test]
fn an_offline_home_is_replaced_by_an_approved_node_that_carries_the_room() {
    let mut candidates = demo(1, 0);
    candidates.push(node("cph-2", allow(0), allow(0), 0, 9));
    candidates.push(node("cph-3", allow(0), allow(0), 5, 9));
    let dead_home = room(Some(("cph-1", &["sto-1", "cph-3"])));
    let alive = propose(&dead_home, &Demand::default(), &candidates);
    assert_eq!(alive.home.as_deref(), Some("cph-1"), "a running home keeps its rooms");
    candidates[1].alive = false;
    let proposal = propose(&dead_home, &Demand::default(), &candidates);
    assert_eq!(proposal.home.as_deref(), Some("cph-3"));
    assert_eq!(nodes(&proposal), ["cph-3", "cph-2", "sto-1"]);
    assert_eq!(row_of(&proposal, "cph-1").reason, Reason::NoLease);
    // A forged assignment does not make a denied node home.
    let forged = propose(&room(Some(("aws-sto-1", &["sto-1"]))), &Demand::default(), &candidates);
    assert_eq!(forged.home.as_deref(), Some("cph-2"));
    assert_eq!(row_of(&forged, "aws-sto-1").reason, Reason::PolicyDenied);
}

#[test]
fn each_cause_of_having_no_node_to_ask_has_its_refusal() {
    let demand = Demand::default();
    let denied = vec![node("aws-sto-1", deny(), deny(), 0, 9)];
    let reason = |assigned, c: &[NodeCandidate]| propose(&room(assigned), &demand, c).refusal.unwrap().reason;
    assert_eq!(reason(None, &denied), Reason::NoApprovedNode);
    assert_eq!(reason(None, &[]), Reason::NoApprovedNode);
    assert_eq!(reason(None, &[node("sto-1", deny(), allow(0), 0, 9)]), Reason::NoHome);
    let mut candidates = demo(0, 0);
    candidates[1].alive = false;
    assert_eq!(reason(Some(("cph-1", &[])), &candidates), Reason::HomeOffline);
    candidates.iter_mut().for_each(|c| c.alive = false);
    assert_eq!(reason(Some(("cph-1", &[])), &candidates), Reason::ApprovedUnavailable);
}

#[test]
fn a_name_that_two_nodes_have_is_never_asked() {
    let mut candidates = demo(0, 0);
    candidates.push(node("cph-1", deny(), deny(), 0, 9));
    let proposal = propose(&room(Some(("cph-1", &["sto-1"]))), &Demand::default(), &candidates);
    assert_eq!(nodes(&proposal), ["sto-1"]);
    assert_eq!(row_of(&proposal, "cph-1").reason, Reason::DuplicateName);
}

fn any_decision() -> impl Strategy<Value = RoleDecision> {
    (any::<bool>(), prop::option::of(0..3u32)).prop_map(|(allowed, tier)| RoleDecision {
        allowed,
        tier,
        rules: vec![],
        why: String::new(),
    })
}

prop_compose! {
    fn candidate_any()(
        name in 0..8u8, participants in 0..20u32, capacity in 0..20u32, cpu in 0..1_100u32, age in 0..8_000u64,
        draining in prop::bool::weighted(0.2), alive in prop::bool::weighted(0.8),
        home in any_decision(), spill in any_decision(),
    ) -> NodeCandidate {
        let load = LoadReport { participants, capacity, cpu_permille: cpu, age_ms: age };
        NodeCandidate { node: format!("n{name}"), load, draining, alive, home, spill }
    }
}

proptest! {
    #[test]
    fn a_denied_node_is_never_proposed_whatever_the_loads(
        candidates in prop::collection::vec(candidate_any(), 0..10),
        assignment in prop::option::of((0..8u8, prop::collection::vec(0..8u8, 0..4))),
        view_only: bool,
    ) {
        let assignment = assignment.map(|(home, spill)| CarryingNodes {
            home: format!("n{home}"), spill: spill.iter().map(|n| format!("n{n}")).collect(),
        });
        let room = RoomToPlace { institution: "ku.dk".into(), tag: "r".into(), assignment };
        let proposal = propose(&room, &Demand { view_only }, &candidates);
        for step in &proposal.steps {
            for candidate in candidates.iter().filter(|c| c.node == step.node) {
                prop_assert!(decision_for(candidate, step.role).allowed);
                prop_assert!(candidate.alive && !candidate.draining);
                prop_assert_eq!(step.role == MediaRole::Home, proposal.home.as_ref() == Some(&step.node));
            }
        }
        prop_assert_eq!(proposal.refusal.is_some(), proposal.steps.is_empty());
        // The table has each name once, and its ranks are the indices of the steps.
        let mut names: Vec<_> = proposal.table.iter().map(|r| &r.node).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), proposal.table.len());
        for candidate in &candidates {
            prop_assert!(names.contains(&&candidate.node));
        }
        for (rank, step) in proposal.steps.iter().enumerate() {
            let row = proposal.table.iter().find(|r| r.node == step.node).unwrap();
            prop_assert_eq!((row.rank, row.role, row.reason), (Some(rank), step.role, step.reason));
        }
        let mut shuffled = candidates.clone();
        shuffled.reverse();
        if duplicate_names(&candidates).is_empty() {
            prop_assert_eq!(propose(&room, &Demand { view_only }, &shuffled), proposal);
        }
    }

    /// 200 joins within one second; every report is five seconds old and has an arbitrary load.
    #[test]
    fn a_join_storm_on_old_reports_overfills_no_node_and_wastes_no_seat(
        capacities in prop::collection::vec(0..120u32, 1..6),
        reported in prop::collection::vec(0..120u32, 6),
        approved in prop::collection::vec(any::<bool>(), 6),
        view_only in prop::collection::vec(any::<bool>(), 200),
    ) {
        let start = Instant::now();
        let mut candidates = vec![node("home", allow(0), deny(), 0, capacities[0])];
        for (i, capacity) in capacities.iter().enumerate().skip(1) {
            let spill = if approved[i] { allow(i as u32) } else { deny() };
            candidates.push(node(&format!("spill-{i}"), deny(), spill, 0, *capacity));
        }
        for (candidate, reported) in candidates.iter_mut().zip(&reported) {
            candidate.load = LoadReport { participants: *reported, age_ms: 5_000, ..candidate.load };
        }
        let mut books: HashMap<String, SeatBook> =
            candidates.iter().map(|c| (c.node.clone(), SeatBook::new(c.load.capacity, SeatQuotas::default()))).collect();
        let seats: u32 = candidates
            .iter()
            .filter(|c| c.home.allowed || c.spill.allowed)
            .map(|c| c.load.capacity)
            .sum();

        let mut placed = 0;
        for (join, view_only) in view_only.into_iter().enumerate() {
            let now = start + Duration::from_millis(5 * join as u64);
            let proposal = propose(&room(Some(("home", &[]))), &Demand { view_only }, &candidates);
            for step in &proposal.steps {
                let book = books.get_mut(&step.node).unwrap();
                let join_id = join.to_string();
                let request = SeatRequest {
                    institution: "ku.dk",
                    room: "ku.dk/physics",
                    identity: &join_id,
                    join_id: &join_id,
                    elsewhere: 0,
                };
                match book.reserve(request, now) {
                    Ok(_) => {
                        book.commit("ku.dk/physics", &join.to_string()).unwrap();
                        placed += 1;
                        break;
                    }
                    Err(refusal) if refusal.reason == Reason::Full => {}
                    Err(other) => prop_assert!(false, "{}", other),
                }
            }
        }
        for candidate in &candidates {
            let used = books[&candidate.node].used();
            prop_assert!(used <= candidate.load.capacity);
            prop_assert!(used == 0 || candidate.home.allowed || candidate.spill.allowed);
        }
        prop_assert_eq!(placed, seats.min(200));
    }
}
