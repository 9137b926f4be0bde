//! The ladder: home, then the other approved nodes in the policy's order, then refusal.
//!
//! Load is a hint. A *fresh* report of a full or hot node sends it to the end of the order, where
//! it is still asked: a seat may be free by now, one more question costs a round trip, a wrong
//! refusal costs somebody the meeting. A *stale* report moves nothing: the policy's order counts
//! more than old load, and the target's seat book decides in any case.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use systir_reason::Reason;

use crate::input::{Assignment, Candidate, Demand, RoomFacts, Verdict};
use crate::proposal::{Proposal, Role, Row, Step};
use crate::rank_reason::Standing;
use crate::refusal::{NoSeat, refuse};

/// A report up to this old may move a node to the end of the order, milliseconds.
pub const FRESH_MS: u64 = 2_000;
/// CPU from which a node counts as hot, thousandths.
pub const HOT_PERMILLE: u32 = 850;
/// Occupancy of home from which participants who only view are placed elsewhere first, thousandths.
pub const VIEWERS_MOVE_PERMILLE: u64 = 800;

/// Ranks the nodes for one join. Never proposes a node that policy denied for the role.
pub fn propose(room: &RoomFacts, demand: &Demand, candidates: &[Candidate]) -> Proposal {
    let twice = named_twice(candidates);
    let orders = |node: &str| {
        candidates.iter().any(|c| c.node == node && c.alive && c.home.allowed && !twice.contains(&*c.node))
    };
    let home = match &room.assignment {
        // A home that is away, or that policy denies, gives way to one that can order the room.
        Some(Assignment { home, .. }) if !orders(home) => {
            choose_home(room, candidates, &twice).or_else(|| Some(home.clone()))
        }
        Some(assignment) => Some(assignment.home.clone()),
        None => choose_home(room, candidates, &twice),
    };
    let home_orders = home.as_deref().is_some_and(orders);

    let mut asked = Vec::new();
    let mut table = Vec::new();
    let mut seen = BTreeSet::new();
    for candidate in candidates {
        if !seen.insert(&*candidate.node) {
            continue;
        }
        let role = if Some(&candidate.node) == home.as_ref() { Role::Home } else { Role::Spill };
        let why_not = if twice.contains(&*candidate.node) {
            Some(Standing::Ambiguous)
        } else {
            excluded(room.assignment.as_ref(), candidate, role, home_orders)
        };
        match why_not {
            Some(reason) => table.push(row(room, candidate, role, None, reason)),
            None => asked.push((candidate, role)),
        }
    }
    for node in room.assignment.iter().flat_map(assigned) {
        if seen.insert(node) {
            let role = if Some(node) == home.as_deref() { Role::Home } else { Role::Spill };
            table.push(Row {
                node: node.to_owned(),
                role,
                rank: None,
                reason: Reason::NoLease,
                sentence: format!("{node} is assigned to the room but no such node is known; is it running?"),
            });
        }
    }
    table.sort_by(|a, b| a.node.cmp(&b.node));

    let viewers_move = demand.view_only
        && asked.iter().any(|(c, role)| *role == Role::Home && (busy(c) || believed(c).is_some()));
    let mut ranked: Vec<_> = asked
        .into_iter()
        .map(|(candidate, role)| (rank_key(room, candidate, role, viewers_move), candidate, role))
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0));

    let mut steps = Vec::with_capacity(ranked.len());
    let mut rows = Vec::with_capacity(candidates.len());
    for (rank, (_, candidate, role)) in ranked.into_iter().enumerate() {
        let reason = reason(candidate, role, viewers_move);
        rows.push(row(room, candidate, role, Some(rank), reason));
        steps.push(Step { node: candidate.node.clone(), role, reason: reason.into() });
    }
    rows.append(&mut table);

    let refusal = steps.is_empty().then(|| {
        let approved = |c: &Candidate| c.home.allowed || c.spill.allowed;
        let reason = if !candidates.iter().any(approved) {
            NoSeat::NoApprovedNode
        } else if home.is_none() {
            NoSeat::NoHome
        } else if rows.iter().any(|row| row.reason == Reason::HomeAway) {
            NoSeat::HomeAway
        } else {
            NoSeat::ApprovedUnavailable
        };
        refuse(&room.institution, reason)
    });
    Proposal { home, steps, table: rows, refusal, institution: room.institution.clone() }
}

/// Names that more than one candidate bears.
fn named_twice(candidates: &[Candidate]) -> BTreeSet<&str> {
    let mut count = BTreeMap::<&str, usize>::new();
    for candidate in candidates {
        *count.entry(&candidate.node).or_default() += 1;
    }
    count.into_iter().filter(|(_, n)| *n > 1).map(|(node, _)| node).collect()
}

fn assigned(assignment: &Assignment) -> impl Iterator<Item = &str> {
    std::iter::once(&*assignment.home).chain(assignment.spill.iter().map(|n| &**n))
}

/// The node that is to order a room that nobody orders. One that carries it already first; of the
/// others, one with a seat before one without.
fn choose_home(room: &RoomFacts, candidates: &[Candidate], twice: &BTreeSet<&str>) -> Option<String> {
    candidates
        .iter()
        .filter(|c| c.home.allowed && c.alive && !c.draining && !twice.contains(&*c.node))
        .min_by_key(|c| {
            let carries = room.assignment.as_ref().is_some_and(|a| assigned(a).any(|n| n == c.node));
            (Reverse(carries), rank_key(room, c, Role::Home, false))
        })
        .map(|c| c.node.clone())
}

/// Why a node is not asked at all. Policy first: what it denies needs no other reason.
fn excluded(
    assignment: Option<&Assignment>,
    candidate: &Candidate,
    role: Role,
    home_orders: bool,
) -> Option<Standing> {
    let in_set = assignment.is_some_and(|a| assigned(a).any(|node| node == candidate.node));
    if !verdict(candidate, role).allowed {
        Some(Standing::PolicyDenied)
    } else if !candidate.alive {
        Some(Standing::NoLease)
    } else if candidate.draining {
        Some(Standing::Draining)
    } else if role == Role::Spill && !home_orders && !in_set {
        Some(Standing::HomeAway)
    } else {
        None
    }
}

fn verdict(candidate: &Candidate, role: Role) -> &Verdict {
    match role {
        Role::Home => &candidate.home,
        Role::Spill => &candidate.spill,
    }
}

/// What a fresh report says against asking this node early.
fn believed(candidate: &Candidate) -> Option<Standing> {
    let load = &candidate.load;
    if load.age_ms > FRESH_MS {
        None
    } else if load.participants >= load.capacity {
        Some(Standing::Full)
    } else if load.cpu_permille >= HOT_PERMILLE {
        Some(Standing::Hot)
    } else {
        None
    }
}

/// Does home run short of seats, so that those who only view should leave them to others? Read
/// from a stale report as well: it harms nobody.
fn busy(candidate: &Candidate) -> bool {
    occupancy(candidate) >= VIEWERS_MOVE_PERMILLE
}

fn occupancy(candidate: &Candidate) -> u64 {
    match candidate.load.capacity {
        0 => 1_000,
        capacity => u64::from(candidate.load.participants) * 1_000 / u64::from(capacity),
    }
}

type RankKey = (bool, u8, u64, Reverse<bool>, u64, u64, String);

/// Smaller is asked earlier: believed to have a seat; home (or, for viewers, spill) first; the
/// policy's tier; nodes that carry the room already, because each more costs links and grants;
/// emptier by tenths, so that nearly equal nodes take turns; then a spread by room.
fn rank_key(room: &RoomFacts, candidate: &Candidate, role: Role, viewers_move: bool) -> RankKey {
    let rung = u8::from((role == Role::Spill) != viewers_move);
    let tier = verdict(candidate, role).tier.map_or(u64::MAX, u64::from);
    let carries = room.assignment.as_ref().is_some_and(|a| assigned(a).any(|n| n == candidate.node));
    (
        believed(candidate).is_some(),
        rung,
        tier,
        Reverse(carries),
        occupancy(candidate) / 100,
        spread(&room.institution, &room.name, &candidate.node),
        candidate.node.clone(),
    )
}

/// FNV-1a with a final mix over room and node: equal on every machine and version.
fn spread(institution: &str, room: &str, node: &str) -> u64 {
    let bytes = [institution, room, node].into_iter().flat_map(|part| part.bytes().chain([0xff]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

fn reason(candidate: &Candidate, role: Role, viewers_move: bool) -> Standing {
    match (role, believed(candidate)) {
        (Role::Home, None) => Standing::Home,
        (Role::Home, Some(Standing::Hot)) => Standing::HomeHot,
        (Role::Home, Some(_)) => Standing::HomeFull,
        (Role::Spill, Some(reason)) => reason,
        (Role::Spill, None) if viewers_move => Standing::SpillViewer,
        (Role::Spill, None) => Standing::SpillSister,
    }
}

fn row(room: &RoomFacts, candidate: &Candidate, role: Role, rank: Option<usize>, reason: Standing) -> Row {
    let node = &candidate.node;
    let institution = &room.institution;
    let verdict = verdict(candidate, role);
    let load = &candidate.load;
    let rules = match verdict.rules.as_slice() {
        [] => "no rule".to_owned(),
        rules => format!("rule {}", rules.join(", ")),
    };
    let people = format!("{} of {} people", load.participants, load.capacity);
    let age = format!("{}.{} s ago", load.age_ms / 1_000, load.age_ms % 1_000 / 100);
    let tier = verdict.tier.map_or_else(String::new, |t| format!(", tier {t}"));
    let sentence = match reason {
        Standing::Home => format!("{node} is the room's home ({rules}); {people} {age}"),
        Standing::HomeFull => {
            format!("{node} is the room's home but was full {age} ({people}); it is asked again last")
        }
        Standing::HomeHot => format!(
            "{node} is the room's home but was at {} permille CPU {age}; it is asked again last",
            load.cpu_permille
        ),
        Standing::SpillSister => {
            format!("{institution} approves {node} for spill ({rules}{tier}); {people} {age}")
        }
        Standing::SpillViewer => format!(
            "{institution} approves {node} for spill ({rules}{tier}); home is busy and this \
             participant only views; {people} {age}"
        ),
        Standing::Full => {
            format!("{node} is approved ({rules}{tier}) but was full {age} ({people}); it is asked last")
        }
        Standing::Hot => format!(
            "{node} is approved ({rules}{tier}) but was at {} permille CPU {age}; it is asked last",
            load.cpu_permille
        ),
        Standing::PolicyDenied => {
            format!("{institution} does not approve {node} for {role} ({rules}): {}", verdict.why)
        }
        Standing::NoLease => format!("{node} has no valid lease and no link to it is up; is it running?"),
        Standing::Draining => format!("{node} is draining and admits nobody new"),
        Standing::HomeAway => format!(
            "{node} is approved for spill, but the room's home is away, only home may add a node, and \
             no other node that runs may be home"
        ),
        Standing::Ambiguous => {
            format!("more than one node calls itself {node}; give each node a name of its own")
        }
    };
    Row { node: node.clone(), role, rank, reason: reason.into(), sentence }
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
