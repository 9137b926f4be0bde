//! The room's task: its state, and the loop that feeds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::DisconnectReason;
use rustc_hash::FxHashMap;
use systir_assignment::{Assignment, RoomId};
use systir_livekit::MediaEvent;
use systir_media_control::{Command, Event, ParticipantKey, RoomKey};
use systir_room::RoomState;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::ending::Leaving;
use super::inbox::{FromLinks, Inbox};
use super::members::Member;
use super::orders::{Given, Orders};
use super::peers::Peer;
use super::tracks::Tracks;
use super::{Handle, Message, Said};
use crate::node::Shared;
use crate::reason::Reason;
use crate::whereabouts::Whereabouts;

/// Messages that may wait for the room.
const MAILBOX: usize = 1024;

/// Worker events that may wait for the room.
const EVENTS: usize = 1024;

/// Requests of clients that may wait for the room; after that each client waits by itself.
const SAID: usize = 256;

/// A node that did not open the room, or had no lease, is asked again after this time: it may have
/// learnt of the assignment only now.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// People of a node whose link is down are kept this long.
const LOST_GRACE: Duration = Duration::from_secs(8);

/// How long the room takes nothing from its worker and from clients because a link or the worker is
/// full. After that it does, and what is too much is dealt with where it does not fit. No client waits
/// so long for an answer to its ping that it would give up.
const HOLD: Duration = Duration::from_secs(2);

/// How soon a room that holds looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(super) struct Actor {
    pub shared: Arc<Shared>,
    pub id: RoomId,
    pub key: RoomKey,
    /// The room's key on links.
    pub wire_key: String,
    pub worker_index: u8,
    pub orders: Orders,
    /// Where the worker's events go; a room that begins again tells the worker so.
    pub events: mpsc::Sender<Event>,
    pub assignment: Assignment,
    pub replica: RoomState,
    pub members: FxHashMap<ParticipantKey, Member>,
    pub tracks: Tracks,
    pub peers: BTreeMap<String, Peer>,
    /// Nodes whose link went down, and when.
    pub lost: BTreeMap<String, Instant>,
    pub mailbox: mpsc::WeakSender<Message>,
    /// Where requests of clients go, in one order for the whole room.
    pub says: mpsc::Sender<Said>,
    pub links: Arc<Inbox>,
    /// What people here were last told.
    pub told: Option<Whereabouts>,
    pub where_due: bool,
    /// Front doors of the room, and since when.
    pub doors: BTreeMap<String, Option<u64>>,
    /// What the other nodes were last told of this one's links.
    pub told_links: Option<BTreeMap<String, bool>>,
    pub leaving: BTreeSet<ParticipantKey>,
    pub empty_since: Option<Instant>,
    /// When nodes that did not open the room are asked again.
    pub ask_again: Instant,
    /// Since when the room takes nothing from its worker.
    pub held_since: Option<Instant>,
    /// The room is being taken out of the registry.
    pub leaves: Option<Leaving>,
    /// When the room may next be written into the registry again.
    pub assign_again: Instant,
}

/// What a room starts with.
pub(crate) struct Start {
    pub shared: Arc<Shared>,
    pub key: RoomKey,
    pub worker_index: u8,
    pub commands: mpsc::Sender<Command>,
    pub assignment: Assignment,
}

/// Starts the room's task; it ends by itself when the room has been empty for a while, and when
/// the node stops.
pub(crate) fn spawn(start: Start) -> Handle {
    let (messages, inbox) = mpsc::channel(MAILBOX);
    let (events, from_worker) = mpsc::channel(EVENTS);
    let (says, from_clients) = mpsc::channel(SAID);
    let links = Arc::new(Inbox::default());
    let handle = Handle { messages: messages.clone(), links: links.clone(), key: start.key };
    let id = start.assignment.room.clone();
    let now = Instant::now();
    let actor = Actor {
        wire_key: id.key(),
        id,
        key: start.key,
        worker_index: start.worker_index,
        orders: Orders::new(start.commands),
        events,
        replica: RoomState::new(start.shared.name.clone(), crate::ids::unix_ms()),
        assignment: start.assignment,
        members: FxHashMap::default(),
        tracks: Tracks::default(),
        peers: BTreeMap::new(),
        lost: BTreeMap::new(),
        mailbox: messages.downgrade(),
        says,
        links,
        told: None,
        where_due: false,
        doors: BTreeMap::new(),
        told_links: None,
        leaving: BTreeSet::new(),
        empty_since: Some(now),
        ask_again: now,
        held_since: None,
        leaves: None,
        assign_again: now,
        shared: start.shared.clone(),
    };
    start.shared.tasks.spawn(actor.run(inbox, from_worker, from_clients));
    handle
}

impl Actor {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut from_worker: mpsc::Receiver<Event>,
        mut from_clients: mpsc::Receiver<Said>,
    ) {
        self.command(Command::OpenRoom { room: self.key, events: self.events.clone() });
        self.shared.metrics.rooms.inc();
        self.shared.metrics.rooms_opened.inc();
        self.sync_peers();
        let stop = self.shared.stop.clone();
        let links = self.links.clone();
        let mut view = self.shared.registry.watch();
        loop {
            let now = Instant::now();
            let takes_more = self.takes_more(now);
            let due = self.next_due(now);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.orders.hand_over() => {}
                Some(event) = from_worker.recv(), if takes_more => self.worker_says(event),
                Some(said) = from_clients.recv(), if takes_more => self.signal(said),
                event = links.next() => self.link_says(event),
                // Without its registry the node stops.
                Ok(()) = view.changed() => self.view_changed(),
                message = inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                () = sleep_until(due.into()) => {}
            }
            self.tick();
            if self.is_over() {
                break;
            }
        }
        self.end(inbox).await;
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Arrive(arrival) => self.arrive(*arrival),
            Message::Look => {}
            Message::Where(answer) => {
                let _ = answer.send(self.whereabouts());
            }
            Message::LastJoin(identity, answer) => {
                let _ = answer.send(self.replica.last_join(&identity).unwrap_or_default());
            }
        }
    }

    fn link_says(&mut self, event: FromLinks) {
        match event {
            FromLinks::Opened { node, link } => {
                self.lost.remove(&node);
                self.peer_opened(&node, link);
            }
            FromLinks::Refused { node, reason, closed } => {
                tracing::debug!(node, reason, closed, "the room is not open to another node");
                self.peer_closed(&node);
                self.ask_later(&node);
            }
            FromLinks::Down { node } => self.peer_closed(&node),
            FromLinks::Says { node, body } => self.node_says(&node, body),
            FromLinks::Flooded { node } => {
                tracing::warn!(node, "a node says more than the room can take; it is opened to it afresh");
                self.shared.metrics.overloads.get_or_create(&Reason::RoomInbox.into()).inc();
                self.open_afresh(&node);
            }
        }
    }

    /// What was said, or is to be said, is more than can be taken: both begin from whole copies.
    pub(super) fn open_afresh(&mut self, node: &str) {
        self.peer_closed(node);
        self.shared.links().drop_room(&self.wire_key, node);
        self.ask_later(node);
    }

    fn ask_later(&mut self, node: &str) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.needed = None;
            self.ask_again = Instant::now() + ASK_AGAIN;
        }
    }

    /// Worker events and clients' requests become commands and messages to other nodes. While those
    /// find no room, both wait; the worker in turn does not read its clients' messages, and front doors
    /// do not read their sockets.
    fn takes_more(&mut self, now: Instant) -> bool {
        let full = self.orders.is_long() || self.peers.values().any(|peer| peer.outbox.is_long());
        // Who takes a word now and then has not caught up, and is not waited for again and again.
        let caught_up = self.orders.is_short() && self.peers.values().all(|peer| peer.outbox.is_short());
        if caught_up {
            self.held_since = None;
        }
        !full || now.duration_since(*self.held_since.get_or_insert(now)) > HOLD
    }

    fn worker_says(&mut self, event: Event) {
        match event {
            Event::Connected { participant, side } => self.connected(participant, side),
            Event::Closed { participant, side, reason } => self.transport_closed(participant, side, &reason),
            Event::Data { participant, channel, data } => self.data_from_member(participant, channel, &data),
            Event::Codec { participant, track, codec } => {
                self.media_event(participant, MediaEvent::Codec { track, codec });
            }
            Event::Speakers { changed } => self.speakers_here(&changed),
            Event::Wanted { track, layers } => self.wanted_changed(track, layers),
            Event::KeyFrameNeeded { track, layer } => self.key_frame_needed(track, layer),
        }
    }

    /// Tells the worker, now or in the room's turn.
    pub(super) fn command(&mut self, command: Command) {
        if self.orders.give(command) == Given::Dropped {
            self.shared.metrics.overloads.get_or_create(&Reason::LossyData.into()).inc();
        }
    }

    /// The worker took nothing for so long that commands are lost: the room is told to it afresh.
    /// People here are told to come back, since nobody knows what the worker knows of them.
    fn begin_again(&mut self) {
        tracing::error!(worker = self.worker_index, "the worker takes no commands; the room begins again");
        self.shared.metrics.overloads.get_or_create(&Reason::WorkerCommands.into()).inc();
        self.end_members(DisconnectReason::MediaFailure);
        self.forget_distant_tracks();
        self.orders.begin_again();
        self.command(Command::CloseRoom { room: self.key });
        self.command(Command::OpenRoom { room: self.key, events: self.events.clone() });
        let open: Vec<String> =
            self.peers.iter().filter(|(_, peer)| peer.link.is_some()).map(|(node, _)| node.clone()).collect();
        for node in open {
            self.show_again(&node);
        }
    }

    /// Nodes of the assignment, home first.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.assignment.nodes().map(AsRef::as_ref)
    }

    pub(super) fn policy_number(&self) -> u64 {
        self.assignment.policy_number()
    }

    pub(super) fn view_changed(&mut self) {
        if let Some(current) = self.shared.registry.assignment(&self.id) {
            // An older epoch is an echo of what has been overtaken.
            if current.value.epoch >= self.assignment.epoch && current.value != self.assignment {
                self.assignment = current.value;
                self.told = None;
                self.where_changed();
            }
        }
        self.sync_peers();
    }

    pub(super) fn where_changed(&mut self) {
        self.where_due = true;
    }

    pub(super) fn whereabouts(&mut self) -> Whereabouts {
        self.note_doors();
        let home = self.assignment.home.to_string();
        let spill: Vec<String> = self.assignment.spill.iter().map(ToString::to_string).collect();
        super::where_is::compute(
            &super::where_is::Facts {
                institution: &self.id.institution,
                room: &self.id.name,
                epoch: self.assignment.epoch,
                me: &self.shared.name,
                home: &home,
                spill: &spill,
                since: &self.since(),
                complete: true,
                doors: &self.doors,
                links: &self.links_said(),
            },
            &self.shared.authority,
        )
    }

    /// A front door is one since the first of its people came, whether or not that one is still here.
    fn note_doors(&mut self) {
        let now = self.front_doors();
        let known = std::mem::replace(&mut self.doors, now);
        for (door, since) in &mut self.doors {
            *since = since.iter().chain(known.get(door).into_iter().flatten()).min().copied();
        }
    }

    fn since(&self) -> BTreeMap<String, u64> {
        self.assignment.since_ms.iter().map(|(node, since)| (node.to_string(), *since)).collect()
    }

    fn next_due(&self, now: Instant) -> Instant {
        let sessions = self.members.values().filter_map(Member::poll_timeout).min();
        let waits = self.held_since.is_some() || self.peers.values().any(|peer| peer.outbox.is_waiting());
        let idle = now + if waits { LOOK_AGAIN } else { Duration::from_secs(1) };
        sessions.map_or(idle, |due| due.clamp(now, idle))
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let due: Vec<ParticipantKey> = self
            .members
            .iter()
            .filter(|(_, member)| member.poll_timeout().is_some_and(|due| due <= now))
            .map(|(key, _)| *key)
            .collect();
        for participant in due {
            self.tick_member(participant, now);
        }
        let gone: Vec<String> = self
            .lost
            .iter()
            .filter(|(node, since)| now.duration_since(**since) > LOST_GRACE || !self.shared.has_lease(node))
            .map(|(node, _)| node.clone())
            .collect();
        for node in gone {
            self.lost.remove(&node);
            self.node_is_gone(&node);
        }
        if self.peers.values().any(|peer| peer.needed.is_none()) && now >= self.ask_again {
            self.ask_again = now + ASK_AGAIN;
            self.view_changed();
        }
        self.hand_over();
        self.settle();
        if self.orders.has_overflowed() {
            self.begin_again();
        }
        self.stay_assigned(now);
        if std::mem::take(&mut self.where_due) {
            self.tell_links();
            self.tell_where();
        }
        if self.members.is_empty() {
            self.empty_since.get_or_insert(now);
        } else {
            self.empty_since = None;
        }
    }
}
