//! The life of tickets: a participant arrives with one, its gateway renews it, and it leaves at its end.

use std::time::Duration;

use bytes::Bytes;
use livekit_protocol::DisconnectReason;
use systir_documents::{Ticket, TicketRefused};
use systir_livekit::RoomEvent;
use systir_media_control::ParticipantKey;

use super::RoomCore;
use super::ticket_book::end_of;
use crate::owned_records::Presence;
use crate::ticket::{SignedTicket, TicketProblem, check_grants, check_place};
use crate::{Arrival, RoomEffect, Sid};

/// How often expired tickets are searched.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// Most room sids that are remembered. A room has another one after its record was lost and written anew.
const MAX_ROOM_SIDS: usize = 4;

impl RoomCore {
    /// Remembers the room's sid, which tickets name.
    pub(super) fn remember_room_sid(&mut self) {
        let sid = &self.assignment.sid;
        if !self.room_sids.contains(sid) {
            self.room_sids.truncate(MAX_ROOM_SIDS - 1);
            self.room_sids.insert(0, sid.clone());
            self.ask_again();
        }
    }

    /// Is this a sid of the room that its tickets may name?
    pub(super) fn is_room_sid(&self, sid: &str) -> bool {
        self.room_sids.iter().any(|known| known == sid)
    }

    /// May the participant be added with its ticket? Its signature was verified before.
    pub(super) fn check_arrival(&self, arrival: &Arrival) -> Result<(), TicketProblem> {
        let ticket = arrival.ticket.ticket();
        check_place(ticket, &self.id, |sid| self.is_room_sid(sid), &self.config.node)?;
        check_grants(ticket, &arrival.grants)?;
        let sid = ticket.participant_sid.as_str();
        if self.local_by_sid(sid).is_some() || self.replica.knows(sid) {
            return Err(TicketProblem::Used);
        }
        Ok(())
    }

    /// A participant arrived whose ticket does not allow it: its signalling ends, and its client joins again.
    pub(super) fn refuse_arrival(&mut self, arrival: Arrival, problem: &TicketProblem) {
        let gateway = arrival.ticket.ticket().gateway.clone();
        self.ticket_refused(&gateway, problem);
        let Arrival { participant, join_id, .. } = arrival;
        self.effects.push_back(RoomEffect::Left { participant, join_id });
    }

    /// The gateway of a local participant sent a renewed ticket.
    pub(super) fn renew_ticket(&mut self, participant: ParticipantKey, note: Bytes) {
        let now = self.now;
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        if !local.renewals.is_ready(now.instant) {
            tracing::debug!("a renewed ticket is ignored: the gateway sends them too often");
            return;
        }
        local.renewals.take(1, now.instant);
        let known = local.ticket.clone();
        let renewed = SignedTicket::verify_if(note, |ticket| {
            if !ticket.renews(known.ticket()) {
                return Err(TicketProblem::Changed);
            }
            ticket.check_time(now.unix_ms)?;
            self.gateway_keys(&ticket.gateway)
        });
        let renewed = match renewed {
            Ok((renewed, _)) => renewed,
            Err(problem) => return self.ticket_refused(&known.ticket().gateway, &problem),
        };
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        if renewed.ticket().issued_ms <= known.ticket().issued_ms {
            return;
        }
        local.ticket_ends = end_of(renewed.ticket(), now);
        let note = renewed.note().clone();
        local.ticket = renewed;
        // The first write has the newest ticket anyway.
        local.ticket_unsent = local.known;
        local.unsent |= local.known;
        self.send_own_state(participant);
        self.show_ticket(&note);
    }

    /// Spill nodes only: this node follows another room of that name now, after its home made it anew. Participants of the
    /// room before, whose tickets other nodes may never accept, must join again.
    pub(super) fn leave_former_room(&mut self) {
        if self.is_home() {
            return;
        }
        let sid = self.assignment.sid.clone();
        let former =
            self.local_participants.iter().filter(|(_, local)| local.ticket.ticket().room_sid != sid);
        let former: Vec<ParticipantKey> = former.map(|(key, _)| *key).collect();
        for participant in former {
            self.notify(participant, RoomEvent::Reconnect(DisconnectReason::StateMismatch));
        }
    }

    /// Participants whose tickets were not renewed: those of other nodes are lost, as when their node is lost; local ones
    /// must join again.
    pub(super) fn end_expired_tickets(&mut self) {
        let now = self.now.instant;
        if self.tickets.next_search.is_some_and(|at| now < at) {
            return;
        }
        self.tickets.next_search = Some(now + SEARCH_INTERVAL);
        let expired = self.tickets.all().filter(|(_, held)| held.has_expired(now) && !held.has_left());
        let expired: Vec<(String, Sid)> = expired
            .map(|(node, held)| (node.clone(), held.signed.ticket().participant_sid.clone()))
            .collect();
        for (node, sid) in expired {
            self.lose_participant(&node, &sid, &TicketRefused::Expired.into());
        }
        let replica = &self.replica;
        self.tickets.drop_old(now, |node, sid| {
            matches!(replica.presence(node, sid), Some(Presence::Live(_) | Presence::Lost))
        });
        self.review_who_gets_state();
        let local: Vec<ParticipantKey> = self
            .local_participants
            .iter()
            .filter(|(_, local)| local.ticket_ends <= now)
            .map(|(key, _)| *key)
            .collect();
        for participant in local {
            let node = self.config.node.clone();
            self.ticket_refused(&node, &TicketRefused::Expired.into());
            self.notify(participant, RoomEvent::Reconnect(DisconnectReason::StateMismatch));
        }
    }

    /// This node's policy was replaced: participants of other nodes whose gateway it does not approve any more, or whose
    /// gateway's key no directory lists any more, are lost.
    pub(super) fn decide_on_tickets(&mut self) {
        self.tickets.gateways.clear();
        self.ask_again();
        let held: Vec<(String, Sid, String, [u8; 32])> = self
            .tickets
            .all()
            .filter(|(_, held)| !held.has_left())
            .map(|(node, held)| {
                let Ticket { participant_sid, gateway, .. } = held.signed.ticket();
                (node.clone(), participant_sid.clone(), gateway.clone(), *held.signer.as_bytes())
            })
            .collect();
        for (node, sid, gateway, signer) in held {
            let problem = match self.gateway_keys(&gateway) {
                Ok(keys) if keys.iter().any(|key| *key.as_bytes() == signer) => continue,
                Ok(_) => TicketRefused::Signature.into(),
                Err(problem) => problem,
            };
            self.refused_peers.insert(node.clone());
            self.lose_participant(&node, &sid, &problem);
        }
    }

    fn lose_participant(&mut self, node: &str, sid: &str, problem: &TicketProblem) {
        if !matches!(self.replica.presence(node, sid), Some(Presence::Live(_))) {
            return;
        }
        self.ticket_refused(node, problem);
        let changes = self.replica.lose_participant(node, sid);
        self.notify_changes(changes);
        self.residency_changed();
    }
}
