//! Local participants: their arrival, their sessions, the replication of their state, their departure.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol::{self as proto, DisconnectReason, SignalRequest, SignalResponse};
use prost::Message as _;
use rand::RngExt as _;
use systir_livekit::rate_limit::RateLimiter;
use systir_livekit::{
    LeaveReason, Limits, MediaDescription, MediaEvent, Output, RoomEvent, ServerFacts, Session, SessionConfig,
};
use systir_media_control::{ParticipantKey, Side, TrackKey, WorkerCommand, ice};
use systir_policy::{NodeFacts, ParticipantRoles};
use systir_rtp::packet::Codec;

use super::RoomCore;
use super::local_participant::LocalParticipant;
use super::participants::is_hidden;
use super::ticket_book::end_of;
use super::tracks::TrackEntry;
use crate::{Arrival, LocalError, MergeError, RoomEffect};

/// Burst of changes of one participant that are sent at once: a join with its tracks, and some mutes.
const CHANGES_AT_ONCE: u32 = 8;
/// After the burst, the newest state is sent once per this interval, however often it changes.
const CHANGE_INTERVAL: Duration = Duration::from_millis(50);
/// Each of these many bytes of state counts as one more change.
const CHANGE_BYTES: usize = 4096;
/// Burst of renewed tickets of one participant that are verified.
const RENEWALS_AT_ONCE: u32 = 2;
/// After the burst, one renewed ticket is verified per this interval.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

impl RoomCore {
    /// Adds a local participant and starts its session.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let _entered = arrival.span.clone().entered();
        if let Err(problem) = self.check_arrival(&arrival) {
            return self.refuse_arrival(arrival, &problem);
        }
        let Arrival { participant, join_id, grants, client, auto_subscribe, ticket, span } = arrival;
        let now = self.now.instant;
        let (sid, gateway) = (ticket.ticket().participant_sid.clone(), ticket.ticket().gateway.clone());
        let node = self.config.node.clone();
        let worker = self.config.worker_index;
        let publisher = ice::credentials(&mut self.rng, &node, worker);
        let subscriber = ice::credentials(&mut self.rng, &node, worker);
        let seed = self.rng.random();
        let facts = self.config.authority.facts(&node);
        let text = |pick: fn(&NodeFacts) -> &String| facts.as_deref().map(pick).cloned().unwrap_or_default();
        let (region, country) = (text(|facts| &facts.region), text(|facts| &facts.country));
        let (identity, institution) = (grants.identity.clone(), grants.institution.clone());
        let roles =
            ParticipantRoles { hidden: grants.hidden, recorder: grants.recorder, guest: grants.guest };
        let config = SessionConfig {
            participant,
            sid: sid.clone(),
            room_key: self.config.key,
            room: self.room_info(),
            grants,
            client,
            server: ServerFacts {
                version: ServerFacts::VERSION.to_owned(),
                region: region.clone(),
                node_id: node.clone(),
            },
            media: MediaDescription {
                candidates: self.config.candidates.clone(),
                fingerprint: self.config.fingerprint,
                publisher,
                subscriber,
            },
            ice_servers: Vec::new(),
            auto_subscribe,
            codecs: vec![Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1],
            encrypted_only: self.attributes.e2ee,
            red: false,
            attributes: vec![
                ("systir.node".to_owned(), node),
                ("systir.region".to_owned(), region),
                ("systir.country".to_owned(), country),
                ("systir.gateway".to_owned(), gateway.clone()),
            ],
            version: 0,
            others: self.all_but(&sid),
            limits: Limits::default(),
            keys: self.config.keys.clone(),
            seed,
            wall: self.now.wall(),
            now,
        };
        let local = LocalParticipant {
            session: Session::new(config),
            sid,
            identity,
            institution,
            roles,
            join_id,
            gateway,
            info: None,
            known: false,
            unsent: false,
            too_much: false,
            updates: RateLimiter::new(CHANGES_AT_ONCE, CHANGE_INTERVAL, now),
            ticket_ends: end_of(ticket.ticket(), self.now),
            ticket,
            ticket_unsent: false,
            renewals: RateLimiter::new(RENEWALS_AT_ONCE, RENEWAL_INTERVAL, now),
            quality: None,
            joining: Some(span),
        };
        let note = local.ticket.note().clone();
        let qualities = self.known_qualities();
        self.local_participants.insert(participant, local);
        for quality in qualities {
            self.notify(participant, RoomEvent::Quality(quality));
        }
        self.show_ticket(&note);
        self.config.metrics.participants.inc();
        self.drain(participant);
        self.residency_changed();
        // Policy may deny the participant, its gateway or this node's role since the seat was reserved.
        self.enforce_on_participants(&[participant]);
        self.sync_peers();
    }

    pub(super) fn request(&mut self, participant: ParticipantKey, request: SignalRequest) {
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        local.session.handle(request, self.now.instant);
        self.drain(participant);
    }

    /// A client's signalling ended. Its participant is removed and can return only by joining again.
    pub(super) fn signal_closed(&mut self, participant: ParticipantKey) {
        self.notify(participant, RoomEvent::Remove(DisconnectReason::SignalClose));
    }

    pub(super) fn connected(&mut self, participant: ParticipantKey, side: Side) {
        self.media_event(participant, MediaEvent::Connected(side));
        if side == Side::Subscriber {
            // The data channel exists now.
            self.send_residency_to(participant);
        }
    }

    pub(super) fn transport_closed(&mut self, participant: ParticipantKey, side: Side, reason: &str) {
        tracing::debug!(?side, reason, "a participant's connection closed");
        self.media_event(participant, MediaEvent::Closed(side));
    }

    pub(super) fn media_event(&mut self, participant: ParticipantKey, event: MediaEvent) {
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        local.session.media_event(event, self.now.instant);
        self.drain(participant);
    }

    pub(super) fn tick_participant(&mut self, participant: ParticipantKey) {
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        local.session.tick(self.now.instant);
        self.drain(participant);
        self.send_own_state(participant);
    }

    /// Passes an event to the session of one local participant.
    pub(super) fn notify(&mut self, participant: ParticipantKey, event: RoomEvent) {
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        local.session.room_event(event, self.now.instant);
        self.drain(participant);
    }

    /// Passes an event to the sessions of all local participants but one.
    pub(super) fn notify_all_but(&mut self, but: Option<ParticipantKey>, event: &RoomEvent) {
        let all: Vec<ParticipantKey> =
            self.local_participants.keys().copied().filter(|key| Some(*key) != but).collect();
        for participant in all {
            self.notify(participant, event.clone());
        }
    }

    pub(super) fn local_by_sid(&self, sid: &str) -> Option<ParticipantKey> {
        self.local_participants.iter().find(|(_, local)| local.sid == sid).map(|(key, _)| *key)
    }

    /// Does all outputs of a session.
    pub(super) fn drain(&mut self, participant: ParticipantKey) {
        while let Some(output) =
            self.local_participants.get_mut(&participant).and_then(|local| local.session.poll_output())
        {
            match output {
                Output::Signal(response) => self.respond(participant, *response),
                Output::Media(command) => self.command(command),
                Output::Own(info) => self.own_state_changed(participant, *info),
                Output::Published { sid, key, spec } => {
                    let publisher = self
                        .local_participants
                        .get(&participant)
                        .map(|local| local.sid.clone())
                        .unwrap_or_default();
                    let node = self.config.node.clone();
                    self.tracks.insert(TrackEntry {
                        key,
                        sid,
                        publisher,
                        node,
                        spec,
                        flows: None,
                        wanted: Default::default(),
                    });
                }
                Output::Unpublished { key, .. } => {
                    self.tracks.remove(key);
                }
                Output::Subscribed { key, .. } => self.track_has_subscriber(key),
                Output::Unsubscribed { .. } => {}
                Output::Data { channel, packet, destinations } => {
                    self.send_data(participant, channel, &packet, &destinations);
                }
                Output::Left { reason } => {
                    self.left(participant, reason);
                    return;
                }
            }
        }
    }

    fn respond(&mut self, participant: ParticipantKey, response: SignalResponse) {
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        if matches!(response.message, Some(proto::signal_response::Message::Join(_)))
            && let Some(span) = local.joining.take()
        {
            span.record("outcome", "joined");
            tracing::info!(parent: &span, node = self.config.node, "a participant joined");
        }
        self.effects.push_back(RoomEffect::Signal { participant, response: Box::new(response) });
    }

    /// Ends the sessions of clients that do not read their signalling.
    pub(super) fn remove_unread(&mut self) {
        for participant in std::mem::take(&mut self.unread) {
            tracing::info!("a participant is removed: its client does not read its signalling");
            self.notify(participant, RoomEvent::Remove(DisconnectReason::SignalClose));
        }
    }

    /// A local participant's state changed. It is sent to the others within the rate limit.
    fn own_state_changed(&mut self, participant: ParticipantKey, info: proto::ParticipantInfo) {
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        // A departure is sent by `left`.
        local.unsent = info.state != proto::participant_info::State::Disconnected as i32;
        local.info = Some(info);
        self.send_own_state(participant);
    }

    /// Writes a local participant's newest state and sends it to the other nodes, unless the rate limiter
    /// delays it. Rapid changes of one participant thus cost the others a fixed rate.
    pub(super) fn send_own_state(&mut self, participant: ParticipantKey) {
        let now = self.now;
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        let ready = local.unsent && local.updates.is_ready(now.instant);
        let Some(info) = local.info.as_ref().filter(|_| ready) else { return };
        let body: bytes::Bytes = info.encode_to_vec().into();
        local.unsent = false;
        let cost = 1 + u32::try_from(body.len() / CHANGE_BYTES).unwrap_or(u32::MAX - 1);
        local.updates.take(cost, now.instant);
        let (sid, note) = (local.sid.clone(), local.ticket.note().clone());
        let renewed = std::mem::take(&mut local.ticket_unsent);
        let known = std::mem::replace(&mut local.known, true);
        let was_too_much = std::mem::take(&mut local.too_much);
        let written = if !known {
            let join_number = local.ticket.ticket().join_number;
            self.replica.local_join(sid, local.identity.clone(), join_number, body, note)
        } else if renewed {
            self.replica.local_renewal(&sid, body, note)
        } else {
            self.replica.local_update(&sid, body)
        };
        match written {
            Ok((update, changes)) => {
                self.replicate(&update);
                self.notify_changes(changes);
            }
            Err(error) => {
                if !was_too_much {
                    tracing::warn!(%error, "a participant's state was not written");
                }
                if matches!(error, LocalError::Limit(MergeError::TooMuch { .. }))
                    && let Some(local) = self.local_participants.get_mut(&participant)
                {
                    (local.known, local.unsent, local.too_much) = (known, true, true);
                    local.ticket_unsent |= renewed;
                }
            }
        }
    }

    /// A local participant or another node subscribed to a track: its publisher, if local, is notified.
    pub(super) fn track_has_subscriber(&mut self, track: TrackKey) {
        let Some(entry) = self.tracks.by_key(track) else { return };
        let track_sid = entry.sid.clone();
        if let Some(participant) = self.local_by_sid(&entry.publisher) {
            self.notify(participant, RoomEvent::TrackSubscribed { track_sid });
        }
    }

    fn left(&mut self, participant: ParticipantKey, reason: LeaveReason) {
        let Some(local) = self.local_participants.remove(&participant) else { return };
        tracing::debug!(?reason, "a participant left");
        let ended: Vec<TrackKey> = self.tracks.of_publisher(&local.sid).map(|entry| entry.key).collect();
        for key in ended {
            self.tracks.remove(key);
        }
        self.command(WorkerCommand::Leave { participant });
        self.config.metrics.participants.dec();
        self.effects.push_back(RoomEffect::Left { participant, join_id: local.join_id });
        if let Ok((update, changes)) = self.replica.local_remove(&local.sid) {
            self.replicate(&update);
            self.notify_changes(changes);
        }
        if self.local_participants.is_empty() {
            self.carries_nobody();
        }
        self.residency_changed();
    }

    /// Asks participants to reconnect, those who joined first: this node drains.
    pub(super) fn ask_to_reconnect(&mut self, count: u32) {
        let mut participants: Vec<ParticipantKey> = self.local_participants.keys().copied().collect();
        participants.sort_unstable();
        for participant in participants.into_iter().take(count as usize) {
            self.notify(participant, RoomEvent::Reconnect(DisconnectReason::Migration));
        }
    }

    /// Disconnects all local participants. They must join again.
    pub(super) fn disconnect_all(&mut self, reason: DisconnectReason) {
        let all: Vec<ParticipantKey> = self.local_participants.keys().copied().collect();
        for participant in all {
            self.notify(participant, RoomEvent::Reconnect(reason));
        }
        let rest: Vec<ParticipantKey> = self.local_participants.keys().copied().collect();
        for participant in rest {
            self.left(participant, reason);
        }
    }

    /// The gateways of present participants, and when the first of each gateway's participants joined, Unix
    /// milliseconds; none when that is unknown.
    pub(super) fn current_gateways(&self) -> BTreeMap<String, Option<u64>> {
        let here = self.local_participants.values().map(|local| {
            let joined = local.info.as_ref().map_or(0, |info| info.joined_at_ms);
            (local.gateway.clone(), joined)
        });
        let elsewhere = self
            .remote_infos()
            .filter_map(|info| Some((info.attributes.get("systir.gateway")?.clone(), info.joined_at_ms)));
        let mut gateways: BTreeMap<String, Option<u64>> = BTreeMap::new();
        for (gateway, joined) in here.chain(elsewhere) {
            if self.config.authority.facts(&gateway).is_none() {
                continue;
            }
            // Another node reports this time. It cannot be before the room was created.
            let joined = u64::try_from(joined).ok().filter(|joined| *joined > 0);
            let joined = joined.map(|joined| joined.max(self.assignment.created_ms));
            let since = gateways.entry(gateway).or_default();
            *since = since.iter().copied().chain(joined).min();
        }
        gateways
    }

    /// Number of participants that are not hidden.
    fn visible_count(&self) -> u32 {
        let visible =
            |body: bytes::Bytes| proto::ParticipantInfo::decode(body).is_ok_and(|info| !is_hidden(&info));
        self.replica.participants().filter(|participant| visible(participant.body.clone())).count() as u32
    }

    fn room_info(&self) -> proto::Room {
        proto::Room {
            sid: self.assignment.sid.clone(),
            // The gateway writes the name.
            creation_time: (self.assignment.created_ms / 1000) as i64,
            creation_time_ms: self.assignment.created_ms as i64,
            num_participants: self.visible_count(),
            ..Default::default()
        }
    }
}
