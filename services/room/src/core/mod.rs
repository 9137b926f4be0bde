//! The core of one room on one node: it owns the node's copy of the room, the LiveKit sessions of the
//! participants whose media is here, the worker's view of the room and the room's part of the links.

mod command_queue;
mod config;
mod data;
mod ending;
mod leaving;
mod local_participant;
mod local_participants;
mod participants;
mod peer_node;
mod peer_queue;
mod peers;
mod pushed;
mod residency;
#[cfg(test)]
mod tests;
mod tracks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use livekit_protocol::DisconnectReason;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;
use systir_assignment::{Assignment, RoomId};
use systir_livekit::MediaEvent;
use systir_media_control::{Command, Event, ParticipantKey};
use systir_proto::cluster::v1::room_message::Body;
use systir_reason::Reason;

pub use command_queue::WorkerRequest;
pub use config::{FlowAllocator, RoomConfig};
pub use residency::residency_of;

use crate::{ClusterView, Now, Residency, RoomEffect, RoomInput, RoomLinkEvent, RoomState};
use command_queue::CommandQueue;
use leaving::Leaving;
use local_participant::LocalParticipant;
use peer_node::PeerNode;
use pushed::Pushed;
use tracks::Tracks;

/// A node that did not open the room, or had no lease, is asked again after this time: it may have read
/// the assignment only now.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// Participants of a node whose link is down are kept this long.
const LINK_DOWN_GRACE: Duration = Duration::from_secs(8);

/// How long the room takes no worker events and no requests because a link or the worker is full. After
/// that it takes them again, and each full queue deals with its own overflow. Shorter than a client waits
/// for an answer to its ping.
const MAX_HOLD: Duration = Duration::from_secs(2);

/// How soon a room with full queues tries again.
const BUSY_TICK: Duration = Duration::from_millis(10);

/// How often a room looks at what is due at least.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// The room. After every call take its effects, in this order: requests to the worker
/// ([`RoomCore::flush_to_worker`]), so that the worker stops feeding a link before the room closes on it;
/// [`RoomCore::poll_effect`]; messages ([`RoomCore::flush_to_peers`]).
#[derive(Debug)]
pub struct RoomCore {
    config: RoomConfig,
    id: RoomId,
    now: Now,
    rng: StdRng,
    commands: CommandQueue,
    effects: VecDeque<RoomEffect>,
    assignment: Assignment,
    cluster: ClusterView,
    replica: RoomState,
    local_participants: FxHashMap<ParticipantKey, LocalParticipant>,
    tracks: Tracks,
    peers: BTreeMap<String, PeerNode>,
    /// Nodes whose link went down, and when.
    links_down: BTreeMap<String, Instant>,
    /// What participants here last received.
    sent_residency: Option<Residency>,
    residency_due: bool,
    /// Gateways of the room, and since when, Unix milliseconds.
    gateways: BTreeMap<String, Option<u64>>,
    /// What the other nodes last received about this node's links.
    sent_links: Option<BTreeMap<String, bool>>,
    /// Participants whose clients do not read their signalling.
    unread: BTreeSet<ParticipantKey>,
    empty_since: Option<Instant>,
    /// When nodes that did not open the room are asked again.
    retry_at: Instant,
    /// Since when the room takes no worker events.
    held_since: Option<Instant>,
    leaving: Option<Leaving>,
    /// When the room may next be written into the registry again.
    restore_at: Instant,
}

impl RoomCore {
    /// A room that opens at its worker; `seed` is the source of all its randomness, also of secrets.
    /// [`RoomInput::Cluster`] should follow at once.
    #[must_use]
    pub fn new(config: RoomConfig, seed: [u8; 32], now: Now) -> Self {
        config.metrics.rooms.inc();
        config.metrics.rooms_opened.inc();
        let mut core = Self {
            id: config.assignment.room.clone(),
            now,
            rng: StdRng::from_seed(seed),
            commands: CommandQueue::default(),
            effects: VecDeque::new(),
            assignment: config.assignment.clone(),
            cluster: ClusterView::default(),
            replica: RoomState::new(config.node.clone(), now.unix_ms),
            local_participants: FxHashMap::default(),
            tracks: Tracks::default(),
            peers: BTreeMap::new(),
            links_down: BTreeMap::new(),
            sent_residency: None,
            residency_due: false,
            gateways: BTreeMap::new(),
            sent_links: None,
            unread: BTreeSet::new(),
            empty_since: Some(now.instant),
            retry_at: now.instant,
            held_since: None,
            leaving: None,
            restore_at: now.instant,
            config,
        };
        core.commands.push(WorkerRequest::OpenRoom);
        core
    }

    /// The room.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// The assignment that the room goes by.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// The other nodes that the room deals with: in its assignment, on a link, or lost a moment ago.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        let assigned = self.assignment.nodes().map(AsRef::as_ref);
        assigned
            .chain(self.peers.keys().map(String::as_str))
            .chain(self.links_down.keys().map(String::as_str))
    }

    /// Takes one input.
    pub fn handle(&mut self, input: RoomInput, now: Now) {
        self.now = now;
        match input {
            RoomInput::Arrive(arrival) => self.arrive(*arrival),
            RoomInput::Request { participant, request } => self.request(participant, *request),
            RoomInput::SignalClosed(participant) => self.signal_closed(participant),
            RoomInput::SignalFull(participant) => {
                self.unread.insert(participant);
            }
            RoomInput::Link(event) => self.link_event(event),
            RoomInput::Worker(event) => self.worker_event(event),
            RoomInput::Cluster(view) => {
                self.cluster = view;
                self.cluster_changed();
            }
            RoomInput::AssignmentLeft(may_end) => self.assignment_left(may_end),
        }
    }

    /// What is to be done, oldest first.
    pub fn poll_effect(&mut self) -> Option<RoomEffect> {
        self.effects.pop_front()
    }

    /// Hands waiting requests to the worker, in order. `send` returns a request that the worker does not take
    /// now.
    pub fn flush_to_worker(&mut self, send: impl FnMut(WorkerRequest) -> Result<(), WorkerRequest>) {
        self.commands.flush(send);
    }

    /// The next request to the worker, oldest first. Call it only when the worker takes one.
    pub fn next_worker_request(&mut self) -> Option<WorkerRequest> {
        self.commands.pop()
    }

    /// Do requests to the worker wait?
    #[must_use]
    pub fn has_worker_requests(&self) -> bool {
        self.commands.is_waiting()
    }

    /// The worker has ended: no request to it matters any more.
    pub fn worker_ended(&mut self) {
        self.commands.restart();
    }

    /// Hands waiting messages to the links. `send` gets a node and a message, and returns the message when
    /// the link does not take it now.
    pub fn flush_to_peers(&mut self, mut send: impl FnMut(&str, Body) -> Result<(), Box<Body>>) {
        for (node, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.queue.is_waiting()) {
            let dropped = peer.queue.flush(|body| send(node, body));
            if dropped > 0 {
                self.config.metrics.overloads.get_or_create(&Reason::LossyData.into()).inc_by(dropped);
            }
        }
    }

    /// Does the room take worker events and clients' requests now? Both become commands and messages to
    /// other nodes. While those queues are full, both wait; the worker in turn does not read its clients'
    /// messages, and gateways do not read their sockets.
    pub fn accepts_events(&mut self, now: Instant) -> bool {
        let full = self.commands.is_long() || self.peers.values().any(|peer| peer.queue.is_long());
        // A peer that takes a message now and then has not caught up, and does not restart the hold.
        let caught_up = self.commands.is_short() && self.peers.values().all(|peer| peer.queue.is_short());
        if caught_up {
            self.held_since = None;
        }
        !full || now.duration_since(*self.held_since.get_or_insert(now)) > MAX_HOLD
    }

    /// When [`RoomCore::tick`] is next due.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Instant {
        let sessions = self.local_participants.values().filter_map(LocalParticipant::poll_timeout).min();
        let waits = self.held_since.is_some() || self.peers.values().any(|peer| peer.queue.is_waiting());
        let idle = now + if waits { BUSY_TICK } else { IDLE_TICK };
        sessions.map_or(idle, |due| due.clamp(now, idle))
    }

    /// Does what is due; call it after each input too. `seats_held` answers whether a participant of the
    /// room holds a seat here, arrived or not; it is asked of an empty room only. Returns true when the room
    /// has ended.
    pub fn tick(&mut self, now: Now, seats_held: impl FnOnce() -> bool) -> bool {
        self.now = now;
        let due: Vec<ParticipantKey> = self
            .local_participants
            .iter()
            .filter(|(_, local)| local.poll_timeout().is_some_and(|due| due <= now.instant))
            .map(|(key, _)| *key)
            .collect();
        for participant in due {
            self.tick_participant(participant);
        }
        let gone: Vec<String> = self
            .links_down
            .iter()
            .filter(|(node, since)| {
                now.instant.duration_since(**since) > LINK_DOWN_GRACE
                    || !self.cluster.nodes.contains_key(*node)
            })
            .map(|(node, _)| node.clone())
            .collect();
        for node in gone {
            self.links_down.remove(&node);
            self.remove_node(&node);
        }
        if self.peers.values().any(|peer| peer.needed.is_none()) && now.instant >= self.retry_at {
            self.retry_at = now.instant + REOPEN_INTERVAL;
            self.cluster_changed();
        }
        self.reopen_overflowed_peers();
        self.remove_unread();
        if self.commands.has_overflowed() {
            self.restart_at_worker();
        }
        self.restore_assignment();
        if std::mem::take(&mut self.residency_due) {
            self.send_links();
            self.send_residency();
        }
        if self.local_participants.is_empty() {
            self.empty_since.get_or_insert(now.instant);
        } else {
            self.empty_since = None;
        }
        self.has_ended(seats_held)
    }

    fn link_event(&mut self, event: RoomLinkEvent) {
        match event {
            RoomLinkEvent::Opened { node, link } => {
                self.links_down.remove(&node);
                self.peer_opened(&node, link);
            }
            RoomLinkEvent::Refused { node, reason, closed } => {
                tracing::debug!(node, reason, closed, "the room is not open on the link to another node");
                self.peer_closed(&node);
                self.retry_later(&node);
            }
            RoomLinkEvent::Down { node } => self.peer_closed(&node),
            RoomLinkEvent::Message { node, body } => self.peer_message(&node, body),
            RoomLinkEvent::Overflowed { node } => {
                tracing::warn!(
                    node,
                    "a node sends more than the room can take; the room is opened to it again"
                );
                self.config.metrics.overloads.get_or_create(&Reason::RoomInbox.into()).inc();
                self.reopen(&node);
            }
        }
    }

    /// Closes the room to a node and opens it again, so that both ends begin with whole copies.
    fn reopen(&mut self, node: &str) {
        self.peer_closed(node);
        self.effects.push_back(RoomEffect::CloseOnLink { node: node.to_owned() });
        self.retry_later(node);
    }

    fn retry_later(&mut self, node: &str) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.needed = None;
            self.retry_at = self.now.instant + REOPEN_INTERVAL;
        }
    }

    fn worker_event(&mut self, event: Event) {
        match event {
            Event::Connected { participant, side } => self.connected(participant, side),
            Event::Closed { participant, side, reason } => self.transport_closed(participant, side, &reason),
            Event::Data { participant, channel, data } => self.data_received(participant, channel, &data),
            Event::Codec { participant, track, codec } => {
                self.media_event(participant, MediaEvent::Codec { track, codec });
            }
            Event::Speakers { changed } => self.speakers_here(&changed),
            Event::Wanted { track, layers } => self.wanted_changed(track, layers),
            Event::KeyFrameNeeded { track, layer } => self.key_frame_needed(track, layer),
        }
    }

    /// Sends a command to the worker, in the room's turn.
    fn command(&mut self, command: Command) {
        if self.commands.push(WorkerRequest::Command(command)) == Pushed::Dropped {
            self.config.metrics.overloads.get_or_create(&Reason::LossyData.into()).inc();
        }
    }

    /// The worker took nothing for so long that commands are lost: the room restarts there. Participants
    /// here must join again, since the worker's state of them is unknown.
    fn restart_at_worker(&mut self) {
        tracing::error!(
            worker = self.config.worker_index,
            "the worker takes no commands; the room restarts there"
        );
        self.config.metrics.overloads.get_or_create(&Reason::WorkerCommands.into()).inc();
        self.disconnect_all(DisconnectReason::MediaFailure);
        self.remove_remote_tracks();
        self.commands.restart();
        self.command(Command::CloseRoom { room: self.config.key });
        self.commands.push(WorkerRequest::OpenRoom);
        let open: Vec<String> =
            self.peers.iter().filter(|(_, peer)| peer.link.is_some()).map(|(node, _)| node.clone()).collect();
        for node in open {
            self.update_participants_of(&node);
        }
    }

    fn cluster_changed(&mut self) {
        if let Some(current) = &self.cluster.assignment {
            // An older epoch is an echo of an assignment that was taken over.
            if current.epoch >= self.assignment.epoch && *current != self.assignment {
                self.assignment = current.clone();
                self.sent_residency = None;
                self.residency_changed();
            }
        }
        self.sync_peers();
    }

    fn residency_changed(&mut self) {
        self.residency_due = true;
    }

    /// Residency of the room, as this node knows it.
    pub fn residency(&mut self) -> Residency {
        self.update_gateways();
        let facts = residency::Facts {
            assignment: &self.assignment,
            me: &self.config.node,
            complete: true,
            gateways: &self.gateways,
            links: &self.reported_links(),
        };
        residency::compute(&facts, &self.config.authority)
    }

    /// Join number of the last join of an identity that this node knows; 0 for none.
    #[must_use]
    pub fn last_join(&self, identity: &str) -> u64 {
        self.replica.last_join(identity).unwrap_or_default()
    }

    /// A node is a gateway since its first participant joined, whether or not that one is still here.
    fn update_gateways(&mut self) {
        let now = self.current_gateways();
        let known = std::mem::replace(&mut self.gateways, now);
        for (gateway, since) in &mut self.gateways {
            *since = since.iter().chain(known.get(gateway).into_iter().flatten()).min().copied();
        }
    }
}
