//! The verified tickets of participants on other nodes, and this node's decisions about their gateways.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use systir_documents::{MAX_TICKET_LIFE_MS, PublicKey, TICKET_CLOCK_MS, Ticket};

use crate::limits::MAX_PARTICIPANTS;
use crate::ticket::{SignedTicket, TicketProblem};
use crate::{NodeName, Now, Sid};

/// Most tickets held for one media node: of all its participants, and of as many that have left.
const MAX_HELD: usize = 10 * MAX_PARTICIPANTS;

/// How long a participant that left is remembered. A ticket that was issued before it left, by a clock that counts, has
/// expired by then.
const REMEMBERED: Duration = Duration::from_millis(MAX_TICKET_LIFE_MS + TICKET_CLOCK_MS);

/// A verified ticket.
#[derive(Debug)]
pub(super) struct HeldTicket {
    pub(super) signed: SignedTicket,
    /// The key that signed it.
    pub(super) signer: PublicKey,
    /// When it expires. The wall clock counts at first sight only: it may be set later.
    pub(super) ends: Instant,
    /// The participant has left; until when that is remembered.
    left_until: Option<Instant>,
}

impl HeldTicket {
    pub(super) fn has_left(&self) -> bool {
        self.left_until.is_some()
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.ends <= now
    }
}

/// When a ticket that is seen now expires.
pub(super) fn end_of(ticket: &Ticket, now: Now) -> Instant {
    let left = Duration::from_millis(ticket.not_after_ms.saturating_sub(now.unix_ms));
    now.instant + left.min(REMEMBERED)
}

/// The tickets of other nodes' participants, by media node and participant sid.
#[derive(Debug, Default)]
pub(super) struct TicketBook {
    held: BTreeMap<NodeName, FxHashMap<Sid, HeldTicket>>,
    /// The keys of gateways that policy approves, and why it denies others. Directories bound the number.
    pub(super) gateways: BTreeMap<NodeName, Result<Vec<PublicKey>, TicketProblem>>,
    /// When tickets are next searched for expired ones.
    pub(super) next_search: Option<Instant>,
}

impl TicketBook {
    pub(super) fn get(&self, node: &str, sid: &str) -> Option<&HeldTicket> {
        self.held.get(node)?.get(sid)
    }

    /// All tickets, with their media nodes.
    pub(super) fn all(&self) -> impl Iterator<Item = (&NodeName, &HeldTicket)> {
        self.held.iter().flat_map(|(node, held)| held.values().map(move |one| (node, one)))
    }

    /// Does the node carry a participant, as far as its tickets tell: does one of them count now?
    pub(super) fn has_valid(&self, node: &str, now: Instant) -> bool {
        let gateways = &self.gateways;
        let by_gateway = |held: &HeldTicket| {
            let keys = gateways.get(&held.signed.ticket().gateway);
            keys.is_some_and(|keys| keys.as_ref().is_ok_and(|keys| keys.contains(&held.signer)))
        };
        let mut held = self.held.get(node).into_iter().flat_map(FxHashMap::values);
        held.any(|held| !held.has_left() && !held.has_expired(now) && by_gateway(held))
    }

    /// Keeps a ticket in place of an older one of the participant. An older one than that is not kept.
    pub(super) fn keep(
        &mut self,
        node: &str,
        signed: SignedTicket,
        signer: PublicKey,
        now: Now,
    ) -> Result<(), TicketProblem> {
        let held = self.held.entry(node.to_owned()).or_default();
        let sid = &signed.ticket().participant_sid;
        let known = held.get(sid);
        if known.is_none() && held.len() >= MAX_HELD {
            return Err(TicketProblem::TooMany);
        }
        if known.is_some_and(|known| known.signed.ticket().issued_ms > signed.ticket().issued_ms) {
            return Ok(());
        }
        let left_until = known.and_then(|known| known.left_until);
        let ends = end_of(signed.ticket(), now);
        held.insert(sid.clone(), HeldTicket { signed, signer, ends, left_until });
        Ok(())
    }

    /// The participant has left: its tickets count no more.
    pub(super) fn participant_left(&mut self, node: &str, sid: &str, now: Instant) {
        if let Some(held) = self.held.get_mut(node).and_then(|held| held.get_mut(sid)) {
            held.left_until.get_or_insert(now + REMEMBERED);
        }
    }

    /// The node carries no participant any more.
    pub(super) fn all_left(&mut self, node: &str, now: Instant) {
        for held in self.held.get_mut(node).into_iter().flat_map(FxHashMap::values_mut) {
            held.left_until.get_or_insert(now + REMEMBERED);
        }
    }

    /// Drops the tickets of participants that left long ago, and expired ones of participants that the replica does not
    /// have.
    pub(super) fn drop_old(&mut self, now: Instant, has: impl Fn(&str, &str) -> bool) {
        for (node, held) in &mut self.held {
            held.retain(|sid, one| match one.left_until {
                Some(until) => now < until,
                None => !one.has_expired(now) || has(node, sid),
            });
        }
        self.held.retain(|_, held| !held.is_empty());
    }
}
