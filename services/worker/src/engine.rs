//! The worker without its thread: datagrams, commands and batches go in with the time, sealed
//! datagrams, batches and events come out. No I/O, no clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use systir_forwarding::{Core, SubscriptionId, TrackId};
use systir_rtp::ExtendedSeq;
use systir_rtp::packet::{Codec, Layer};
use systir_transport::{Certificate, Class, TransportEvent};

use super::connection::{Connection, Role, advertised_for};
use super::data::channel_of;
use super::demux::{Demux, binding_request_ufrag, protocol_of};
use super::egress::Outside;
use super::ingress::Refused;
use super::links::Links;
use super::outgoing::{Datagrams, Route, Via};
use super::owners::Owners;
use super::rooms::Room;
use super::stats::WorkerCounts;
use systir_media_control::{Event, ParticipantKey, RoomKey, Speaker, TrackKey};

/// How often feedback, reports and counters are looked after.
const TICK: Duration = Duration::from_millis(100);
/// How often speakers are looked at.
const SPEAKERS: Duration = Duration::from_millis(500);
/// How often each connection gets its RTCP reports.
pub(super) const REPORTS: Duration = Duration::from_secs(1);
/// How soon a room whose channel was full is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// Batches taken from one ring before others have their turn.
const MAX_BATCHES: usize = 16;
/// A transport that wants to be called again at once is called this much later.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// A flow that arrives over a link.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) track: TrackId,
    pub(super) layer: Layer,
    pub(super) codec: Codec,
    pub(super) seq: ExtendedSeq,
}

#[derive(Debug)]
pub(super) struct Participant {
    pub(super) room: RoomKey,
    pub(super) publisher: usize,
    pub(super) subscriber: usize,
    pub(super) downtracks: FxHashMap<TrackKey, SubscriptionId>,
}

/// What an engine is made of.
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
    pub(super) outside: Outside,
    pub(super) demux: Demux,
    pub(super) owners: Owners,
    pub(super) participants: FxHashMap<ParticipantKey, Participant>,
    pub(super) tracks: FxHashMap<TrackKey, TrackId>,
    pub(super) flows: FxHashMap<(u32, u32), Flow>,
    /// First numbers of streams; nothing secret depends on it.
    pub(super) random: fastrand::Rng,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    next_tick: Instant,
    next_speakers: Instant,
    scratch: Vec<u8>,
}

impl Engine {
    pub(super) fn new(config: EngineConfig, now: Instant) -> Self {
        Self {
            advertised: config.advertised,
            certificate: config.certificate,
            epoch: now,
            core: Core::new(config.seed),
            outside: Outside::new(config.links),
            demux: Demux::default(),
            owners: Owners::default(),
            participants: FxHashMap::default(),
            tracks: FxHashMap::default(),
            flows: FxHashMap::default(),
            random: fastrand::Rng::with_seed(config.seed),
            timers: BinaryHeap::new(),
            next_tick: now + TICK,
            next_speakers: now + SPEAKERS,
            scratch: Vec::new(),
        }
    }

    /// Counters, with the gauges up to date.
    pub(super) fn counts(&mut self) -> WorkerCounts {
        self.outside.counts.participants = self.participants.len() as u64;
        self.outside.counts.tracks = self.outside.tracks.len() as u64;
        self.outside.counts.downtracks = self.outside.downtracks.len() as u64;
        self.outside.counts
    }

    /// What shall be sent now.
    pub(super) fn take_outgoing(&mut self, into: &mut Vec<(Route, Datagrams)>) {
        self.outside.outgoing.take(into);
    }

    /// A datagram from a client. `destination` is our address that it was sent to.
    pub(super) fn datagram(
        &mut self,
        now: Instant,
        socket: usize,
        from: SocketAddr,
        destination: Option<IpAddr>,
        bytes: &mut [u8],
    ) {
        self.outside.counts.datagrams_in += 1;
        self.outside.counts.bytes_in += bytes.len() as u64;
        let Some(protocol) = protocol_of(bytes) else {
            self.outside.counts.junk += 1;
            return;
        };
        let named = || binding_request_ufrag(bytes).and_then(|ufrag| self.demux.named(ufrag));
        // A binding request goes to whom it names, wherever earlier ones from there went: clients
        // behind one NAT may get each other's ports.
        let owner = match protocol {
            Class::Stun => named().or_else(|| self.demux.owner(from)),
            _ => self.demux.owner(from),
        };
        let Some(connection) = owner else {
            self.outside.counts.junk += 1;
            return;
        };
        match protocol {
            Class::Stun | Class::Dtls => {
                let path = Route { via: Via::Udp(socket), source: destination, to: from };
                if self.handshake(now, connection, path, bytes) {
                    self.demux.learn(from, connection);
                }
            }
            Class::Rtp => self.rtp(now, connection, bytes),
            Class::Rtcp => self.rtcp(now, connection, bytes),
        }
    }

    /// True when the path is proved to be the connection's own.
    pub(super) fn handshake(&mut self, now: Instant, connection: usize, path: Route, bytes: &[u8]) -> bool {
        let Some(conn) = self.outside.connections.get_mut(connection) else { return false };
        let Some(to) = advertised_for(&self.advertised, path.to, path.source) else {
            self.outside.counts.junk += 1;
            return false;
        };
        conn.seen(path, to);
        hold_if_behind(&self.outside.rooms, conn, now);
        conn.transport.handle(now, path.to, to, bytes);
        let proved = conn.transport.is_authenticated(path.to);
        self.settle(now, connection);
        proved
    }

    pub(super) fn rtp(&mut self, now: Instant, connection: usize, bytes: &mut [u8]) {
        let Some(conn) = self.outside.connections.get_mut(connection) else { return };
        let Role::Publisher { ingress, twcc } = &mut conn.role else {
            self.outside.counts.unclaimed += 1;
            return;
        };
        let Ok(plain) = conn.transport.open_rtp(bytes) else {
            self.outside.counts.unauthentic += 1;
            return;
        };
        match ingress.accept(now, plain, |number, ssrc| twcc.record(now, number, ssrc)) {
            Ok(accepted) => {
                self.outside.counts.media_in += 1;
                self.core.ingest(now, accepted.track, accepted.layer, &accepted.packet, &mut self.outside);
            }
            Err(Refused::OtherCodec { track, codec, news }) => {
                self.outside.counts.unclaimed += 1;
                if news {
                    self.outside.other_codec(track, codec);
                }
            }
            Err(Refused::Malformed | Refused::Unclaimed) => self.outside.counts.unclaimed += 1,
            Err(Refused::TooManyStreams) => self.outside.counts.too_many_streams += 1,
            Err(Refused::Nothing) => {}
        }
    }

    /// Brings out what a transport has to say after it was touched, and looks when it is due.
    pub(super) fn settle(&mut self, now: Instant, connection: usize) {
        while let Some(event) =
            self.outside.connections.get_mut(connection).and_then(|conn| conn.transport.poll_event())
        {
            self.transport_event(now, connection, event);
        }
        let Some(conn) = self.outside.connections.get_mut(connection) else { return };
        conn.reroute();
        loop {
            self.scratch.clear();
            let Some(to) = conn.transport.poll_transmit(&mut self.scratch) else { break };
            // An answer to a check goes back the way that it came; all else goes the way of media.
            let is_check = protocol_of(&self.scratch) == Some(Class::Stun);
            let chosen = conn.route.filter(|route| route.to == to && !is_check);
            let Some(path) = chosen.or_else(|| conn.path(to)) else { continue };
            let mut datagrams = self.outside.outgoing.fresh();
            datagrams.push_with(|bytes, _| {
                bytes.extend_from_slice(&self.scratch);
                true
            });
            self.outside.outgoing.submit(path, datagrams);
        }
        conn.reroute();
        hold_if_behind(&self.outside.rooms, conn, now);
        self.outside.counts.data_held += conn.transport.take_data_waits();
        let due = conn.transport.poll_timeout().map(|due| due.max(now + MIN_DELAY));
        if let Some(due) = due
            && conn.scheduled.is_none_or(|scheduled| due < scheduled)
        {
            conn.scheduled = Some(due);
            self.timers.push(Reverse((due, connection)));
        }
    }

    fn transport_event(&mut self, now: Instant, connection: usize, event: TransportEvent) {
        let Some(conn) = self.outside.connections.get_mut(connection) else { return };
        let (room, participant, side) = (conn.room, conn.participant, conn.side());
        match event {
            TransportEvent::Connected { .. } => {
                conn.connected = true;
                conn.reroute();
                self.outside.tell(room, Event::Connected { participant, side });
                self.start_downtracks(now, connection);
            }
            TransportEvent::ChannelOpen { id, .. } => {
                if let Role::Subscriber { channels, .. } = &mut conn.role {
                    self.outside.counts.data_dropped += channels.opened(id, &mut conn.transport);
                }
            }
            TransportEvent::ChannelData { label, data, .. } => {
                if let Some(channel) = channel_of(&label) {
                    self.outside.tell(room, Event::Data { participant, channel, data });
                }
            }
            TransportEvent::ChannelClosed { id } => {
                if let Role::Subscriber { channels, .. } = &mut conn.role {
                    self.outside.counts.data_dropped += channels.closed(id);
                }
            }
            TransportEvent::Closed { reason } => self.outside.tell_closed(connection, reason.to_string()),
        }
    }

    fn start_downtracks(&mut self, now: Instant, connection: usize) {
        let subs = match self.outside.connections.get(connection).map(|conn| &conn.role) {
            Some(Role::Subscriber { downtracks, .. }) => downtracks.clone(),
            _ => return,
        };
        for sub in subs {
            if let Some(target) = self.outside.sending(sub).map(|sending| sending.target) {
                self.core.set_target(now, sub, target, &mut self.outside);
            }
        }
    }

    /// Takes batches from the links' thread. True when there may be more.
    pub(super) fn take_batches(&mut self, now: Instant) -> bool {
        for _ in 0..MAX_BATCHES {
            let Some(batch) = self.outside.links.recv() else { return false };
            for (entry, bytes) in batch.iter() {
                self.link_packet(now, entry.peer, entry.flow, bytes);
            }
            self.outside.links.recycle(batch);
        }
        true
    }

    /// When [`Engine::timeout`] is due.
    pub(super) fn deadline(&self) -> Instant {
        let timer = self.timers.peek().map(|Reverse((due, _))| *due);
        [timer, self.core.poll_timeout()].into_iter().flatten().fold(self.next_tick, Instant::min)
    }

    /// Does what is due.
    pub(super) fn timeout(&mut self, now: Instant) {
        while let Some(Reverse((due, connection))) = self.timers.peek().copied()
            && due <= now
        {
            self.timers.pop();
            let Some(conn) = self.outside.connections.get_mut(connection) else { continue };
            if conn.scheduled != Some(due) {
                continue;
            }
            conn.scheduled = None;
            hold_if_behind(&self.outside.rooms, conn, now);
            if conn.transport.poll_timeout().is_some_and(|due| due <= now) {
                conn.transport.handle_timeout(now);
            }
            self.settle(now, connection);
        }
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.core.handle_timeout(now, &mut self.outside);
        }
        if now >= self.next_tick {
            let behind = self.outside.rooms.values().any(|room| room.is_behind());
            self.next_tick = now + if behind { RETRY } else { TICK };
            self.tick(now);
        }
        if now >= self.next_speakers {
            self.next_speakers = now + SPEAKERS;
            self.tell_speakers(now);
        }
    }

    fn tell_speakers(&mut self, now: Instant) {
        let mut changed: FxHashMap<RoomKey, Vec<Speaker>> = FxHashMap::default();
        for speaker in self.core.speakers(now) {
            let Some(track) = self.outside.track(speaker.track) else { continue };
            let heard = Speaker { track: track.key, level: speaker.level, active: speaker.active };
            changed.entry(track.room).or_default().push(heard);
        }
        for (room, changed) in changed {
            self.outside.tell(room, Event::Speakers { changed });
        }
    }

    /// Ends a turn: what was gathered is submitted.
    pub(super) fn finish_turn(&mut self, now: Instant) {
        while let Some((track, layers)) = self.core.poll_wanted() {
            self.outside.wanted(track, layers);
        }
        let mut caught_up = Vec::new();
        for (key, room) in &mut self.outside.rooms {
            if !room.is_behind() {
                continue;
            }
            if room.retry() {
                self.next_tick = self.next_tick.min(now + RETRY);
            } else {
                caught_up.push(*key);
            }
        }
        if !caught_up.is_empty() {
            self.let_go(now, &caught_up);
        }
        self.outside.submit_all();
    }

    /// Rooms have caught up: their clients' messages are read again.
    fn let_go(&mut self, now: Instant, rooms: &[RoomKey]) {
        let held: Vec<usize> = self
            .outside
            .connections
            .iter()
            .filter(|(_, conn)| rooms.contains(&conn.room))
            .map(|(key, _)| key)
            .collect();
        for connection in held {
            self.settle(now, connection);
        }
    }
}

/// A client's messages wait while its room does not keep up.
fn hold_if_behind(rooms: &FxHashMap<RoomKey, Room>, conn: &mut Connection, now: Instant) {
    conn.transport.hold_data(now, rooms.get(&conn.room).is_some_and(Room::is_behind));
}
