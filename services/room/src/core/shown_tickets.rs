//! Who gets the room's state and media: the home, by the grant, and each node that carries a participant of the room. A
//! spill node proves that by a ticket: it shows one when the room opens on a link, and when its first participant arrives.
//! Without one, an approved node could read rooms of which nobody is on it. When its last participant has left, it says
//! that too, forgets what it knows of the others, and gets a snapshot again with the next ticket. A node that does not say
//! it gets the room until the tickets that it showed have ended.

use bytes::Bytes;
use systir_assignment::MediaRole;
use systir_proto::cluster::v1::room_message::Body;

use super::RoomCore;
use crate::ticket::{SignedTicket, TicketProblem, check_place};

/// Does the message tell something of participants on this node?
pub(super) fn is_state(body: &Body) -> bool {
    matches!(body, Body::StateUpdate(_) | Body::ReliableData(_) | Body::LossyData(_) | Body::Speakers(_))
}

impl RoomCore {
    /// Shows a node the newest ticket of a local participant, if there is one. The home shows none: it has the state by the
    /// grant, and must tell nothing to a node that carries nobody.
    pub(super) fn show_ticket(&mut self, node: &str) {
        if self.is_home() {
            return;
        }
        let newest = self.local_participants.values().max_by_key(|local| local.ticket.ticket().issued_ms);
        let Some(note) = newest.map(|local| local.ticket.note().clone()) else { return };
        self.send_to_peer(node, Body::Ticket(note));
    }

    /// The first participant arrived here: shows its ticket to all nodes.
    pub(super) fn show_ticket_to_all(&mut self) {
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.show_ticket(&node);
        }
    }

    /// The last participant left, here or with the role of the home: tells all nodes, and forgets the participants of
    /// others, of whom this node hears no more.
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
            self.remove_node(node);
            return self.withhold_state(node, false);
        }
        // Nothing depends on it; a flood of them costs no signature.
        if self.peers.get(node).is_none_or(|peer| peer.link.is_none() || peer.gets_state) {
            return;
        }
        match self.check_shown(node, note) {
            Ok(()) => self.give_state(node),
            Err(problem) => self.record_refused(node, &problem),
        }
    }

    fn check_shown(&mut self, node: &str, note: Bytes) -> Result<(), TicketProblem> {
        let now = self.now;
        let (signed, signer) = SignedTicket::verify_if(note, |ticket| {
            check_place(ticket, &self.id, |sid| self.room_sids.iter().any(|known| known == sid), node)?;
            if let Some(held) = self.tickets.get(node, &ticket.participant_sid) {
                if held.has_left() {
                    return Err(TicketProblem::Left);
                }
                if !ticket.renews(held.signed.ticket()) {
                    return Err(TicketProblem::Changed);
                }
            }
            ticket.check_time(now.unix_ms)?;
            self.gateway_keys(&ticket.gateway)
        })?;
        self.tickets.keep(node, signed, signer, now)
    }

    fn may_have_state(&self, node: &str) -> bool {
        self.role_of_peer(node) == MediaRole::Home || self.tickets.has_valid(node, self.now.instant)
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
    }

    /// Tickets ended, or the home changed: decides again which nodes get the room's state and media.
    pub(super) fn review_who_gets_state(&mut self) {
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.give_state(&node);
            let may_have = self.may_have_state(&node);
            if may_have || self.peers.get(&node).is_none_or(|peer| !peer.gets_state) {
                continue;
            }
            tracing::debug!(node, "a node that shows no valid ticket gets no more of the room");
            self.withhold_state(&node, true);
        }
    }

    fn withhold_state(&mut self, node: &str, feeds_lost: bool) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        (peer.gets_state, peer.feeds_lost) = (false, feeds_lost);
        if let Some(link) = peer.link {
            self.stop_feeds(link);
        }
    }
}
