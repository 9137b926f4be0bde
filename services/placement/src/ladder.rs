//! The ladder: home, then the other approved nodes in the policy's order, then refusal.
//!
//! A load report is a hint. A *fresh* report of a full node, or of one with high CPU use, moves it
//! to the end of the order, where it is still asked: a seat may be free by now. Asking costs one
//! round trip; a wrong refusal keeps a participant out of the meeting. A *stale* report does not
//! change the policy's order; the asked node's seat book decides in any case.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use systir_assignment::MediaRole;
use systir_reason::Reason;

use crate::input::{CarryingNodes, Demand, LoadReport, NodeCandidate, RoleDecision, RoomToPlace};
use crate::proposal::{Proposal, Row, Step};
use crate::rank_reason::RankReason;
use crate::refusal::{NoSeatReason, refuse};

/// Age up to which a load report may move a node to the end of the order, milliseconds.
pub const FRESH_MS: u64 = 2_000;
/// CPU use from which a node is asked last, thousandths.
pub const HIGH_CPU_PERMILLE: u32 = 850;
/// Occupancy of home from which view-only participants are placed on spill nodes first, thousandths.
pub const VIEWERS_SPILL_PERMILLE: u64 = 800;

/// Ranks the nodes for one join. Never proposes a node that policy denied for the role.
pub fn propose(room: &RoomToPlace, demand: &Demand, candidates: &[NodeCandidate]) -> Proposal {
    let duplicates = duplicate_names(candidates);
    let can_order = |node: &str| {
        candidates
            .iter()
            .any(|c| c.node == node && c.alive && c.home.allowed && !duplicates.contains(&*c.node))
    };
    let home = match &room.assignment {
        // A home that is offline or denied by policy is replaced by a node that can be home.
        Some(CarryingNodes { home, .. }) if !can_order(home) => {
            choose_home(room, candidates, &duplicates).or_else(|| Some(home.clone()))
        }
        Some(assignment) => Some(assignment.home.clone()),
        None => choose_home(room, candidates, &duplicates),
    };
    let home_available = home.as_deref().is_some_and(can_order);

    let mut to_ask = Vec::new();
    let mut table = Vec::new();
    let mut seen = BTreeSet::new();
    for candidate in candidates {
        if !seen.insert(&*candidate.node) {
            continue;
        }
        let role = if Some(&candidate.node) == home.as_ref() { MediaRole::Home } else { MediaRole::Spill };
        let exclusion = if duplicates.contains(&*candidate.node) {
            Some(RankReason::DuplicateName)
        } else {
            excluded(room.assignment.as_ref(), candidate, role, home_available)
        };
        match exclusion {
            Some(reason) => table.push(row(room, candidate, role, None, reason)),
            None => to_ask.push((candidate, role)),
        }
    }
    for node in room.assignment.iter().flat_map(assigned_nodes) {
        if seen.insert(node) {
            let role = if Some(node) == home.as_deref() { MediaRole::Home } else { MediaRole::Spill };
            table.push(Row {
                node: node.to_owned(),
                role,
                rank: None,
                reason: Reason::NoLease,
                sentence: format!(
                    "{node} is assigned to the room, but is not a known node; does a directory list it?"
                ),
            });
        }
    }
    table.sort_by(|a, b| a.node.cmp(&b.node));

    let viewers_spill = demand.view_only
        && to_ask
            .iter()
            .any(|(c, role)| *role == MediaRole::Home && (nearly_full(c) || full_or_high_cpu(c).is_some()));
    let mut ranked: Vec<_> = to_ask
        .into_iter()
        .map(|(candidate, role)| (rank_key(room, candidate, role, viewers_spill), candidate, role))
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0));

    let mut steps = Vec::with_capacity(ranked.len());
    let mut rows = Vec::with_capacity(candidates.len());
    for (rank, (_, candidate, role)) in ranked.into_iter().enumerate() {
        let reason = reason(candidate, role, viewers_spill);
        rows.push(row(room, candidate, role, Some(rank), reason));
        steps.push(Step { node: candidate.node.clone(), role, reason: reason.into() });
    }
    rows.append(&mut table);

    let refusal = steps.is_empty().then(|| {
        let approved = |c: &NodeCandidate| c.home.allowed || c.spill.allowed;
        let reason = if !candidates.iter().any(approved) {
            NoSeatReason::NoApprovedNode
        } else if home.is_none() {
            NoSeatReason::NoHome
        } else if rows.iter().any(|row| row.reason == Reason::HomeOffline) {
            NoSeatReason::HomeOffline
        } else {
            NoSeatReason::ApprovedUnavailable
        };
        refuse(&room.institution, reason)
    });
    Proposal { home, steps, table: rows, refusal, institution: room.institution.clone() }
}

/// Names that more than one candidate has.
fn duplicate_names(candidates: &[NodeCandidate]) -> BTreeSet<&str> {
    let mut count = BTreeMap::<&str, usize>::new();
    for candidate in candidates {
        *count.entry(&candidate.node).or_default() += 1;
    }
    count.into_iter().filter(|(_, n)| *n > 1).map(|(node, _)| node).collect()
}

fn assigned_nodes(assignment: &CarryingNodes) -> impl Iterator<Item = &str> {
    std::iter::once(&*assignment.home).chain(assignment.spill.iter().map(|n| &**n))
}

/// A home for a room that has none. Nodes that carry the room already come first, then the order of
/// [`rank_key`].
fn choose_home(
    room: &RoomToPlace,
    candidates: &[NodeCandidate],
    duplicates: &BTreeSet<&str>,
) -> Option<String> {
    candidates
        .iter()
        .filter(|c| c.home.allowed && c.alive && !c.draining && !duplicates.contains(&*c.node))
        .min_by_key(|c| {
            let carries = room.assignment.as_ref().is_some_and(|a| assigned_nodes(a).any(|n| n == c.node));
            (Reverse(carries), rank_key(room, c, MediaRole::Home, false))
        })
        .map(|c| c.node.clone())
}

/// Why a node is not asked at all. Policy is checked first: for a denied node no other reason is given.
fn excluded(
    assignment: Option<&CarryingNodes>,
    candidate: &NodeCandidate,
    role: MediaRole,
    home_available: bool,
) -> Option<RankReason> {
    let in_set = assignment.is_some_and(|a| assigned_nodes(a).any(|node| node == candidate.node));
    if !decision_for(candidate, role).allowed {
        Some(RankReason::PolicyDenied)
    } else if !candidate.alive {
        Some(RankReason::NoLease)
    } else if candidate.draining {
        Some(RankReason::Draining)
    } else if role == MediaRole::Spill && !home_available && !in_set {
        Some(RankReason::HomeOffline)
    } else {
        None
    }
}

fn decision_for(candidate: &NodeCandidate, role: MediaRole) -> &RoleDecision {
    match role {
        MediaRole::Home => &candidate.home,
        MediaRole::Spill => &candidate.spill,
    }
}

/// The reason to ask this node last, if its report is fresh and it is full or its CPU use is high.
fn full_or_high_cpu(candidate: &NodeCandidate) -> Option<RankReason> {
    let load = &candidate.load;
    if load.age_ms > FRESH_MS {
        None
    } else if load.participants >= load.capacity {
        Some(RankReason::Full)
    } else if load.cpu_permille >= HIGH_CPU_PERMILLE {
        Some(RankReason::HighCpu)
    } else {
        None
    }
}

/// Is home short of seats, so that view-only participants are placed elsewhere first? A stale report
/// counts as well: it can only change the order.
fn nearly_full(candidate: &NodeCandidate) -> bool {
    occupancy(candidate) >= VIEWERS_SPILL_PERMILLE
}

fn occupancy(candidate: &NodeCandidate) -> u64 {
    match candidate.load.capacity {
        0 => 1_000,
        capacity => u64::from(candidate.load.participants) * 1_000 / u64::from(capacity),
    }
}

type RankKey = (bool, u8, u64, Reverse<bool>, u64, u64, String);

/// The smallest key is asked first. In this order: not reported full or with high CPU use; home (for viewers:
/// spill) first; the policy's tier; nodes that carry the room already, because each further node
/// costs links; lower occupancy in steps of a tenth, so that rooms spread over nearly equal nodes;
/// a hash of room and node.
fn rank_key(room: &RoomToPlace, candidate: &NodeCandidate, role: MediaRole, viewers_spill: bool) -> RankKey {
    let role_rank = u8::from((role == MediaRole::Spill) != viewers_spill);
    let tier = decision_for(candidate, role).tier.map_or(u64::MAX, u64::from);
    let carries = room.assignment.as_ref().is_some_and(|a| assigned_nodes(a).any(|n| n == candidate.node));
    (
        full_or_high_cpu(candidate).is_some(),
        role_rank,
        tier,
        Reverse(carries),
        occupancy(candidate) / 100,
        spread(&room.institution, &room.tag, &candidate.node),
        candidate.node.clone(),
    )
}

/// FNV-1a with a final mix over room and node: the same on every machine and version.
fn spread(institution: &str, room: &str, node: &str) -> u64 {
    let bytes = [institution, room, node].into_iter().flat_map(|part| part.bytes().chain([0xff]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

fn reason(candidate: &NodeCandidate, role: MediaRole, viewers_spill: bool) -> RankReason {
    match (role, full_or_high_cpu(candidate)) {
        (MediaRole::Home, None) => RankReason::Home,
        (MediaRole::Home, Some(RankReason::HighCpu)) => RankReason::HomeHighCpu,
        (MediaRole::Home, Some(_)) => RankReason::HomeFull,
        (MediaRole::Spill, Some(reason)) => reason,
        (MediaRole::Spill, None) if viewers_spill => RankReason::SpillViewer,
        (MediaRole::Spill, None) => RankReason::SpillApproved,
    }
}

fn row(
    room: &RoomToPlace,
    candidate: &NodeCandidate,
    role: MediaRole,
    rank: Option<usize>,
    reason: RankReason,
) -> Row {
    let node = &candidate.node;
    let institution = &room.institution;
    let decision = decision_for(candidate, role);
    let load = &candidate.load;
    let rules = match decision.rules.as_slice() {
        [] => "no rule".to_owned(),
        rules => format!("rule {}", rules.join(", ")),
    };
    let (seats, age) = if *load == LoadReport::UNKNOWN {
        ("its seats are not known".to_owned(), "never".to_owned())
    } else {
        (
            format!("{} of {} seats used", load.participants, load.capacity),
            format!("{}.{} s ago", load.age_ms / 1_000, load.age_ms % 1_000 / 100),
        )
    };
    let tier = decision.tier.map_or_else(String::new, |t| format!(", tier {t}"));
    let sentence = match reason {
        RankReason::Home => format!("{node} is the room's home ({rules}); {seats}, reported {age}"),
        RankReason::HomeFull => {
            format!("{node} is the room's home but was full {age} ({seats}); it is asked last")
        }
        RankReason::HomeHighCpu => format!(
            "{node} is the room's home but was at {} % CPU {age}; it is asked last",
            load.cpu_permille / 10
        ),
        RankReason::SpillApproved => {
            format!("{institution} approves {node} for spill ({rules}{tier}); {seats}, reported {age}")
        }
        RankReason::SpillViewer => format!(
            "{institution} approves {node} for spill ({rules}{tier}); home is nearly full \
             and this participant only views; {seats}, reported {age}"
        ),
        RankReason::Full => {
            format!("{node} is approved ({rules}{tier}) but was full {age} ({seats}); it is asked last")
        }
        RankReason::HighCpu => format!(
            "{node} is approved ({rules}{tier}) but was at {} % CPU {age}; it is asked last",
            load.cpu_permille / 10
        ),
        RankReason::PolicyDenied => {
            format!("{institution} does not approve {node} for {role} ({rules}): {}", decision.why)
        }
        RankReason::NoLease => format!("{node} has no valid lease and no link to it is up; is it running?"),
        RankReason::Draining => format!("{node} is draining and admits no new participants"),
        RankReason::HomeOffline => format!(
            "{node} is approved for spill, but the room's home is offline, only home may add a node, and \
             no other running node may be home"
        ),
        RankReason::DuplicateName => {
            format!("more than one node is called {node}; give each node its own name")
        }
    };
    Row { node: node.clone(), role, rank, reason: reason.into(), sentence }
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
