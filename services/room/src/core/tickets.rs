//! Records of other nodes: one of a participant counts only with a valid ticket.

use bytes::Bytes;
use livekit_protocol::ParticipantInfo;
use prost::Message as _;
use systir_documents::{PublicKey, Ticket, TicketRefused};
use systir_journal::DecidedAt;
use systir_policy::{Action, DecidedAction};
use systir_reason::Refusal;

use super::RoomCore;
use crate::check::check_body;
use crate::owned_records::Presence;
use crate::ticket::{SignedTicket, TicketProblem, check_info, check_place};
use crate::{ParticipantRecord, RecordState, Sid, Update};

impl RoomCore {
    /// An update of another node without the records that are too large or have no valid ticket; none when nothing is left.
    /// Each refused record is counted; what the replica holds of its participant stays.
    pub(super) fn with_valid_tickets(&mut self, node: &str, update: Update) -> Option<Update> {
        match update {
            // The replica refuses what a node writes for another one.
            Update::Participant { owner, incarnation, seq, record } if owner == node => {
                let valid = self.is_valid_record(node, &record);
                valid.then_some(Update::Participant { owner, incarnation, seq, record })
            }
            Update::Snapshot { owner, incarnation, seq, mut records } if owner == node => {
                for record in &mut records {
                    if !self.is_valid_record(node, record) {
                        record.state = RecordState::Refused;
                    }
                }
                Some(Update::Snapshot { owner, incarnation, seq, records })
            }
            other => Some(other),
        }
    }

    fn is_valid_record(&mut self, node: &str, record: &ParticipantRecord) -> bool {
        // Before it is decoded.
        if let Err(error) = check_body(record) {
            self.write_refused(node, &error);
            return false;
        }
        self.check_record(node, record).map_err(|problem| self.record_refused(node, &problem)).is_ok()
    }

    pub(super) fn record_refused(&mut self, node: &str, problem: &TicketProblem) {
        if problem.may_pass() {
            self.refused_peers.insert(node.to_owned());
        }
        self.ticket_refused(node, problem);
    }

    /// Policy, a directory or the room's record changed: opens the room again to nodes whose records were refused and may
    /// be valid now, so that they send a snapshot.
    pub(super) fn ask_again(&mut self) {
        for node in std::mem::take(&mut self.refused_peers) {
            if self.peers.get(&node).is_some_and(|peer| peer.link.is_some()) {
                self.reopen(&node);
            }
        }
    }

    pub(super) fn ticket_refused(&mut self, node: &str, problem: &TicketProblem) {
        let reason = problem.reason();
        tracing::warn!(node, reason = reason.as_str(), %problem, "a participant is refused for its ticket");
        self.config.metrics.ticket_refusals.get_or_create(&reason.into()).inc();
        let decided = DecidedAction::of_node(DecidedAt::Ticket, self.role_of_peer(node).into(), node);
        let refused = Refusal::new(reason, problem.to_string());
        self.config.authority.journal(&decided.asked_by(node), &self.id, &Err::<(), _>(refused));
    }

    fn check_record(&mut self, node: &str, record: &ParticipantRecord) -> Result<(), TicketProblem> {
        let sid = record.sid.as_str();
        let live = match &record.state {
            RecordState::Live(body) => Some(body),
            RecordState::Removed | RecordState::Refused => None,
        };
        let held = self.tickets.get(node, sid);
        if live.is_some() && held.is_some_and(|held| held.has_left()) {
            return Err(TicketProblem::Left);
        }
        match (record.ticket.as_ref(), held) {
            (Some(note), Some(held)) if held.signed.note() == note => {}
            (Some(note), _) => self.take_ticket(node, record, note.clone())?,
            (None, Some(_)) => {}
            // It ends what the replica has, if it has anything.
            (None, None) if live.is_none() && self.replica.presence(node, sid).is_some() => return Ok(()),
            (None, None) => return Err(TicketProblem::Missing),
        }
        let held = self.tickets.get(node, sid).ok_or(TicketProblem::Missing)?;
        check_participant(held.signed.ticket(), record)?;
        let Some(body) = live else { return Ok(()) };
        if held.has_expired(self.now.instant) {
            return Err(TicketRefused::Expired.into());
        }
        let (gateway, signer) = (held.signed.ticket().gateway.clone(), *held.signer.as_bytes());
        // Policy and directories may have changed since.
        if !self.gateway_keys(&gateway)?.iter().any(|key| *key.as_bytes() == signer) {
            return Err(TicketRefused::Signature.into());
        }
        let info =
            ParticipantInfo::decode(body.clone()).map_err(|_| TicketProblem::Mismatch("participant"))?;
        let held = self.tickets.get(node, sid).ok_or(TicketProblem::Missing)?;
        check_info(held.signed.ticket(), &info)
    }

    /// Verifies a ticket that this node sees for the first time.
    fn take_ticket(
        &mut self,
        node: &str,
        record: &ParticipantRecord,
        note: Bytes,
    ) -> Result<(), TicketProblem> {
        let live = matches!(record.state, RecordState::Live(_));
        self.verify_ticket(node, note, live, |ticket| check_participant(ticket, record))
    }

    /// Verifies a ticket of a participant of the node, and keeps it. `live`: the participant is in the room; the ticket of
    /// one that has left may have expired. `check` looks at what the ticket says.
    pub(super) fn verify_ticket(
        &mut self,
        node: &str,
        note: Bytes,
        live: bool,
        check: impl FnOnce(&Ticket) -> Result<(), TicketProblem>,
    ) -> Result<(), TicketProblem> {
        let now = self.now;
        let (signed, signer) = SignedTicket::verify_if(note, |ticket| {
            check_place(ticket, &self.id, |sid| self.is_room_sid(sid), node)?;
            check(ticket)?;
            if let Some(held) = self.tickets.get(node, &ticket.participant_sid) {
                if live && held.has_left() {
                    return Err(TicketProblem::Left);
                }
                if !ticket.renews(held.signed.ticket()) {
                    return Err(TicketProblem::Changed);
                }
            }
            if live {
                ticket.check_shown(now.unix_ms)?
            } else {
                ticket.check_past(now.unix_ms)?
            }
            self.gateway_keys(&ticket.gateway)
        })?;
        self.tickets.keep(node, signed, signer, now)
    }

    /// The keys of a gateway that a directory lists and this node's policy approves for the room.
    pub(super) fn gateway_keys(&mut self, gateway: &str) -> Result<Vec<PublicKey>, TicketProblem> {
        if let Some(known) = self.tickets.gateways.get(gateway) {
            return known.clone();
        }
        let authority = &self.config.authority;
        let facts = authority.facts(gateway).ok_or(TicketProblem::UnknownGateway)?;
        let decision = authority.node(Action::RelaySignal, &self.id, gateway);
        let keys = if decision.allowed {
            Ok(facts.keys.clone())
        } else {
            Err(TicketProblem::GatewayDenied { gateway: gateway.to_owned(), why: decision.why })
        };
        self.tickets.gateways.insert(gateway.to_owned(), keys.clone());
        keys
    }

    /// Participants of a node that an update may end: those that it does not list or that it removes.
    /// Of each: is it in the room now?
    pub(super) fn may_leave(&self, node: &str, update: &Update) -> Vec<(Sid, bool)> {
        let sids: Vec<Sid> = match update {
            Update::Participant { record, .. } => vec![record.sid.clone()],
            Update::Snapshot { records, .. } => {
                let removed = records.iter().filter(|record| record.state == RecordState::Removed);
                let removed = removed.map(|record| record.sid.clone());
                self.replica.present(node).cloned().chain(removed).collect()
            }
            Update::Metadata { .. } => Vec::new(),
        };
        let present =
            |sid: &Sid| matches!(self.replica.presence(node, sid), Some(Presence::Live(_) | Presence::Lost));
        sids.into_iter().map(|sid| (present(&sid), sid)).map(|(present, sid)| (sid, present)).collect()
    }

    /// After an update: the tickets of those that have left count no more, whatever their node sends later.
    pub(super) fn end_tickets(&mut self, node: &str, candidates: Vec<(Sid, bool)>) {
        for (sid, present) in candidates {
            let left = match self.replica.presence(node, &sid) {
                Some(Presence::Live(_) | Presence::Lost) => false,
                Some(Presence::Removed) => true,
                None => present,
            };
            if left {
                self.tickets.participant_left(node, &sid, self.now.instant);
            }
        }
    }

    /// The gateway of a participant of another node.
    pub(super) fn gateway_of(&self, node: &str, sid: &str) -> Option<&str> {
        Some(self.tickets.get(node, sid)?.signed.ticket().gateway.as_str())
    }
}

/// Is the ticket for the participant and the join of this record?
fn check_participant(ticket: &Ticket, record: &ParticipantRecord) -> Result<(), TicketProblem> {
    let differs = |what| Err(TicketProblem::Mismatch(what));
    match record {
        _ if ticket.participant_sid != record.sid => differs("participant sid"),
        _ if ticket.identity != record.identity => differs("identity"),
        _ if ticket.join_number != record.version.epoch => differs("join number"),
        _ => Ok(()),
    }
}
