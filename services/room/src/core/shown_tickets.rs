//! Who gets the room's state and media: the home, by the grant, and each node that carries a participant of the room. A
//! spill node proves that by a ticket: it shows one when the room opens on a link, and when its first participant arrives.
//! Without one, an approved node could read rooms of which nobody is on it. When its last participant has left, it says
//! that too, forgets what it knows of the others, and gets a snapshot again with the next ticket. A node that does not say
//! it gets the room until the tickets that it showed have ended.

use std::collections::BTreeMap;

use bytes::Bytes;
use systir_assignment::MediaRole;
use systir_proto::cluster::v1::room_message::Body;

use super::RoomCore;
use crate::ticket::SignedTicket;

/// Most tickets that are shown when the room opens on a link.
const MAX_SHOWN: usize = 8;

/// Does the message tell something of participants on this node?
pub(super) fn is_state(body: &Body) -> bool {
    matches!(
        body,
        Body::StateUpdate(_)
            | Body::ReliableData(_)
            | Body::LossyData(_)
            | Body::Speakers(_)
            | Body::SlowData(_)
            | Body::Qualities(_)
    )
}

impl RoomCore {
    /// The room opened on the link to a node: shows it the newest ticket by each gateway, because it may not approve all of
    /// them, or says that there is none. The home shows none: it has the state by the grant, and must tell nothing to a node
    /// that carries nobody.
    pub(super) fn show_tickets(&mut self, node: &str) {
        if self.is_home() {
            return;
        }
        let mut newest: BTreeMap<&str, &SignedTicket> = BTreeMap::new();
        for local in self.local_participants.values() {
            let held = newest.entry(&local.gateway).or_insert(&local.ticket);
            if held.ticket().issued_ms < local.ticket.ticket().issued_ms {
                *held = &local.ticket;
            }
        }
        let mut notes: Vec<Bytes> = newest.values().take(MAX_SHOWN).map(|held| held.note().clone()).collect();
        if notes.is_empty() {
            notes.push(Bytes::new());
        }
        for note in notes {
            self.send_to_peer(node, Body::Ticket(note));
        }
    }

    /// A participant arrived here, or its ticket was renewed: shows it to the nodes that may not know of a valid one. For
    /// the first participant these are all; later they are those of which this node knows none either, so that each of two
    /// nodes that refused the other's tickets sees further ones.
    pub(super) fn show_ticket(&mut self, note: &Bytes) {
        if self.is_home() {
            return;
        }
        let first = self.local_participants.len() == 1;
        let unsure = self.peers.iter().filter(|(_, peer)| first || !peer.gets_state);
        let nodes: Vec<String> = unsure.map(|(node, _)| node.clone()).collect();
        for node in nodes {
            self.send_to_peer(&node, Body::Ticket(note.clone()));
        }
    }

    /// The last participant has left, or this node, which carries nobody, is home no more: tells all nodes, and forgets
    /// the participants of others, of whom it hears no more.
    pub(super) fn carries_nobody(&mut self) {
        if self.is_home() {
            return;
        }
        self.send_to_peers(&Body::Ticket(Bytes::new()));
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.remove_node(&node);
        }
    }

    /// A node shows the ticket of a participant that it carries; an empty one when it carries nobody any more.
    pub(super) fn ticket_shown(&mut self, node: &str, note: Bytes) {
        if note.is_empty() {
            self.tickets.all_left(node, self.now.instant);
            if self.replica.has_participants_of(node) {
                self.remove_node(node);
            }
            return self.withhold_state(node, false);
        }
        // The node has the state already, or the room is not open to it: no signature is verified.
        if self.peers.get(node).is_none_or(|peer| peer.link.is_none() || peer.gets_state) {
            return;
        }
        match self.verify_ticket(node, note, true, |_| Ok(())) {
            Ok(()) => self.give_state_by_ticket(node),
            Err(problem) => self.record_refused(node, &problem),
        }
    }

    fn may_have_state(&self, node: &str) -> bool {
        self.role_of_peer(node) == MediaRole::Home || self.tickets.has_valid(node, self.now.instant)
    }

    /// A node showed a ticket: gives it the room. Not by its role, which is looked at when the room opens and once a second,
    /// so that no node can ask for one snapshot after the other.
    pub(super) fn give_state_by_ticket(&mut self, node: &str) {
        if self.tickets.has_valid(node, self.now.instant) {
            self.give_state(node);
        }
    }

    /// Sends a node the state of the local participants, if it may have it now and does not have it yet.
    pub(super) fn give_state(&mut self, node: &str) {
        if self.peers.get(node).is_none_or(|peer| peer.link.is_none() || peer.gets_state)
            || !self.may_have_state(node)
        {
            return;
        }
        let Some(peer) = self.peers.get_mut(node) else { return };
        if peer.feeds_lost {
            // The node subscribes again only after the room was opened again.
            return self.reopen(node);
        }
        peer.gets_state = true;
        self.send_snapshot(node);
        self.give_qualities(node);
    }

    /// Tickets ended, or the home changed: decides again which nodes get the room's state and media.
    pub(super) fn review_who_gets_state(&mut self) {
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        for node in nodes {
            if !self.may_have_state(&node) && self.peers.get(&node).is_some_and(|peer| peer.gets_state) {
                tracing::debug!(node, "a node that shows no valid ticket gets no more of the room");
                self.withhold_state(&node, true);
            } else {
                self.give_state(&node);
            }
        }
    }

    fn withhold_state(&mut self, node: &str, feeds_lost: bool) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.feeds_lost = feeds_lost;
        // Without the state it has no subscriptions.
        if std::mem::replace(&mut peer.gets_state, false)
            && let Some(link) = peer.link
        {
            self.stop_feeds(link);
        }
    }
}
