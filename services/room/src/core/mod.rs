//! The core of one room on one node. It owns the node's replica of the room's state, the LiveKit sessions of
//! the participants whose media is on this node, the room's state at its worker, and its state on the links.
//! Terms: a *local participant* has its media on this node; a *peer* is another node of the room.

mod command_queue;
mod config;
mod data;
mod ending;
mod enforcement;
mod grant;
mod hold;
mod leaving;
mod local_participant;
mod local_participant_map;
mod local_participants;
mod participants;
mod peer_node;
mod peer_pace;
mod peer_queue;
mod peers;
mod pushed;
mod quality;
mod residency;
mod shown_tickets;
mod slow_data;
#[cfg(test)]
mod tests;
mod ticket_book;
mod ticket_life;
mod tickets;
mod tracks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::DisconnectReason;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustc_hash::FxHashMap;
use systir_assignment::{Assignment, MediaRole, RoomId};
use systir_livekit::{MediaEvent, RemoteParticipant};
use systir_media_control::{ParticipantKey, WorkerCommand, WorkerEvent};
use systir_policy::{Decision, RoomAttributes};
use systir_proto::cluster::v1::room_message::Body;
use systir_reason::Reason;

pub use command_queue::WorkerRequest;
pub use config::{FlowAllocator, RoomConfig};
pub use residency::residency_of;

use crate::{ClusterView, Now, Residency, RoomEffect, RoomInput, RoomLinkEvent, RoomState};
use command_queue::CommandQueue;
use hold::Hold;
use leaving::Leaving;
use local_participant_map::LocalParticipantMap;
use peer_node::PeerNode;
use peer_pace::PeerPace;
use pushed::Pushed;
use quality::Qualities;
use slow_data::SlowReaders;
use ticket_book::TicketBook;
use tracks::Tracks;

/// Time before the room is opened again to a node that refused it or had no lease: the node may not have read
/// the assignment yet.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// How long participants of a node are kept after its link went down.
const LINK_DOWN_GRACE: Duration = Duration::from_secs(8);

/// How often a room with waiting messages tries to send them.
const BUSY_TICK: Duration = Duration::from_millis(10);

/// Longest time between two ticks.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// The room. After each call, do what it wants in this order: send the commands to the worker
/// ([`RoomCore::flush_to_worker`]), so that it stops feeding a link before the room closes on it; do the
/// effects ([`RoomCore::poll_effect`]); send the messages to other nodes ([`RoomCore::flush_to_peers`]).
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
    tickets: TicketBook,
    /// Nodes of which a record was refused that may be valid after a change of policy, a directory or the room's record.
    refused_peers: BTreeSet<String>,
    /// Sids of the room that its tickets may name, the present one first.
    room_sids: Vec<String>,
    local_participants: LocalParticipantMap,
    /// Participants by sid as sessions were last shown them. A hidden one is not in it.
    shown: FxHashMap<String, Arc<RemoteParticipant>>,
    tracks: Tracks,
    peers: BTreeMap<String, PeerNode>,
    peer_pace: PeerPace,
    /// What the institution's bundle says of the room.
    attributes: RoomAttributes,
    /// Region and country of this node and its peers, as participants were last shown with.
    places: BTreeMap<String, (String, String)>,
    /// Decisions on the nodes of this assignment by role, so that a change of the registry costs none. They end with the
    /// policy that made them.
    decisions: BTreeMap<(MediaRole, String), Decision>,
    /// Policy denies this node its role, and that was journaled.
    denied_here: bool,
    /// When the link to a node went down, by node. Its participants are still in the room.
    links_down: BTreeMap<String, Instant>,
    /// What local participants last received.
    sent_residency: Option<Residency>,
    residency_due: bool,
    /// Gateways of the room, and since when, Unix milliseconds.
    gateways: BTreeMap<String, Option<u64>>,
    /// Home node only: the assignment that the peers received last.
    told: Option<Assignment>,
    /// Did this node, as home, hand the role over? Then the peers follow the new home by its word.
    handed_over: bool,
    /// What the peers last received about this node's links.
    sent_links: Option<BTreeMap<String, bool>>,
    /// Participants whose clients do not read their signalling.
    unread: BTreeSet<ParticipantKey>,
    empty_since: Option<Instant>,
    /// When the room is next opened to nodes that refused it.
    reopen_at: Instant,
    /// A full queue keeps the room from accepting worker events and client requests.
    events_held: Hold,
    /// A full command queue keeps the room from reading link events.
    links_held: Hold,
    slow_readers: SlowReaders,
    qualities: Qualities,
    leaving: Option<Leaving>,
    /// When the room's record may next be written.
    write_record_at: Instant,
    /// When the home node next removes spill nodes that policy denies from the room's record.
    remove_denied_at: Instant,
}

impl RoomCore {
    /// A room, which opens at its worker. `seed` is the source of all its randomness, including secrets, so
    /// it must be secret itself. [`RoomInput::Cluster`] should follow at once.
    #[must_use]
    pub fn new(config: RoomConfig, seed: [u8; 32], now: Now) -> Self {
        config.metrics.rooms.inc();
        config.metrics.rooms_opened.inc();
        let mut rng = StdRng::from_seed(seed);
        // Not the time: a clock may be set back before the room's next start.
        let incarnation = rng.random();
        let mut core = Self {
            id: config.assignment.room.clone(),
            now,
            rng,
            commands: CommandQueue::default(),
            effects: VecDeque::new(),
            assignment: config.assignment.clone(),
            cluster: ClusterView::default(),
            replica: RoomState::with_totals(config.node.clone(), incarnation, config.replicas.clone()),
            tickets: TicketBook::default(),
            refused_peers: BTreeSet::new(),
            room_sids: vec![config.assignment.sid.clone()],
            local_participants: LocalParticipantMap::default(),
            shown: FxHashMap::default(),
            tracks: Tracks::default(),
            peers: BTreeMap::new(),
            peer_pace: PeerPace::default(),
            attributes: config.authority.room(&config.assignment.room),
            places: BTreeMap::new(),
            decisions: BTreeMap::new(),
            denied_here: false,
            links_down: BTreeMap::new(),
            sent_residency: None,
            residency_due: false,
            gateways: BTreeMap::new(),
            sent_links: None,
            unread: BTreeSet::new(),
            empty_since: Some(now.instant),
            reopen_at: now.instant,
            events_held: Hold::default(),
            links_held: Hold::default(),
            slow_readers: SlowReaders::default(),
            qualities: Qualities::default(),
            leaving: None,
            write_record_at: now.instant,
            told: None,
            handed_over: false,
            remove_denied_at: now.instant,
            config,
        };
        core.commands.push(WorkerRequest::OpenRoom);
        core
    }

    /// The room's id.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// The assignment that the room currently follows.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Names of the nodes whose lease and address the room needs: nodes of its assignment, peers, and nodes
    /// whose link is down. A name may occur more than once.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        let assigned = self.assignment.nodes().map(AsRef::as_ref);
        assigned
            .chain(self.peers.keys().map(String::as_str))
            .chain(self.links_down.keys().map(String::as_str))
    }

    /// Handles one input.
    pub fn handle(&mut self, input: RoomInput, now: Now) {
        self.now = now;
        match input {
            RoomInput::Arrive(arrival) => self.arrive(*arrival),
            RoomInput::Request { participant, request } => self.request(participant, *request),
            RoomInput::Ticket { participant, note } => self.renew_ticket(participant, note),
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
            RoomInput::AskToReconnect(count) => self.ask_to_reconnect(count),
            RoomInput::PolicyChanged => self.policy_changed(),
            RoomInput::AssignmentLeft(may_end) => self.assignment_left(may_end),
        }
    }

    /// The next effect to do, oldest first.
    pub fn poll_effect(&mut self) -> Option<RoomEffect> {
        self.effects.pop_front()
    }

    /// Sends waiting requests to the worker, in order. `send` returns a request that the worker does not
    /// accept now.
    pub fn flush_to_worker(&mut self, send: impl FnMut(WorkerRequest) -> Result<(), WorkerRequest>) {
        self.commands.flush(send);
    }

    /// The next request to the worker, oldest first. Call it only when the worker accepts one.
    pub fn next_worker_request(&mut self) -> Option<WorkerRequest> {
        self.commands.pop()
    }

    /// Are there waiting requests to the worker?
    #[must_use]
    pub fn has_worker_requests(&self) -> bool {
        self.commands.is_waiting()
    }

    /// The worker has ended: waiting requests to it are dropped.
    pub fn worker_ended(&mut self) {
        self.commands.restart();
    }

    /// Sends waiting messages to the peers. `send` gets a node and a message, and returns the message when
    /// the link does not accept it now.
    pub fn flush_to_peers(&mut self, mut send: impl FnMut(&str, Body) -> Result<(), Box<Body>>) {
        for (node, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.queue.is_waiting()) {
            let dropped = peer.queue.flush(|body| send(node, body));
            if dropped > 0 {
                self.config.metrics.overloads.get_or_create(&Reason::LossyData.into()).inc_by(dropped);
            }
        }
    }

    /// Does the room accept worker events and client requests now? Both cause commands to the worker and
    /// messages to other nodes. While those queues are full, both wait, so that the worker stops reading its
    /// clients' messages and gateways stop reading their sockets.
    pub fn accepts_events(&mut self, now: Instant) -> bool {
        let full = self.commands.is_long() || self.peers.values().any(|peer| peer.queue.is_nearly_full());
        // A peer that accepts only some messages has not caught up: the hold continues.
        let caught_up = self.commands.is_short() && self.peers.values().all(|peer| peer.queue.is_short());
        self.events_held.accepts(now, full, caught_up)
    }

    /// Does the room read link events now? A data message of another node is a command for each reader here. While
    /// the command queue is full, link events wait in their own queue.
    pub fn accepts_link_events(&mut self, now: Instant) -> bool {
        self.links_held.accepts(now, self.commands.is_long(), self.commands.is_short())
    }

    /// When [`RoomCore::tick`] is next due.
    #[must_use]
    pub fn next_due(&mut self, now: Instant) -> Instant {
        let sessions = self.local_participants.next_due();
        let held = self.events_held.is_held() || self.links_held.is_held();
        let waits = held || self.peers.values().any(|peer| peer.queue.is_waiting());
        let idle = now + if waits { BUSY_TICK } else { IDLE_TICK };
        sessions.map_or(idle, |due| due.clamp(now, idle))
    }

    /// Does what is due. Call it after each input too. `seats_held`: is a seat on this node held or reserved
    /// for a participant of the room? It is called only for an empty room. Returns true when the room has
    /// ended.
    pub fn tick(&mut self, now: Now, seats_held: impl FnOnce() -> bool) -> bool {
        self.now = now;
        for participant in self.local_participants.due(now.instant) {
            self.tick_participant(participant);
        }
        let expired: Vec<String> = self
            .links_down
            .iter()
            .filter(|(node, since)| {
                now.instant.duration_since(**since) > LINK_DOWN_GRACE
                    || !self.cluster.nodes.contains_key(*node)
            })
            .map(|(node, _)| node.clone())
            .collect();
        for node in &expired {
            self.links_down.remove(node);
            self.remove_node(node);
            // A node that was stopped has no lease.
            if self.is_home() && self.assignment.has(node) && !self.cluster.nodes.contains_key(node) {
                self.effects.push_back(RoomEffect::RemoveSpill { node: node.clone() });
            }
        }
        if !expired.is_empty() {
            // A node that the record does not have was kept for its participants only.
            self.sync_peers();
        }
        if self.peers.values().any(|peer| peer.needed.is_none()) && now.instant >= self.reopen_at {
            self.reopen_at = now.instant + REOPEN_INTERVAL;
            self.cluster_changed();
        }
        self.reopen_overflowed_peers();
        self.tell_slow_data();
        self.tell_qualities();
        self.remove_unread();
        self.end_expired_tickets();
        if self.commands.has_overflowed() {
            self.restart_at_worker();
        }
        self.write_record();
        self.tell_assignment();
        self.remove_denied_spill_nodes();
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
            RoomLinkEvent::Refused { node, reason, by_peer } => {
                tracing::debug!(node, reason, by_peer, "a room was refused or closed on a link");
                self.peer_closed(&node);
                if by_peer {
                    self.closed_by_peer(&node);
                }
                self.reopen_later(&node);
            }
            RoomLinkEvent::Down { node } => self.peer_closed(&node),
            RoomLinkEvent::Message { node, body } => self.peer_message(&node, body),
            RoomLinkEvent::Overflowed { node } => {
                tracing::warn!(node, "the link event queue overflowed; the room is reopened to the node");
                self.config.metrics.overloads.get_or_create(&Reason::LinkEventQueue.into()).inc();
                self.reopen(&node);
            }
        }
    }

    /// Closes the room to a node and opens it again, so that both ends exchange snapshots.
    pub(super) fn reopen(&mut self, node: &str) {
        self.peer_closed(node);
        self.effects.push_back(RoomEffect::CloseOnLink { node: node.to_owned() });
        self.reopen_later(node);
    }

    fn reopen_later(&mut self, node: &str) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.needed = None;
            self.reopen_at = self.now.instant + REOPEN_INTERVAL;
        }
    }

    fn worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Connected { participant, side } => self.connected(participant, side),
            WorkerEvent::Closed { participant, side, reason } => {
                self.transport_closed(participant, side, &reason)
            }
            WorkerEvent::Data { participant, channel, data } => {
                self.data_received(participant, channel, &data)
            }
            WorkerEvent::ReadersSlow { slow } => self.slow_readers.here = slow,
            WorkerEvent::ReaderEnded { participant } => self.reader_ended(participant),
            WorkerEvent::Codec { participant, track, codec } => {
                self.media_event(participant, MediaEvent::Codec { track, codec });
            }
            WorkerEvent::Speakers { changed } => self.speakers_here(&changed),
            WorkerEvent::Wanted { track, layers } => self.wanted_changed(track, layers),
            WorkerEvent::Quality { participant, quality, score } => {
                self.quality_changed(participant, quality, score);
            }
            WorkerEvent::StreamState { participant, changes } => {
                self.media_event(participant, MediaEvent::StreamState { changes });
            }
            WorkerEvent::KeyFrameNeeded { track, layer } => self.key_frame_needed(track, layer),
        }
    }

    /// Queues a command for the worker.
    fn command(&mut self, command: WorkerCommand) {
        if self.commands.push(WorkerRequest::Command(command)) == Pushed::Dropped {
            self.config.metrics.overloads.get_or_create(&Reason::LossyData.into()).inc();
        }
    }

    /// Restarts the room at its worker after the command queue overflowed and commands were lost. Local
    /// participants must join again, because their state at the worker is unknown.
    fn restart_at_worker(&mut self) {
        tracing::error!(
            worker = self.config.worker_index,
            "the command queue overflowed; the room restarts at its worker"
        );
        self.config.metrics.overloads.get_or_create(&Reason::CommandQueue.into()).inc();
        self.disconnect_all(DisconnectReason::MediaFailure);
        self.remove_remote_tracks();
        self.commands.restart();
        self.command(WorkerCommand::CloseRoom { room: self.config.key });
        self.commands.push(WorkerRequest::OpenRoom);
        // The room is new at the worker, and without readers.
        self.slow_readers = SlowReaders::default();
        let open: Vec<String> =
            self.peers.iter().filter(|(_, peer)| peer.link.is_some()).map(|(node, _)| node.clone()).collect();
        for node in open {
            self.update_participants_of(&node);
        }
    }

    fn cluster_changed(&mut self) {
        let known = self.cluster.assignment.clone().filter(|known| *known != self.assignment);
        if let Some(known) = known {
            let same_nodes =
                known.nodes().eq(self.assignment.nodes()) && known.epoch == self.assignment.epoch;
            if known.grant != self.assignment.grant {
                // Participants see how old the grant is.
                self.residency_changed();
            }
            let was_home = self.is_home();
            self.assignment = known;
            self.remember_room_sid();
            self.leave_former_room();
            if was_home && !self.is_home() {
                self.is_home_no_more();
            }
            if !same_nodes {
                self.decisions.clear();
                self.sent_residency = None;
                self.residency_changed();
            }
        }
        // A new grant may state another class of the room.
        if self.config.authority.room(&self.id) != self.attributes {
            self.policy_changed();
        }
        self.enforce_end_of_grant();
        self.sync_peers();
    }

    /// Another node is home now.
    fn is_home_no_more(&mut self) {
        self.handed_over = true;
        self.told = None;
        if self.local_participants.is_empty() {
            return self.carries_nobody();
        }
        // As home it showed none.
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.show_tickets(&node);
        }
    }

    fn is_home(&self) -> bool {
        self.assignment.home == *self.config.node.as_str()
    }

    fn residency_changed(&mut self) {
        self.residency_due = true;
    }

    /// The room's residency, as this node knows it.
    pub fn residency(&mut self) -> Residency {
        self.update_gateways();
        let facts = residency::Facts {
            assignment: &self.carrying_nodes(),
            me: &self.config.node,
            complete: true,
            gateways: &self.gateways,
            links: &self.reported_links(),
        };
        residency::compute(&facts, &self.config.authority)
    }

    /// The assignment, with the nodes that carry participants although the record does not have them.
    fn carrying_nodes(&self) -> Assignment {
        let mut carrying = self.assignment.clone();
        let open = self.peers.iter().filter(|(_, peer)| peer.link.is_some()).map(|(node, _)| node);
        let me = Some(&self.config.node).filter(|_| !self.local_participants.is_empty());
        for node in open.chain(me).filter(|node| !self.assignment.has(node)) {
            carrying.spill.push(node.as_str().into());
        }
        carrying
    }

    /// Participants on other nodes, over links that stand, whose identity begins with `prefix` and counts.
    pub fn elsewhere(&self, prefix: &str, counts: impl Fn(&str) -> bool) -> usize {
        let linked = |node: &str| self.peers.get(node).is_some_and(|peer| peer.link.is_some());
        let found = self.replica.with_prefix(prefix);
        found.filter(|one| linked(&one.owner) && counts(&one.identity)).count()
    }

    /// Join number of the last join of an identity that this node knows; 0 for none.
    #[must_use]
    pub fn last_join(&self, identity: &str) -> u64 {
        self.replica.last_join(identity).unwrap_or_default()
    }

    /// Updates the gateways. A node is a gateway since its first participant joined, even if that participant
    /// has left.
    fn update_gateways(&mut self) {
        let now = self.current_gateways();
        let known = std::mem::replace(&mut self.gateways, now);
        for (gateway, since) in &mut self.gateways {
            *since = since.iter().chain(known.get(gateway).into_iter().flatten()).min().copied();
        }
    }
}
