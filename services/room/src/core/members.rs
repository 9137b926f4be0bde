//! People whose media is on this node: they arrive, their sessions speak, they leave.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use livekit_protocol::{self as proto, DisconnectReason, SignalRequest, SignalResponse};
use prost::Message as _;
use systir_livekit::rate_limit::Allowance;
use systir_livekit::{
    LeaveReason, Limits, MediaDescription, MediaEvent, Output, RoomEvent, ServerFacts, Session, SessionConfig,
};
use systir_media_control::{ParticipantKey, Side};
use systir_rtp::packet::Codec;
use tokio::sync::mpsc;

use super::actor::Actor;
use super::others::is_hidden;
use super::tracks::Entry;
use super::{Arrival, Said};

/// Changes of one participant that others are told of at once: a join with its tracks, some toggles.
const TOLD_AT_ONCE: u32 = 8;
/// After that they are told of the newest state once in this time, however often it changes.
const TOLD_EVERY: Duration = Duration::from_millis(50);
/// So many bytes of state count as another change.
const TOLD_PART: usize = 4096;

/// Both directions of a participant's signalling, as the room sees them.
#[derive(Debug)]
pub(crate) struct SignalEnds {
    /// What the client says; its end means that the signalling is gone.
    pub from_client: mpsc::Receiver<SignalRequest>,
    /// What the client is told; bounded, and a client that does not read is let go.
    pub to_client: mpsc::Sender<SignalResponse>,
}

/// One participant here.
pub(super) struct Member {
    pub session: Session,
    pub sid: String,
    pub identity: String,
    pub join_id: String,
    pub front_door: String,
    /// What it last said of itself; none before its first word.
    pub info: Option<proto::ParticipantInfo>,
    /// Do others know of it at all?
    pub known: bool,
    /// Others do not know its newest state yet.
    pub untold: bool,
    /// How often they are told.
    pub telling: Allowance,
    /// The last join of its identity that its front door knows of.
    pub after: u64,
    pub to_client: mpsc::Sender<SignalResponse>,
    pub arrived: Instant,
    /// The trace of its join, until the join message is sent.
    pub joining: Option<tracing::Span>,
}

impl Member {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let untold = self.untold.then(|| self.telling.ready_at());
        self.session.poll_timeout().into_iter().chain(untold).min()
    }
}

impl Actor {
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { join_id, grants, client, auto_subscribe, front_door, after, signal, span } = arrival;
        let _entered = span.clone().entered();
        if let Err(error) = self.shared.commit(&self.wire_key, &join_id) {
            span.record("outcome", "too-late");
            tracing::info!(%error, "somebody came after the seat was given away");
            return;
        }
        let now = Instant::now();
        let participant = self.shared.keys_of_media.participant();
        let sid = crate::ids::participant_sid(&mut rand::rng());
        let credentials =
            || crate::ids::ice_credentials(&mut rand::rng(), &self.shared.name, self.worker_index);
        let facts = self.shared.authority.facts(&self.shared.name);
        let text =
            |pick: fn(&systir_policy::NodeFacts) -> &String| facts.map(pick).cloned().unwrap_or_default();
        let identity = grants.identity.clone();
        let config = SessionConfig {
            participant,
            sid: sid.clone(),
            room_key: self.key,
            room: self.room_info(),
            grants,
            client,
            server: ServerFacts {
                version: ServerFacts::VERSION.to_owned(),
                region: text(|facts| &facts.region),
                node_id: self.shared.name.clone(),
            },
            media: MediaDescription {
                candidates: self.shared.candidates(self.worker_index),
                fingerprint: self.shared.fingerprint,
                publisher: credentials(),
                subscriber: credentials(),
            },
            ice_servers: Vec::new(),
            auto_subscribe,
            codecs: vec![Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1],
            red: false,
            attributes: vec![
                ("systir.node".to_owned(), self.shared.name.clone()),
                ("systir.region".to_owned(), text(|facts| &facts.region)),
                ("systir.country".to_owned(), text(|facts| &facts.country)),
                ("systir.front_door".to_owned(), front_door.clone()),
            ],
            version: 0,
            others: self.everyone_but(&sid),
            limits: Limits::default(),
            keys: self.shared.keys_of_media.clone(),
            seed: rand::random(),
            wall: SystemTime::now(),
            now,
        };
        let member = Member {
            session: Session::new(config),
            sid,
            identity,
            join_id,
            front_door,
            info: None,
            known: false,
            untold: false,
            telling: Allowance::new(TOLD_AT_ONCE, TOLD_EVERY, now),
            after,
            to_client: signal.to_client,
            arrived: now,
            joining: Some(span),
        };
        self.members.insert(participant, member);
        self.shared.metrics.participants.inc();
        self.pump(participant, signal.from_client);
        self.drain(participant);
        self.where_changed();
    }

    // All clients' requests come through one queue, so that everything of a room happens in one
    // order. The task ends with the client's signalling or with the room.
    fn pump(&self, participant: ParticipantKey, mut from_client: mpsc::Receiver<SignalRequest>) {
        let says = self.says.clone();
        self.shared.tasks.spawn(async move {
            loop {
                let request = from_client.recv().await.map(Box::new);
                let over = request.is_none();
                if says.send(Said { participant, request }).await.is_err() || over {
                    return;
                }
            }
        });
    }

    pub(super) fn signal(&mut self, said: Said) {
        let Said { participant, request } = said;
        let Some(member) = self.members.get_mut(&participant) else { return };
        match request {
            Some(request) => member.session.handle(*request, Instant::now()),
            // Without its signalling a participant cannot be told anything: it comes back by joining again.
            None => {
                member.session.room_event(RoomEvent::Remove(DisconnectReason::SignalClose), Instant::now())
            }
        }
        self.drain(participant);
    }

    pub(super) fn connected(&mut self, participant: ParticipantKey, side: Side) {
        self.media_event(participant, MediaEvent::Connected(side));
        if side == Side::Subscriber {
            // Now there is a data channel to hear it on.
            self.tell_where_to(participant);
        }
    }

    pub(super) fn transport_closed(&mut self, participant: ParticipantKey, side: Side, reason: &str) {
        tracing::debug!(?side, reason, "a participant's connection closed");
        self.media_event(participant, MediaEvent::Closed(side));
    }

    pub(super) fn media_event(&mut self, participant: ParticipantKey, event: MediaEvent) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        member.session.media_event(event, Instant::now());
        self.drain(participant);
    }

    pub(super) fn tick_member(&mut self, participant: ParticipantKey, now: Instant) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        member.session.tick(now);
        self.drain(participant);
        self.tell_own(participant, now);
    }

    /// Tells one member's session, and does what it then wants.
    pub(super) fn tell_member(&mut self, participant: ParticipantKey, event: RoomEvent) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        member.session.room_event(event, Instant::now());
        self.drain(participant);
    }

    /// Tells every member but one.
    pub(super) fn tell_members_but(&mut self, but: Option<ParticipantKey>, event: &RoomEvent) {
        let all: Vec<ParticipantKey> = self.members.keys().copied().filter(|key| Some(*key) != but).collect();
        for participant in all {
            self.tell_member(participant, event.clone());
        }
    }

    pub(super) fn member_of(&self, sid: &str) -> Option<ParticipantKey> {
        self.members.iter().find(|(_, member)| member.sid == sid).map(|(key, _)| *key)
    }

    /// Does what the session wants, until it wants nothing more.
    pub(super) fn drain(&mut self, participant: ParticipantKey) {
        while let Some(output) =
            self.members.get_mut(&participant).and_then(|member| member.session.poll_output())
        {
            match output {
                Output::Signal(response) => self.answer_client(participant, *response),
                Output::Media(command) => self.command(command),
                Output::Own(info) => self.own(participant, *info),
                Output::Published { sid, key, spec } => {
                    let publisher =
                        self.members.get(&participant).map(|member| member.sid.clone()).unwrap_or_default();
                    let node = self.shared.name.clone();
                    self.tracks.insert(Entry {
                        key,
                        sid,
                        publisher,
                        node,
                        spec,
                        flows: None,
                        wanted: Default::default(),
                    });
                }
                Output::Unpublished { sid, .. } => {
                    self.tracks.remove(&sid);
                }
                Output::Subscribed { track_sid, .. } => self.track_has_subscriber(&track_sid),
                Output::Unsubscribed { .. } => {}
                Output::Data { channel, packet, destinations } => {
                    self.data_of_member(participant, channel, &packet, &destinations);
                }
                Output::Left { reason } => {
                    self.left(participant, reason);
                    return;
                }
            }
        }
    }

    fn answer_client(&mut self, participant: ParticipantKey, response: SignalResponse) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        if matches!(response.message, Some(proto::signal_response::Message::Join(_)))
            && let Some(span) = member.joining.take()
        {
            span.record("outcome", "joined");
            tracing::info!(parent: &span, node = self.shared.name, "somebody joined");
            self.shared.metrics.join_seconds.observe(member.arrived.elapsed().as_secs_f64());
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = member.to_client.try_send(response) {
            tracing::info!("a client does not read its signalling and is let go");
            // Taken up by the loop: this may be called from within its session's outputs.
            self.leaving.insert(participant);
        }
    }

    /// Ends the sessions of clients that did not read.
    pub(super) fn settle(&mut self) {
        for participant in std::mem::take(&mut self.leaving) {
            self.tell_member(participant, RoomEvent::Remove(DisconnectReason::SignalClose));
        }
    }

    /// A participant's own state is new: everybody else hears of it, now or soon.
    fn own(&mut self, participant: ParticipantKey, info: proto::ParticipantInfo) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        // That somebody left is told by itself.
        member.untold = info.state != proto::participant_info::State::Disconnected as i32;
        member.info = Some(info);
        self.tell_own(participant, Instant::now());
    }

    /// Tells everybody else of a participant's newest state, unless they were told much just now. So
    /// whoever changes without end costs others no more than somebody lively.
    fn tell_own(&mut self, participant: ParticipantKey, now: Instant) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        let Some(info) = member.info.as_ref().filter(|_| member.untold && member.telling.is_ready(now))
        else {
            return;
        };
        let body: bytes::Bytes = info.encode_to_vec().into();
        member.untold = false;
        member.telling.take(1 + u32::try_from(body.len() / TOLD_PART).unwrap_or(u32::MAX - 1), now);
        let (sid, identity, after) = (member.sid.clone(), member.identity.clone(), member.after);
        let written = if std::mem::replace(&mut member.known, true) {
            self.replica.local_update(&sid, body)
        } else {
            let epoch = self.replica.next_epoch(&identity, after, crate::ids::unix_ms());
            self.replica.local_join(sid, identity, epoch, body)
        };
        match written {
            Ok((update, changes)) => {
                self.replicate(&update);
                self.changed(changes);
            }
            Err(error) => tracing::warn!(%error, "a participant's state is not shared"),
        }
    }

    /// Somebody here receives a track, or another node does: its publisher hears of it once.
    pub(super) fn track_has_subscriber(&mut self, track_sid: &str) {
        let Some(publisher) = self.tracks.get(track_sid).map(|entry| entry.publisher.clone()) else { return };
        if let Some(participant) = self.member_of(&publisher) {
            self.tell_member(participant, RoomEvent::TrackSubscribed { track_sid: track_sid.to_owned() });
        }
    }

    fn left(&mut self, participant: ParticipantKey, reason: LeaveReason) {
        let Some(member) = self.members.remove(&participant) else { return };
        tracing::debug!(?reason, "a participant left");
        let ended: Vec<String> =
            self.tracks.of_publisher(&member.sid).map(|entry| entry.sid.clone()).collect();
        for sid in ended {
            self.tracks.remove(&sid);
        }
        self.command(systir_media_control::Command::Leave { participant });
        self.shared.release_here(&member.join_id);
        self.shared.metrics.participants.dec();
        if let Ok((update, changes)) = self.replica.local_remove(&member.sid) {
            self.replicate(&update);
            self.changed(changes);
        }
        self.where_changed();
    }

    /// Everybody here is told to come back.
    pub(super) fn end_members(&mut self, reason: DisconnectReason) {
        let all: Vec<ParticipantKey> = self.members.keys().copied().collect();
        for participant in all {
            self.tell_member(participant, RoomEvent::Reconnect(reason));
        }
        let rest: Vec<ParticipantKey> = self.members.keys().copied().collect();
        for participant in rest {
            self.left(participant, reason);
        }
    }

    /// Nodes where somebody's signalling ends, and when the first of those people came who are here
    /// now, Unix milliseconds.
    pub(super) fn front_doors(&self) -> BTreeMap<String, Option<u64>> {
        let here = self.members.values().map(|member| {
            let joined = member.info.as_ref().map_or(0, |info| info.joined_at_ms);
            (member.front_door.clone(), joined)
        });
        let away = self
            .others_known()
            .filter_map(|info| Some((info.attributes.get("systir.front_door")?.clone(), info.joined_at_ms)));
        let mut doors: BTreeMap<String, Option<u64>> = BTreeMap::new();
        for (door, joined) in here.chain(away) {
            if self.shared.authority.facts(&door).is_none() {
                continue;
            }
            // Another node's word: nobody came before the room was made.
            let joined = u64::try_from(joined).ok().filter(|joined| *joined > 0);
            let joined = joined.map(|joined| joined.max(self.assignment.created_ms));
            let since = doors.entry(door).or_default();
            *since = since.iter().copied().chain(joined).min();
        }
        doors
    }

    /// Everybody who can be seen.
    fn seen_count(&self) -> u32 {
        let seen =
            |body: bytes::Bytes| proto::ParticipantInfo::decode(body).is_ok_and(|info| !is_hidden(&info));
        self.replica.participants().filter(|participant| seen(participant.body.clone())).count() as u32
    }

    fn room_info(&self) -> proto::Room {
        proto::Room {
            sid: self.assignment.sid.clone(),
            name: self.id.name.clone(),
            creation_time: (self.assignment.created_ms / 1000) as i64,
            creation_time_ms: self.assignment.created_ms as i64,
            num_participants: self.seen_count(),
            ..Default::default()
        }
    }
}
