//! The room's task: its state, and the loop that feeds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use systir_access::livekit::MediaEvent;
use systir_access::worker::command::{Command, Event, ParticipantKey, RoomKey};
use systir_registry::{Assignment, RoomId};
use systir_room::RoomState;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::members::Member;
use super::peers::Peer;
use super::tracks::Tracks;
use super::{Handle, Message};
use crate::node::Shared;
use crate::whereabouts::Whereabouts;

/// Messages that may wait for the room.
const MAILBOX: usize = 1024;

/// Worker events that may wait for the room.
const EVENTS: usize = 1024;

/// An empty room is kept this long, for those who come back.
const LINGER: Duration = Duration::from_secs(20);

/// A node that did not open the room, or had no lease, is asked again after this time: it may have
/// learnt of the assignment only now.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// People of a node whose link is down are kept this long.
const LOST_GRACE: Duration = Duration::from_secs(8);

pub(super) struct Actor {
    pub shared: Arc<Shared>,
    pub id: RoomId,
    pub key: RoomKey,
    /// The room's key on links.
    pub wire_key: String,
    pub worker_index: u8,
    pub commands: mpsc::Sender<Command>,
    pub assignment: Assignment,
    pub replica: RoomState,
    pub members: FxHashMap<ParticipantKey, Member>,
    pub tracks: Tracks,
    pub peers: BTreeMap<String, Peer>,
    /// Nodes whose link went down, and when.
    pub lost: BTreeMap<String, Instant>,
    pub mailbox: mpsc::WeakSender<Message>,
    /// What people here were last told.
    pub told: Option<Whereabouts>,
    pub where_due: bool,
    pub leaving: BTreeSet<ParticipantKey>,
    pub empty_since: Option<Instant>,
    /// When nodes that did not open the room are asked again.
    pub ask_again: Instant,
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
    let alive = Arc::new(());
    let handle = Handle { messages: messages.clone(), key: start.key, _alive: alive };
    let id = start.assignment.room.clone();
    let actor = Actor {
        wire_key: id.key(),
        id,
        key: start.key,
        worker_index: start.worker_index,
        commands: start.commands,
        replica: RoomState::new(start.shared.name.clone(), crate::ids::unix_ms()),
        assignment: start.assignment,
        members: FxHashMap::default(),
        tracks: Tracks::default(),
        peers: BTreeMap::new(),
        lost: BTreeMap::new(),
        mailbox: messages.downgrade(),
        told: None,
        where_due: false,
        leaving: BTreeSet::new(),
        empty_since: Some(Instant::now()),
        ask_again: Instant::now(),
        shared: start.shared.clone(),
    };
    start.shared.tasks.spawn(actor.run(inbox));
    handle
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let (events, mut from_worker) = mpsc::channel(EVENTS);
        self.command(Command::OpenRoom { room: self.key, events });
        self.shared.metrics.rooms.inc();
        self.sync_peers();
        let stop = self.shared.stop.clone();
        loop {
            let due = self.next_due();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = from_worker.recv() => self.worker_says(event),
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
        // Whoever arrives while the room closes is told to come again.
        inbox.close();
        self.shared.rooms.remove(&self.id, self.key);
        while let Some(message) = inbox.recv().await {
            self.turn_away(message);
        }
        self.close().await;
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Arrive(arrival) => self.arrive(*arrival),
            Message::Signal { participant, request } => self.signal(participant, request),
            Message::LinkDown { node } => self.peer_closed(&node),
            Message::Opened { node, link } => {
                self.lost.remove(&node);
                self.peer_opened(&node, link);
            }
            Message::Refused { node, reason } => {
                tracing::warn!(node, reason, "the other node does not open the room");
                self.peer_closed(&node);
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.needed = false;
                }
            }
            Message::FromNode { node, body } => self.node_says(&node, body),
            Message::ViewChanged => self.view_changed(),
            Message::Where(answer) => {
                let _ = answer.send(self.whereabouts());
            }
        }
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

    /// Hands a command to the worker. A worker whose queue is full has stalled for a second or
    /// more; what is lost then is repaired by the client's reconnect.
    pub(super) fn command(&self, command: Command) {
        if let Err(error) = self.commands.try_send(command) {
            tracing::error!(%error, worker = self.worker_index, "the worker does not take a command");
        }
    }

    /// Nodes of the assignment, home first.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.assignment.nodes().map(AsRef::as_ref)
    }

    pub(super) fn policy_number(&self) -> u64 {
        self.assignment
            .policy_version
            .split('-')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    }

    fn view_changed(&mut self) {
        let mut changed = self.peers.values().any(|peer| !peer.needed);
        if let Some(current) = self.shared.registry.assignment(&self.id) {
            // An older epoch is an echo of what has been overtaken.
            if current.value.epoch >= self.assignment.epoch && current.value != self.assignment {
                self.assignment = current.value;
                self.told = None;
                changed = true;
            }
        }
        if changed {
            self.sync_peers();
        }
    }

    pub(super) fn where_changed(&mut self) {
        self.where_due = true;
    }

    pub(super) fn whereabouts(&self) -> Whereabouts {
        let doors: BTreeSet<String> = self.front_doors();
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
                doors: &doors.into_iter().collect::<Vec<_>>(),
                links: &self.links_state(),
            },
            &self.shared.authority,
        )
    }

    fn since(&self) -> BTreeMap<String, u64> {
        self.assignment.since_ms.iter().map(|(node, since)| (node.to_string(), *since)).collect()
    }

    fn next_due(&self) -> Instant {
        let now = Instant::now();
        let sessions = self.members.values().filter_map(Member::poll_timeout).min();
        let idle = now + Duration::from_secs(1);
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
        if self.peers.values().any(|peer| !peer.needed) && now >= self.ask_again {
            self.ask_again = now + ASK_AGAIN;
            self.sync_peers();
        }
        self.settle();
        if std::mem::take(&mut self.where_due) {
            self.tell_where();
        }
        if self.members.is_empty() {
            self.empty_since.get_or_insert(now);
        } else {
            self.empty_since = None;
        }
    }

    /// Home stays while another node carries the room: it orders it.
    fn is_over(&self) -> bool {
        let needed = self.assignment.home == *self.shared.name && !self.assignment.spill.is_empty();
        !needed && self.empty_since.is_some_and(|since| since.elapsed() > LINGER)
    }

    async fn close(mut self) {
        self.command(Command::CloseRoom { room: self.key });
        for node in self.peers.keys() {
            self.shared.links().drop_room(&self.wire_key, node);
        }
        self.end_members();
        self.shared.metrics.rooms.dec();
        crate::rooms::leave_assignment(&self.shared, &self.id).await;
    }
}
