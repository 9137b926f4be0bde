//! The worker without its thread: takes datagrams, commands and batches with the current time, and
//! produces sealed datagrams, batches and events. No I/O, no clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use systir_forwarding::{Core, SubscriptionId, TrackId};
use systir_rtp::ExtendedSeq;
use systir_rtp::packet::{Codec, Kind, Layer, Packet};
use systir_transport::{Certificate, Protocol, TransportEvent};

use super::bandwidth::Division;
use super::connection::{Connection, Role, advertised_for};
use super::data::channel_of;
use super::demux::{Demux, binding_request_ufrag, protocol_of};
use super::due::{Due, FIRST_REPORTS_END, TICK};
use super::egress::WorkerEgress;
use super::ingress::Refused;
use super::links::Links;
use super::room_events::RoomEvents;
use super::send_queue::{Route, Via};
use super::stats::WorkerCounts;
use super::stream_owners::StreamOwners;
use systir_media_control::{MediaQuality, ParticipantKey, RoomNumber, Speaker, TrackKey, WorkerEvent};

/// How often the active speakers are computed.
const SPEAKER_INTERVAL: Duration = Duration::from_millis(500);
/// How often sending is retried to a room whose event channel was full.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Batches of the ring that are handled per iteration of the worker's loop.
const MAX_BATCHES: usize = 16;
/// When sending is tried again after the kernel took no more.
const RETRY_DELAY: Duration = Duration::from_millis(1);
/// Headers of a datagram, bytes: UDP and IPv6, or IPv4 with a tunnel's.
const UDP_AND_IP: usize = 48;
/// Shortest time to the next timeout of a transport.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// A flow received over a link: one layer of a track.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) track: TrackId,
    pub(super) layer: Layer,
    pub(super) codec: Codec,
    pub(super) seq: ExtendedSeq,
}

#[derive(Debug)]
pub(super) struct Participant {
    pub(super) room: RoomNumber,
    pub(super) publisher: usize,
    pub(super) subscriber: usize,
    pub(super) downtracks: FxHashMap<TrackKey, SubscriptionId>,
    /// What its room was last told.
    pub(super) quality: MediaQuality,
}

/// Parameters of an engine.
#[derive(Debug)]
pub(super) struct EngineConfig {
    pub(super) advertised: Vec<SocketAddr>,
    pub(super) certificate: Certificate,
    pub(super) links: Links,
    pub(super) seed: u64,
}

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) advertised: Vec<SocketAddr>,
    pub(super) certificate: Certificate,
    pub(super) epoch: Instant,
    pub(super) core: Core,
    pub(super) egress: WorkerEgress,
    pub(super) demux: Demux,
    pub(super) stream_owners: StreamOwners,
    pub(super) participants: FxHashMap<ParticipantKey, Participant>,
    pub(super) tracks: FxHashMap<TrackKey, TrackId>,
    pub(super) flows: FxHashMap<(u32, u32), Flow>,
    /// For the first sequence numbers of RTX streams; nothing secret depends on it.
    pub(super) random: fastrand::Rng,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// When connections with congestion control are to be looked at again.
    pub(super) wakes: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Connections whose bandwidth is to be divided at the end of the iteration.
    pub(super) divisions: Vec<usize>,
    pub(super) division: Division,
    next_tick: Instant,
    /// What the next ticks visit.
    pub(super) due: Due,
    next_speakers: Instant,
    /// Datagrams wait because the kernel took no more.
    pub(super) is_sending: bool,
    scratch: Vec<u8>,
}

impl Engine {
    pub(super) fn new(config: EngineConfig, now: Instant) -> Self {
        Self {
            advertised: config.advertised,
            certificate: config.certificate,
            epoch: now,
            core: Core::new(config.seed),
            egress: WorkerEgress::new(config.links, now),
            demux: Demux::default(),
            stream_owners: StreamOwners::default(),
            participants: FxHashMap::default(),
            tracks: FxHashMap::default(),
            flows: FxHashMap::default(),
            random: fastrand::Rng::with_seed(config.seed),
            timers: BinaryHeap::new(),
            wakes: BinaryHeap::new(),
            divisions: Vec::new(),
            division: Division::default(),
            next_tick: now + TICK,
            due: Due::new(),
            next_speakers: now + SPEAKER_INTERVAL,
            is_sending: false,
            scratch: Vec::new(),
        }
    }

    /// The counters; updates the gauges first.
    pub(super) fn counts(&mut self) -> WorkerCounts {
        self.egress.counts.participants = self.participants.len() as u64;
        self.egress.counts.tracks = self.egress.tracks.len() as u64;
        self.egress.counts.downtracks = self.egress.downtracks.len() as u64;
        self.egress.counts.media_expired = self.core.expired();
        self.egress.estimates.publish(&mut self.egress.counts);
        self.egress.counts
    }

    /// Handles a datagram from a client. `destination` is our address that it was sent to.
    pub(super) fn datagram(
        &mut self,
        now: Instant,
        socket: usize,
        from: SocketAddr,
        destination: Option<IpAddr>,
        bytes: &mut [u8],
    ) {
        self.egress.now = now;
        self.egress.counts.datagrams_in += 1;
        self.egress.counts.bytes_in += bytes.len() as u64;
        let Some(protocol) = protocol_of(bytes) else {
            self.egress.counts.datagrams_rejected += 1;
            return;
        };
        let by_ufrag =
            || binding_request_ufrag(bytes).and_then(|ufrag| self.demux.connection_by_ufrag(ufrag));
        // For a binding request the ufrag decides, even if its address is mapped to another connection:
        // clients behind one NAT may get each other's ports.
        let owner = match protocol {
            Protocol::Stun => by_ufrag().or_else(|| self.demux.connection_by_address(from)),
            _ => self.demux.connection_by_address(from),
        };
        let Some(connection) = owner else {
            self.egress.counts.datagrams_rejected += 1;
            return;
        };
        match protocol {
            Protocol::Stun | Protocol::Dtls => {
                let path = Route { via: Via::Udp(socket), source: destination, to: from };
                if self.handshake(now, connection, path, bytes) && !self.is_taken(now, from, connection) {
                    let conn = self.egress.connections.get(connection);
                    let in_use = conn.and_then(|conn| conn.transport.remote_addr());
                    self.demux.map_address(from, connection, in_use);
                }
            }
            Protocol::Rtp => self.rtp(now, connection, bytes),
            Protocol::Rtcp => self.rtcp(now, connection, bytes),
        }
    }

    /// Does another client use this address? A check proves a password and not an address, so it must not take the packets of
    /// whoever is there. Once that client is gone, others behind its NAT may get the address.
    fn is_taken(&self, now: Instant, from: SocketAddr, connection: usize) -> bool {
        let owner = self.demux.connection_by_address(from).filter(|owner| *owner != connection);
        let owner = owner.and_then(|owner| self.egress.connections.get(owner));
        owner.is_some_and(|owner| owner.transport.is_used(now, from))
    }

    /// Handles a STUN or DTLS datagram. True when the path is authenticated.
    pub(super) fn handshake(&mut self, now: Instant, connection: usize, path: Route, bytes: &[u8]) -> bool {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return false };
        let Some(to) = advertised_for(&self.advertised, path.to, path.source) else {
            self.egress.counts.datagrams_rejected += 1;
            return false;
        };
        conn.record_path(path, to);
        pause_data_if_behind(&mut self.egress.rooms, connection, conn, now);
        conn.transport.handle(now, path.to, to, bytes);
        let authenticated = conn.transport.is_authenticated(path.to);
        self.drain_transport(now, connection);
        authenticated
    }

    pub(super) fn rtp(&mut self, now: Instant, connection: usize, bytes: &mut [u8]) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let Role::Publisher { ingress, twcc } = &mut conn.role else {
            self.egress.counts.media_unmatched += 1;
            return;
        };
        let Ok(plain) = conn.transport.open_rtp(bytes) else {
            self.egress.counts.unauthentic += 1;
            return;
        };
        let is_first = twcc.poll_timeout().is_none();
        let accepted = ingress.accept(now, plain, |number, ssrc| twcc.record(now, number, ssrc));
        if is_first && twcc.poll_timeout().is_some() {
            self.due.feedback.push(connection);
        }
        match accepted {
            Ok(accepted) => {
                self.egress.counts.media_in += 1;
                ingest(
                    now,
                    &mut self.core,
                    &mut self.egress,
                    accepted.track,
                    accepted.layer,
                    &accepted.packet,
                );
            }
            Err(Refused::OtherCodec { track, codec, report }) => {
                self.egress.counts.media_unmatched += 1;
                if report {
                    self.egress.notify_codec(track, codec);
                }
            }
            Err(Refused::Malformed | Refused::Unmatched) => self.egress.counts.media_unmatched += 1,
            Err(Refused::TooManyStreams) => self.egress.counts.too_many_streams += 1,
            Err(Refused::NothingToForward) => {}
        }
    }

    /// Handles events and datagrams of a transport after each use of it, and schedules its timeout.
    pub(super) fn drain_transport(&mut self, now: Instant, connection: usize) {
        while let Some(event) =
            self.egress.connections.get_mut(connection).and_then(|conn| conn.transport.poll_event())
        {
            self.transport_event(now, connection, event);
        }
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        conn.update_route();
        // What the reader acknowledged makes room for what waits.
        if let Role::Subscriber { channels, .. } = &mut conn.role
            && channels.is_behind()
        {
            self.egress.counts.data_dropped += channels.retry(&mut conn.transport);
        }
        loop {
            self.scratch.clear();
            let may_send_data = conn.send_control().is_none_or(|control| control.may_send_data(now));
            conn.transport.hold_data(!may_send_data);
            // A response to a check is sent on the path of the check, everything else on the media path.
            let own = conn.transport.transmit_from();
            let Some(to) = conn.transport.poll_transmit(&mut self.scratch) else { break };
            let chosen = match own {
                Some(own) => conn.path_between(to, own),
                None => conn.route.filter(|route| route.to == to),
            };
            let Some(path) = chosen.or_else(|| conn.path(to)) else { continue };
            if protocol_of(&self.scratch) == Some(Protocol::Dtls)
                && let Some(control) = conn.send_control()
            {
                control.sent_data(now, self.scratch.len() + UDP_AND_IP);
            }
            let mut datagrams = self.egress.buffers.queue.empty_buffer();
            datagrams.push_with(|bytes, _| {
                bytes.extend_from_slice(&self.scratch);
                true
            });
            self.egress.buffers.queue.submit(path, datagrams);
        }
        conn.update_route();
        pause_data_if_behind(&mut self.egress.rooms, connection, conn, now);
        self.egress.counts.data_throttled += conn.transport.take_data_throttled();
        let due = conn.transport.poll_timeout().map(|due| due.max(now + MIN_DELAY));
        if let Some(due) = due
            && conn.timer_at.is_none_or(|at| due < at)
        {
            conn.timer_at = Some(due);
            self.timers.push(Reverse((due, connection)));
        }
        self.schedule_sending(now, connection);
    }

    fn transport_event(&mut self, now: Instant, connection: usize, event: TransportEvent) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let (room, participant, side) = (conn.room, conn.participant, conn.side());
        match event {
            TransportEvent::Connected { .. } => {
                conn.connected = true;
                conn.update_route();
                self.egress.notify_room(room, WorkerEvent::Connected { participant, side });
                self.start_downtracks(now, connection);
            }
            TransportEvent::ChannelOpen { id, .. } => {
                if let Role::Subscriber { channels, .. } = &mut conn.role {
                    self.egress.counts.data_dropped += channels.opened(id, &mut conn.transport);
                }
                self.list_reader(connection);
            }
            TransportEvent::ChannelData { label, data, .. } => {
                if let Some(channel) = channel_of(&label) {
                    self.egress.notify_room(room, WorkerEvent::Data { participant, channel, data });
                }
            }
            TransportEvent::ChannelClosed { id } => {
                if let Role::Subscriber { channels, .. } = &mut conn.role {
                    self.egress.counts.data_dropped += channels.closed(id);
                }
            }
            TransportEvent::Closed { reason } => self.egress.notify_closed(connection, reason.to_string()),
        }
    }

    fn start_downtracks(&mut self, now: Instant, connection: usize) {
        let subs = match self.egress.connections.get(connection).map(|conn| &conn.role) {
            Some(Role::Subscriber { downtracks, .. }) => downtracks.clone(),
            _ => return,
        };
        for sub in subs {
            self.egress.count_demand(sub);
            self.start_downtrack(now, sub);
            self.due.first_reports.push((now + FIRST_REPORTS_END, sub));
        }
    }

    /// Handles batches from the QUIC thread. True when there may be more.
    pub(super) fn take_batches(&mut self, now: Instant) -> bool {
        self.egress.now = now;
        for _ in 0..MAX_BATCHES {
            let Some(batch) = self.egress.links.recv() else { return false };
            for (entry, bytes) in batch.iter() {
                self.link_packet(now, entry.peer, entry.flow, bytes);
            }
            self.egress.links.recycle(batch);
        }
        true
    }

    /// When [`Engine::timeout`] is due.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let timer = self.timers.peek().map(|Reverse((due, _))| *due);
        let retry = (self.is_sending || !self.egress.ready.is_empty()).then(|| now + RETRY_DELAY);
        let wake = self.wakes.peek().map(|Reverse((due, _))| (*due).max(now));
        [timer, wake, self.core.poll_timeout(), self.egress.frames.next(), retry]
            .into_iter()
            .flatten()
            .fold(self.next_tick, Instant::min)
    }

    /// Handles everything that is due at `now`.
    pub(super) fn timeout(&mut self, now: Instant) {
        self.egress.now = now;
        self.wake_paced(now);
        while let Some(connections) = self.egress.frames.take_due(now) {
            self.egress.release(connections);
        }
        while let Some(Reverse((due, connection))) = self.timers.peek().copied()
            && due <= now
        {
            self.timers.pop();
            let Some(conn) = self.egress.connections.get_mut(connection) else { continue };
            if conn.timer_at != Some(due) {
                continue;
            }
            conn.timer_at = None;
            pause_data_if_behind(&mut self.egress.rooms, connection, conn, now);
            if conn.transport.poll_timeout().is_some_and(|due| due <= now) {
                conn.transport.handle_timeout(now);
            }
            self.drain_transport(now, connection);
        }
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.core.handle_timeout(now, &mut self.egress);
        }
        if now >= self.next_tick {
            let behind = !self.egress.rooms_behind.is_empty();
            self.next_tick = now + if behind { RETRY_INTERVAL } else { TICK };
            self.tick(now);
        }
        if now >= self.next_speakers {
            self.next_speakers = now + SPEAKER_INTERVAL;
            self.notify_speakers(now);
        }
    }

    fn notify_speakers(&mut self, now: Instant) {
        let mut changed: FxHashMap<RoomNumber, Vec<Speaker>> = FxHashMap::default();
        for speaker in self.core.loudness_changes(now) {
            let Some(track) = self.egress.track(speaker.track) else { continue };
            let (room, key, publisher) = (track.room, track.key, track.publisher.clone());
            if speaker.active {
                self.egress.speaking.insert(publisher);
            } else {
                self.egress.speaking.remove(&publisher);
            }
            let speaker = Speaker { track: key, level: speaker.level, active: speaker.active };
            changed.entry(room).or_default().push(speaker);
        }
        for (room, changed) in changed {
            self.egress.notify_room(room, WorkerEvent::Speakers { changed });
        }
    }

    /// Ends an iteration of the worker's loop: retries events of rooms that are behind, and submits the
    /// gathered packets.
    pub(super) fn finish_turn(&mut self, now: Instant) {
        self.egress.now = now;
        for connection in std::mem::take(&mut self.divisions) {
            self.divide_bandwidth(now, connection);
        }
        self.tell_wanted();
        self.retry_rooms(now);
        self.egress.submit_all();
    }

    /// Sends the events that wait for rooms.
    fn retry_rooms(&mut self, now: Instant) {
        if self.egress.rooms_behind.is_empty() {
            return;
        }
        let mut caught_up = Vec::new();
        let rooms = &mut self.egress.rooms;
        self.egress.rooms_behind.retain(|number| {
            let Some(room) = rooms.get_mut(number) else { return false };
            room.is_listed = room.retry();
            if !room.is_listed {
                caught_up.push(*number);
            }
            room.is_listed
        });
        if !self.egress.rooms_behind.is_empty() {
            self.next_tick = self.next_tick.min(now + RETRY_INTERVAL);
        }
        if !caught_up.is_empty() {
            self.resume_data(now, &caught_up);
        }
    }

    /// Resumes reading the clients' data messages that were not read while these rooms were behind.
    fn resume_data(&mut self, now: Instant, rooms: &[RoomNumber]) {
        for room in rooms {
            let paused = self.egress.rooms.get_mut(room).map(|room| std::mem::take(&mut room.paused));
            for connection in paused.into_iter().flatten() {
                // The key may have been reused.
                let conn = self.egress.connections.get_mut(connection);
                if let Some(conn) = conn.filter(|conn| conn.room == *room) {
                    conn.is_data_paused = false;
                    self.drain_transport(now, connection);
                }
            }
        }
    }
}

/// Takes a packet of a track from its source.
pub(super) fn ingest(
    now: Instant,
    core: &mut Core,
    egress: &mut WorkerEgress,
    track: TrackId,
    layer: Layer,
    packet: &Packet<'_>,
) {
    let is_video = packet.codec.kind() == Kind::Video;
    if is_video && !packet.marker {
        egress.frames.begin(now, track, layer);
    }
    core.ingest(now, track, layer, packet, egress);
    if is_video && let Some(connections) = egress.frames.end(track, layer, packet.marker) {
        egress.release(connections);
    }
}

/// A client's data messages are not read while its room is behind, and slowly while a reader of the room is slow.
fn pause_data_if_behind(
    rooms: &mut FxHashMap<RoomNumber, RoomEvents>,
    connection: usize,
    conn: &mut Connection,
    now: Instant,
) {
    let mut room = rooms.get_mut(&conn.room);
    let is_behind = room.as_ref().is_some_and(|room| room.is_behind());
    if let Some(room) = &mut room
        && is_behind
        && !std::mem::replace(&mut conn.is_data_paused, true)
    {
        room.paused.push(connection);
    }
    conn.transport.pause_data(now, is_behind);
    conn.transport.slow_data(room.is_some_and(|room| room.is_data_slow()));
}
