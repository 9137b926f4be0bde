//! Handles commands: rooms, participants, tracks, downtracks, feeds. A command about something that does
//! not exist is ignored: it may have been removed while the command was in the queue.

use std::time::Instant;

use smallvec::SmallVec;
use systir_forwarding::SubscriptionId;
use systir_rtp::ExtendedSeq;
use systir_rtp::packet::{Kind, Layer};
use systir_rtp::twcc::TwccRecorder;
use systir_transport::{IceCredentials, Transport, TransportConfig};
use tracing::debug;

use super::connection::{Connection, Role};
use super::data::Channels;
use super::due::FIRST_REPORTS_END;
use super::egress::{DowntrackSender, Source, Track, first_rtx_seq};
use super::engine::{Engine, Flow, Participant};
use super::ingress::{Ingress, TrackRef};
use super::message::WorkerMessage;
use super::pending::PendingDowntracks;
use super::room_events::RoomEvents;
use super::send_control::SendControl;
use super::send_queue::Via;
use systir_media_control::{
    Downtrack, MediaQuality, ParticipantKey, ReceiveSection, Remote, RoomNumber, Side, TrackDemand, TrackKey,
    TrackSource, TrackSpec, WorkerCommand, WorkerEvent,
};

/// Largest UDP payload of DTLS and SCTP; every path carries it.
const DTLS_MTU: usize = 1200;

impl Engine {
    /// Handles a message from the queue.
    pub(super) fn handle_message(&mut self, now: Instant, message: WorkerMessage) {
        self.egress.now = now;
        match message {
            WorkerMessage::OpenRoom { room, events } => {
                self.egress.rooms.insert(room, RoomEvents::new(events));
            }
            WorkerMessage::Command(command) => self.command(now, command),
        }
    }

    /// Handles a command.
    pub(super) fn command(&mut self, now: Instant, command: WorkerCommand) {
        match command {
            WorkerCommand::CloseRoom { room } => self.close_room(now, room),
            WorkerCommand::Join { room, participant, publisher, subscriber } => {
                self.join(now, room, participant, publisher, subscriber);
            }
            WorkerCommand::Remote { participant, side, remote } => {
                self.remote(now, participant, side, remote)
            }
            WorkerCommand::Receive { participant, sections } => self.receive(now, participant, sections),
            WorkerCommand::AddTrack { room, track, spec, source, publisher } => {
                self.add_track(room, track, spec, source, publisher);
            }
            WorkerCommand::RemoveTrack { track } => self.remove_track(track),
            WorkerCommand::Mute { track, muted } => {
                if let Some(id) = self.tracks.get(&track) {
                    self.core.set_muted(*id, muted);
                }
            }
            WorkerCommand::Subscribe { participant, downtrack } => {
                self.subscribe(now, participant, downtrack)
            }
            WorkerCommand::Unsubscribe { participant, track } => self.unsubscribe(participant, track),
            WorkerCommand::Demand { participant, track, demand } => {
                self.demand(now, participant, track, demand)
            }
            WorkerCommand::Feed { track, peer, layer, flow } => {
                let Some(id) = self.tracks.get(&track) else {
                    debug!(?track, "ignored: feed of an unknown track");
                    return;
                };
                match flow {
                    Some(flow) => self.core.feed(*id, layer, peer, flow),
                    None => self.core.unfeed(*id, layer, peer),
                }
            }
            WorkerCommand::KeyFrame { track, layer } => {
                if let Some(id) = self.tracks.get(&track) {
                    self.core.feed_key_frame_wanted(now, *id, layer, &mut self.egress);
                }
            }
            WorkerCommand::SendData { participant, channel, data } => {
                self.send_data(now, participant, channel, data);
            }
            WorkerCommand::SlowData { room, slow } => {
                if let Some(room) = self.egress.rooms.get_mut(&room) {
                    room.others_slow = slow;
                }
            }
            WorkerCommand::Leave { participant } => self.leave(now, participant),
        }
    }

    pub(super) fn connection(&self, participant: ParticipantKey, side: Side) -> Option<usize> {
        let found = self.participants.get(&participant);
        if found.is_none() {
            debug!(?participant, "ignored: command about an unknown participant");
        }
        found.map(|participant| match side {
            Side::Publisher => participant.publisher,
            Side::Subscriber => participant.subscriber,
        })
    }

    fn close_room(&mut self, now: Instant, room: RoomNumber) {
        let gone: Vec<_> = self
            .participants
            .iter()
            .filter(|(_, participant)| participant.room == room)
            .map(|(key, _)| *key)
            .collect();
        for participant in gone {
            self.leave(now, participant);
        }
        let tracks: Vec<_> = self.tracks.iter().map(|(key, id)| (*key, *id)).collect();
        for (key, id) in tracks {
            if self.egress.track(id).is_some_and(|track| track.room == room) {
                self.remove_track(key);
            }
        }
        self.egress.rooms.remove(&room);
    }

    fn join(
        &mut self,
        now: Instant,
        room: RoomNumber,
        participant: ParticipantKey,
        publisher: IceCredentials,
        subscriber: IceCredentials,
    ) {
        if !self.egress.rooms.contains_key(&room) || self.participants.contains_key(&participant) {
            debug!(
                ?participant,
                ?room,
                "ignored: join to a room that is not open, or of a known participant"
            );
            return;
        }
        let taken = self.demux.connection_by_ufrag(&publisher.ufrag).is_some()
            || self.demux.connection_by_ufrag(&subscriber.ufrag).is_some();
        if taken || publisher.ufrag == subscriber.ufrag {
            for side in [Side::Publisher, Side::Subscriber] {
                let reason = "another connection has this ICE username fragment; join again".to_owned();
                self.egress.notify_room(room, WorkerEvent::Closed { participant, side, reason });
            }
            return;
        }
        let ingress = Box::new(Ingress::new(self.epoch));
        let twcc = Box::new(TwccRecorder::new(now));
        let publisher =
            self.add_connection(now, room, participant, publisher, |_| Role::Publisher { ingress, twcc });
        let subscriber = self.add_connection(now, room, participant, subscriber, |transport| {
            let channels = Channels::open(transport);
            let pending = PendingDowntracks::default();
            let (downtracks, by_ssrc) = Default::default();
            Role::Subscriber { downtracks, by_ssrc, pending, control: None, probed: 0, channels }
        });
        let downtracks = Default::default();
        let quality = MediaQuality::Excellent;
        let state = Participant { room, publisher, subscriber, downtracks, quality };
        self.participants.insert(participant, state);
    }

    fn add_connection(
        &mut self,
        now: Instant,
        room: RoomNumber,
        participant: ParticipantKey,
        local: IceCredentials,
        role: impl FnOnce(&mut Transport) -> Role,
    ) -> usize {
        let ufrag = local.ufrag.clone();
        let config = TransportConfig {
            local,
            certificate: self.certificate.clone(),
            candidates: self.advertised.clone(),
            mtu: DTLS_MTU,
        };
        let mut transport = Transport::new(config, now);
        let role = role(&mut transport);
        let connection = Connection::new(room, participant, ufrag.clone(), transport, role, now);
        let key = self.egress.connections.insert(connection);
        if let Some(conn) = self.egress.connections.get_mut(key) {
            conn.next_report = self.due.reports.push(now, key);
        }
        self.demux.insert(key, ufrag);
        self.drain_transport(now, key);
        key
    }

    fn remote(&mut self, now: Instant, participant: ParticipantKey, side: Side, remote: Remote) {
        let Some(connection) = self.connection(participant, side) else { return };
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        conn.transport.set_remote(now, remote);
        let in_use = conn.transport.remote_addr();
        // Checks that arrived before the description are now authenticated.
        for path in conn.authenticated_paths() {
            match path.via {
                Via::Udp(_) => self.demux.map_address(path.to, connection, in_use),
                Via::Tcp(stream) => self.stream_owners.mark_authenticated(stream),
            }
        }
        self.drain_transport(now, connection);
    }

    fn track_ref(&self, key: TrackKey) -> Option<TrackRef> {
        let id = *self.tracks.get(&key)?;
        Some(TrackRef { id, codec: self.egress.track(id)?.spec.codec })
    }

    fn receive(&mut self, now: Instant, participant: ParticipantKey, mut sections: Vec<ReceiveSection>) {
        let Some(connection) = self.connection(participant, Side::Publisher) else { return };
        for section in &mut sections {
            // A participant cannot send on the track of another one, whatever its description contains.
            let own = |key: &TrackKey| match self.tracks.get(key).and_then(|id| self.egress.track(*id)) {
                Some(Track { source: Source::Publisher { participant: by, .. }, .. }) => *by == participant,
                Some(_) => false,
                None => true,
            };
            section.track = section.track.filter(own);
        }
        let known: Vec<_> = sections
            .iter()
            .filter_map(|section| section.track)
            .filter_map(|key| Some((key, self.track_ref(key)?)))
            .collect();
        let ingress = self.egress.connections.get_mut(connection).and_then(Connection::ingress);
        if let Some(ingress) = ingress {
            ingress.describe(now, sections, |key| {
                known.iter().find(|(name, _)| *name == key).map(|(_, track)| *track)
            });
        }
    }

    fn add_track(
        &mut self,
        room: RoomNumber,
        key: TrackKey,
        spec: TrackSpec,
        source: TrackSource,
        publisher: Box<str>,
    ) {
        if !self.egress.rooms.contains_key(&room) || self.tracks.contains_key(&key) {
            debug!(track = ?key, ?room, "ignored: track of a room that is not open, or a known track");
            return;
        }
        let source = match source {
            TrackSource::Participant(participant) => match self.connection(participant, Side::Publisher) {
                Some(connection) => Source::Publisher { connection, participant },
                None => return,
            },
            TrackSource::Link { peer, flows } => Source::Link { peer, flows },
        };
        let id = self.core.add_track(room.0, spec.kind, spec.codec, spec.layers);
        self.tracks.insert(key, id);
        match source {
            Source::Publisher { connection, .. } => {
                let ingress = self.egress.connections.get_mut(connection).and_then(Connection::ingress);
                if let Some(ingress) = ingress {
                    ingress.track_added(key, TrackRef { id, codec: spec.codec });
                }
            }
            Source::Link { peer, flows } => {
                for layer in spec.layers.iter() {
                    if let Some(flow) = flows.get(usize::from(layer.0)) {
                        let seq = ExtendedSeq::default();
                        self.flows.insert((peer, *flow), Flow { track: id, layer, codec: spec.codec, seq });
                    }
                }
            }
        }
        self.egress.tracks.insert(
            id.index(),
            Track { id, key, room, spec, source, publisher, demanded: Default::default() },
        );
    }

    fn remove_track(&mut self, key: TrackKey) {
        let Some(id) = self.tracks.remove(&key) else { return };
        let subscribers: Vec<_> = self
            .participants
            .iter()
            .filter(|(_, participant)| participant.downtracks.contains_key(&key))
            .map(|(participant, _)| *participant)
            .collect();
        for participant in subscribers {
            self.unsubscribe(participant, key);
        }
        self.core.remove_track(id);
        let Some(track) = self.egress.tracks.remove(id.index()) else { return };
        if track.spec.kind == Kind::Audio {
            self.egress.speaking.remove(&track.publisher);
        }
        match track.source {
            Source::Publisher { connection, .. } => {
                if let Some(ingress) =
                    self.egress.connections.get_mut(connection).and_then(Connection::ingress)
                {
                    ingress.track_removed(id);
                }
            }
            Source::Link { .. } => self.flows.retain(|_, flow| flow.track != id),
        }
    }

    /// The downtrack by which a participant receives a track.
    fn downtrack_of(&self, participant: ParticipantKey, track: TrackKey) -> Option<SubscriptionId> {
        self.participants.get(&participant)?.downtracks.get(&track).copied()
    }

    fn subscribe(&mut self, now: Instant, participant: ParticipantKey, downtrack: Downtrack) {
        let Some(connection) = self.connection(participant, Side::Subscriber) else { return };
        let key = downtrack.track;
        // A second offer of the same track (other m-line, other SSRC) replaces the first. The client was told if that
        // is paused.
        let before = self.downtrack_of(participant, key).and_then(|id| self.egress.downtrack(id));
        let is_paused = before.is_some_and(|sender| sender.is_paused);
        self.unsubscribe(participant, key);
        let Some(track) = self.tracks.get(&key).copied() else {
            debug!(track = ?key, "ignored: subscription to an unknown track");
            return;
        };
        let Some(codec) = self.egress.track(track).map(|track| track.spec.codec) else { return };
        let Some(id) = self.core.subscribe(track) else { return };
        if let Some(subscriber) = self.participants.get_mut(&participant) {
            subscriber.downtracks.insert(key, id);
        }
        let rtx_seq = first_rtx_seq(&mut self.random);
        let sender = DowntrackSender {
            id,
            connection,
            track,
            mid: SmallVec::from_slice(downtrack.mid.as_bytes()),
            downtrack,
            codec,
            demand: TrackDemand::HIGHEST,
            counted: None,
            is_paused,
            mid_omitted_from: None,
            last_seq: None,
            last_reported: None,
            last_report: None,
            rtx_seq,
        };
        let (is_numbered, is_video) = (sender.is_numbered(), codec.kind() == Kind::Video);
        let ssrc = sender.downtrack.ssrc;
        self.egress.downtracks.insert(id.index(), sender);
        self.egress.count_demand(id);
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        if let Role::Subscriber { downtracks, by_ssrc, control, .. } = &mut conn.role {
            downtracks.push(id);
            by_ssrc.insert(ssrc, id);
            if is_video {
                control.get_or_insert_with(|| Box::new(SendControl::new(now, is_numbered)));
                conn.next_control.get_or_insert_with(|| self.due.control.push(now, connection));
            }
        }
        if conn.connected {
            self.start_downtrack(now, id);
            self.due.first_reports.push((now + FIRST_REPORTS_END, id));
        }
    }

    fn unsubscribe(&mut self, participant: ParticipantKey, track: TrackKey) {
        let Some(state) = self.participants.get_mut(&participant) else { return };
        let Some(id) = state.downtracks.remove(&track) else { return };
        let subscriber = state.subscriber;
        self.core.unsubscribe(id);
        let sender = self.egress.downtracks.remove(id.index());
        if let Some(sender) = &sender {
            self.egress.end_demand(sender.track, sender.counted);
        }
        let Some(conn) = self.egress.connections.get_mut(subscriber) else { return };
        if let Role::Subscriber { downtracks, by_ssrc, .. } = &mut conn.role {
            downtracks.retain(|own| *own != id);
            by_ssrc.retain(|_, own| *own != id);
        }
        if let Some(DowntrackSender { downtrack, .. }) = sender {
            for ssrc in std::iter::once(downtrack.ssrc).chain(downtrack.rtx_ssrc) {
                conn.transport.end_stream(ssrc);
            }
        }
    }

    fn demand(
        &mut self,
        now: Instant,
        participant: ParticipantKey,
        track: TrackKey,
        mut demand: TrackDemand,
    ) {
        let Some(id) = self.downtrack_of(participant, track) else {
            debug!(?participant, ?track, "ignored: demand for an unknown downtrack");
            return;
        };
        demand.layer = demand.layer.map(|layer| Layer(layer.0.min(Layer::MAX as u8 - 1)));
        let Some(sender) = self.egress.downtrack_sender(id) else { return };
        sender.demand = demand;
        let connection = sender.connection;
        self.egress.count_demand(id);
        if self.egress.connections.get(connection).is_some_and(|conn| conn.connected) {
            self.start_downtrack(now, id);
        }
    }

    fn leave(&mut self, now: Instant, participant: ParticipantKey) {
        let Some(state) = self.participants.get(&participant) else { return };
        let (publisher, subscriber) = (state.publisher, state.subscriber);
        let received: Vec<_> = state.downtracks.keys().copied().collect();
        for track in received {
            self.unsubscribe(participant, track);
        }
        let is_publisher = |track: &Track| matches!(track.source, Source::Publisher { participant: by, .. } if by == participant);
        let published: Vec<_> = self
            .tracks
            .iter()
            .filter(|(_, id)| self.egress.track(**id).is_some_and(is_publisher))
            .map(|(key, _)| *key)
            .collect();
        for track in published {
            self.remove_track(track);
        }
        self.participants.remove(&participant);
        for connection in [publisher, subscriber] {
            self.disconnect(now, connection);
        }
    }

    fn disconnect(&mut self, now: Instant, connection: usize) {
        if let Some(conn) = self.egress.connections.get_mut(connection) {
            // The room ordered it and needs no event.
            conn.closed = true;
            conn.transport.close(now);
        }
        self.egress.submit(connection);
        self.drain_transport(now, connection);
        if let Some(mut conn) = self.egress.connections.try_remove(connection) {
            if let Some(control) = conn.send_control() {
                self.egress.estimates.set(&mut control.range, None);
            }
            self.demux.remove(connection, &conn.ufrag);
            self.stream_owners.connection_ended(connection);
        }
    }

    /// Closes all connections.
    pub(super) fn close_all(&mut self, now: Instant) {
        let all: Vec<_> = self.participants.keys().copied().collect();
        for participant in all {
            self.leave(now, participant);
        }
        self.finish_turn(now);
    }
}
