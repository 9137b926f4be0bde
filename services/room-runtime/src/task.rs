//! The task of one room: it passes inputs to the core and does the core's effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol::{SignalRequest, SignalResponse, signal_response};
use rustc_hash::FxHashMap;
use systir_assignment::{Assignment, RoomId};
use systir_media_control::{ParticipantKey, RoomNumber, WorkerEvent};
use systir_placement::{is_same_token, token_identity};
use systir_proto::cluster::v1 as wire;
use systir_registry::{RoomWatch, unix_ms};
use systir_room::{
    Arrival, ClusterView, Now, RoomConfig, RoomCore, RoomEffect, RoomInput, RoomLinkEvent, WorkerRequest,
};
use systir_worker::WorkerMessage;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::handle::{KnownIdentity, ParticipantArrival, RoomHandle, TaskMessage};
use crate::link_events::SharedLinkEventQueue;
use crate::rooms::Rooms;
use crate::told::told_assignment;

/// Most messages that wait for the room.
const MESSAGES: usize = 1024;

/// Most worker events that wait for the room.
const EVENTS: usize = 1024;

/// Most client requests that wait for the room. Beyond that, each client waits.
const REQUESTS: usize = 256;

/// How long the end of a room waits for a worker that accepts nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// What arrives on a participant's signalling.
#[derive(Debug)]
enum Signalled {
    Request(Box<SignalRequest>),
    /// The note of a renewed ticket.
    Ticket(Bytes),
    /// The signalling ended.
    Closed,
}

/// What arrived on the signalling of one participant.
#[derive(Debug)]
struct ClientInput {
    participant: ParticipantKey,
    signalled: Signalled,
}

impl From<ClientInput> for RoomInput {
    fn from(input: ClientInput) -> Self {
        let ClientInput { participant, signalled } = input;
        match signalled {
            Signalled::Request(request) => Self::Request { participant, request },
            Signalled::Ticket(note) => Self::Ticket { participant, note },
            Signalled::Closed => Self::SignalClosed(participant),
        }
    }
}

/// What woke the task.
enum Wakeup<'a> {
    /// A tick of the core is due.
    Tick,
    /// The registry's copy changed in what concerns the room.
    ViewChanged,
    /// The node's policy was replaced.
    PolicyChanged,
    Input(RoomInput),
    Message(TaskMessage),
    /// The worker accepts a waiting request, or has ended.
    WorkerReady(Result<mpsc::Permit<'a, WorkerMessage>, SendError<()>>),
}

struct RoomTask {
    core: RoomCore,
    rooms: Arc<Rooms>,
    id: RoomId,
    key: RoomNumber,
    /// The room's key on links and in the seat book.
    wire_key: String,
    worker: mpsc::Sender<WorkerMessage>,
    worker_index: u8,
    /// For the worker: receives the room's events.
    events: mpsc::Sender<WorkerEvent>,
    messages: mpsc::WeakSender<TaskMessage>,
    /// Receives the requests of all clients in one order.
    requests: mpsc::Sender<ClientInput>,
    link_events: Arc<SharedLinkEventQueue>,
    /// Signalling to the clients of local participants.
    signals: FxHashMap<ParticipantKey, mpsc::Sender<Box<SignalResponse>>>,
    /// The newest assignment that each other node told.
    followed: FxHashMap<String, watch::Sender<wire::RoomAssignment>>,
    /// Arrival time of participants whose join message is not sent yet.
    arriving: FxHashMap<ParticipantKey, Instant>,
}

fn now() -> Now {
    Now { instant: Instant::now(), unix_ms: unix_ms() }
}

/// Starts the room's task. It ends when the room has been empty for some time, and when the node stops.
pub(crate) fn spawn(rooms: &Arc<Rooms>, key: RoomNumber, assignment: Assignment) -> RoomHandle {
    let (messages, incoming) = mpsc::channel(MESSAGES);
    let (events, from_worker) = mpsc::channel(EVENTS);
    let (requests, from_clients) = mpsc::channel(REQUESTS);
    let link_events = Arc::new(SharedLinkEventQueue::default());
    let handle = RoomHandle { messages: messages.clone(), link_events: link_events.clone(), key };
    let dependencies = rooms.dependencies();
    let worker = dependencies.workers.for_room(key);
    let id = assignment.room.clone();
    let config = RoomConfig {
        node: dependencies.node.clone(),
        key,
        worker_index: worker.index,
        candidates: worker.candidates.clone(),
        fingerprint: dependencies.workers.fingerprint(),
        assignment,
        authority: dependencies.authority.clone(),
        keys: dependencies.keys.clone(),
        flows: dependencies.flows.clone(),
        replicas: rooms.replicas().clone(),
        metrics: dependencies.metrics.clone(),
    };
    // Before the core makes its first decision, so that no change is missed.
    let mut policy = dependencies.policy_changes.clone();
    policy.mark_unchanged();
    let task = RoomTask {
        core: RoomCore::new(config, rand::random(), now()),
        rooms: rooms.clone(),
        wire_key: id.key(),
        id,
        key,
        worker: worker.messages.clone(),
        worker_index: worker.index,
        events,
        messages: messages.downgrade(),
        requests,
        link_events,
        signals: FxHashMap::default(),
        arriving: FxHashMap::default(),
        followed: FxHashMap::default(),
    };
    dependencies.tasks.spawn(task.run(incoming, from_worker, from_clients, policy));
    handle
}

impl RoomTask {
    async fn run(
        mut self,
        mut incoming: mpsc::Receiver<TaskMessage>,
        mut from_worker: mpsc::Receiver<WorkerEvent>,
        mut from_clients: mpsc::Receiver<ClientInput>,
        mut policy: watch::Receiver<u64>,
    ) {
        let stop = self.rooms.dependencies().stop.clone();
        let link_events = self.link_events.clone();
        let worker = self.worker.clone();
        let mut watch = self.rooms.dependencies().assignments.registry().watch_room(&self.id);
        self.cluster_changed(&mut watch);
        self.run_effects();
        loop {
            let at = Instant::now();
            let accepts_events = self.core.accepts_events(at);
            let accepts_link_events = self.core.accepts_link_events(at);
            let due = self.core.next_due(at);
            let worker_waits = self.core.has_worker_requests();
            let wakeup = tokio::select! {
                () = stop.cancelled() => break,
                permit = worker.reserve(), if worker_waits => Wakeup::WorkerReady(permit),
                Some(event) = from_worker.recv(), if accepts_events => Wakeup::Input(RoomInput::Worker(event)),
                Some(input) = from_clients.recv(), if accepts_events => Wakeup::Input(input.into()),
                event = link_events.next(), if accepts_link_events => Wakeup::Input(RoomInput::Link(event)),
                () = watch.changed() => Wakeup::ViewChanged,
                Ok(()) = policy.changed() => Wakeup::PolicyChanged,
                message = incoming.recv() => match message {
                    Some(message) => Wakeup::Message(message),
                    None => break,
                },
                () = sleep_until(due.into()) => Wakeup::Tick,
            };
            // The view first: an input may depend on a newer view than the core has.
            if watch.has_changed() {
                self.cluster_changed(&mut watch);
            }
            // Then policy: an input must not be handled by decisions of an older one.
            let replaced = policy.has_changed().is_ok_and(|changed| changed);
            if replaced || matches!(wakeup, Wakeup::PolicyChanged) {
                policy.mark_unchanged();
                self.core.handle(RoomInput::PolicyChanged, now());
            }
            match wakeup {
                Wakeup::Tick | Wakeup::ViewChanged | Wakeup::PolicyChanged => {}
                Wakeup::Input(input) => {
                    let opened = matches!(input, RoomInput::Link(RoomLinkEvent::Opened { .. }));
                    self.core.handle(input, now());
                    if opened {
                        // Perhaps by a node whose lease the room did not watch.
                        self.cluster_changed(&mut watch);
                    }
                }
                Wakeup::Message(message) => self.message(message),
                Wakeup::WorkerReady(Ok(permit)) => self.send_to_worker(permit),
                // The node stops when a worker ends.
                Wakeup::WorkerReady(Err(_)) => self.core.worker_ended(),
            }
            if self.run_effects() {
                break;
            }
        }
        self.end(incoming).await;
    }

    fn message(&mut self, message: TaskMessage) {
        match message {
            TaskMessage::Arrive(arrival) => self.arrive(*arrival),
            TaskMessage::AssignmentLeft(may_end) => {
                self.core.handle(RoomInput::AssignmentLeft(may_end), now())
            }
            TaskMessage::AskToReconnect(count) => {
                self.core.handle(RoomInput::AskToReconnect(count), now());
            }
            TaskMessage::Residency(reply) => {
                let _ = reply.send(self.core.residency());
            }
            TaskMessage::Identity(identity, reply) => {
                // A join replaces the connection of the same identity.
                let counts = |other: &str| other != identity && is_same_token(other, &identity);
                let elsewhere = self.core.elsewhere(token_identity(&identity), counts);
                let elsewhere = u32::try_from(elsewhere).unwrap_or(u32::MAX);
                let _ = reply.send(KnownIdentity { last_join: self.core.last_join(&identity), elsewhere });
            }
        }
    }

    fn arrive(&mut self, arrival: ParticipantArrival) {
        let ParticipantArrival { join_id, grants, client, auto_subscribe, ticket, signal, span } = arrival;
        if let Err(error) = self.rooms.dependencies().seats.commit(&self.wire_key, &join_id) {
            span.record("outcome", "too-late");
            span.in_scope(|| tracing::info!(%error, "a participant arrived after its reservation expired"));
            return;
        }
        self.rooms.dependencies().assignments.carry(&self.id);
        let participant = self.rooms.dependencies().keys.participant();
        self.signals.insert(participant, signal.to_client);
        self.arriving.insert(participant, Instant::now());
        let arrival = Arrival { participant, join_id, grants, client, auto_subscribe, ticket, span };
        self.core.handle(RoomInput::Arrive(Box::new(arrival)), now());
        self.read_signalling(participant, signal.from_client, signal.tickets);
    }

    /// Starts a task that moves a client's requests and the renewed tickets of its participant into the room's request
    /// queue. It ends with the client's signalling or with the room.
    fn read_signalling(
        &self,
        participant: ParticipantKey,
        mut from_client: mpsc::Receiver<Box<SignalRequest>>,
        mut tickets: mpsc::Receiver<Bytes>,
    ) {
        let requests = self.requests.clone();
        self.rooms.dependencies().tasks.spawn(async move {
            loop {
                let signalled = tokio::select! {
                    request = from_client.recv() => {
                        request.map_or(Signalled::Closed, Signalled::Request)
                    }
                    Some(note) = tickets.recv() => Signalled::Ticket(note),
                };
                let ended = matches!(signalled, Signalled::Closed);
                if requests.send(ClientInput { participant, signalled }).await.is_err() || ended {
                    return;
                }
            }
        });
    }

    /// Passes the room's assignment and its nodes in the registry's copy to the core.
    fn cluster_changed(&mut self, watch: &mut RoomWatch) {
        watch.mark_read();
        let assignments = &self.rooms.dependencies().assignments;
        let view = assignments.registry().view();
        let assignment = assignments.get(&self.id);
        let recorded = assignment.as_ref().is_some_and(|known| assignments.is_recorded(known));
        let grant_ended = assignments.has_ended(&self.id);
        let assigned = assignment.iter().flat_map(Assignment::nodes).map(AsRef::as_ref);
        let mut nodes = BTreeMap::new();
        for node in assigned.chain(self.core.nodes()) {
            if view.node(node).is_some() {
                nodes.insert(node.to_owned(), self.rooms.dependencies().links.address(node));
            }
        }
        let is_listed = |node: &&str| assignments.role(&self.id, node).is_some();
        let media_nodes = self.core.nodes().filter(is_listed).map(str::to_owned).collect();
        let registry_unavailable = view.rooms_unavailable_since(&self.id.institution).is_some();
        let cluster =
            ClusterView { assignment, media_nodes, grant_ended, recorded, registry_unavailable, nodes };
        self.core.handle(RoomInput::Cluster(cluster), now());
        watch.set_nodes(self.core.nodes());
    }

    /// Ticks the core and does its effects until there are none. True when the room has ended.
    fn run_effects(&mut self) -> bool {
        let ended = loop {
            let seats = &self.rooms.dependencies().seats;
            let ended = self.core.tick(now(), || seats.are_held_by(&self.wire_key));
            // Before the effects, so that the worker stops feeding a link before the room closes on it.
            self.flush_to_worker();
            if !self.do_effects() {
                break ended;
            }
        };
        let links = self.rooms.dependencies().links.clone();
        self.core.flush_to_peers(|node, body| links.send(&self.wire_key, node, body));
        ended
    }

    /// Sends the worker the requests that it accepts now.
    fn flush_to_worker(&mut self) {
        let (worker, room, events) = (&self.worker, self.key, &self.events);
        self.core.flush_to_worker(|request| match worker.try_reserve() {
            Ok(permit) => {
                permit.send(message_of(request, room, events));
                Ok(())
            }
            Err(TrySendError::Full(())) => Err(request),
            // The node stops when a worker ends.
            Err(TrySendError::Closed(())) => Ok(()),
        });
    }

    fn send_to_worker(&mut self, permit: mpsc::Permit<'_, WorkerMessage>) {
        if let Some(request) = self.core.next_worker_request() {
            permit.send(message_of(request, self.key, &self.events));
        }
    }

    /// Does the core's effects. True when that caused new inputs.
    fn do_effects(&mut self) -> bool {
        let mut again = false;
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                RoomEffect::Signal { participant, response } => {
                    if matches!(response.message, Some(signal_response::Message::Join(_)))
                        && let Some(arrived) = self.arriving.remove(&participant)
                    {
                        let seconds = arrived.elapsed().as_secs_f64();
                        self.rooms.dependencies().metrics.join_seconds.observe(seconds);
                    }
                    let Some(client) = self.signals.get(&participant) else { continue };
                    if let Err(TrySendError::Full(_)) = client.try_send(response) {
                        self.core.handle(RoomInput::SignalFull(participant), now());
                        again = true;
                    }
                }
                RoomEffect::Left { participant, join_id } => {
                    self.signals.remove(&participant);
                    self.arriving.remove(&participant);
                    self.rooms.dependencies().seats.release(&join_id);
                }
                RoomEffect::OpenOnLink { node, address, epoch, policy_version } => {
                    let links = &self.rooms.dependencies().links;
                    links.open_room(&self.wire_key, &node, address, epoch, policy_version);
                }
                RoomEffect::CloseOnLink { node } => {
                    self.rooms.dependencies().links.close_room(&self.wire_key, &node);
                }
                RoomEffect::RemoveSpill { node } => {
                    self.rooms.dependencies().assignments.remove_spill(&self.id, &node);
                }
                RoomEffect::LeaveAssignment => self.leave_assignment(),
                RoomEffect::WriteAssignment => self.write_assignment(),
                RoomEffect::FollowAssignment { node, told } => self.follow_assignment(node, told),
            }
        }
        again
    }

    fn leave_assignment(&self) {
        let (rooms, id, messages) = (self.rooms.clone(), self.id.clone(), self.messages.clone());
        self.rooms.dependencies().tasks.spawn(async move {
            // If the task panics, the room must still be able to end.
            let may_end = tokio::spawn(async move { rooms.leave(&id).await }).await.unwrap_or(true);
            if let Some(messages) = messages.upgrade() {
                let _ = messages.send(TaskMessage::AssignmentLeft(may_end)).await;
            }
        });
    }

    fn write_assignment(&self) {
        let (rooms, id) = (self.rooms.clone(), self.id.clone());
        self.rooms.dependencies().tasks.spawn(async move {
            rooms.dependencies().assignments.write(&id).await;
        });
    }

    /// In a task for each node, because the home that this node follows may have to be asked. Of messages that wait, only
    /// the newest counts. The task ends with the room.
    fn follow_assignment(&mut self, node: String, told: wire::RoomAssignment) {
        if let Some(newest) = self.followed.get(&node) {
            newest.send_replace(told);
            return;
        }
        let (rooms, id, from) = (self.rooms.clone(), self.id.clone(), node.clone());
        let (newest, mut messages) = watch::channel(told);
        messages.mark_changed();
        self.followed.insert(node, newest);
        self.rooms.dependencies().tasks.spawn(async move {
            while messages.changed().await.is_ok() {
                let told = told_assignment(messages.borrow_and_update().clone());
                if let Err(refusal) = rooms.dependencies().assignments.told(&id, &told, &from).await {
                    let why = refusal.sentence;
                    tracing::warn!(node = from, why, "a grant that another node told does not count");
                }
            }
        });
    }

    /// Closes the room on the links, at the worker and, when the node stops, in the registry. A participant
    /// that arrives meanwhile is sent to a new room.
    async fn end(mut self, mut incoming: mpsc::Receiver<TaskMessage>) {
        self.core.close_on_links();
        self.do_effects();
        for event in self.link_events.close() {
            if let RoomLinkEvent::Opened { node, .. } = event {
                self.rooms.dependencies().links.close_room(&self.wire_key, &node);
            }
        }
        incoming.close();
        self.rooms.remove(&self.id, self.key);
        while let Some(message) = incoming.recv().await {
            if let TaskMessage::Arrive(arrival) = message {
                self.forward_arrival(arrival);
            }
        }
        self.core.end();
        self.flush_to_worker();
        self.do_effects();
        if self.rooms.dependencies().stop.is_cancelled() {
            self.rooms.leave(&self.id).await;
        }
        let worker = self.worker.clone();
        while self.core.has_worker_requests() {
            match tokio::time::timeout(FLUSH_TIMEOUT, worker.reserve()).await {
                Ok(Ok(permit)) => self.send_to_worker(permit),
                Ok(Err(_)) => self.core.worker_ended(),
                Err(_) => {
                    let seconds = FLUSH_TIMEOUT.as_secs();
                    let worker = self.worker_index;
                    tracing::error!(
                        worker,
                        "a worker accepted no command for {seconds} s; its rooms are lost"
                    );
                    return;
                }
            }
        }
    }

    /// Sends a participant that arrived after the room's end to a new room.
    fn forward_arrival(&self, arrival: Box<ParticipantArrival>) {
        let (rooms, assignment) = (self.rooms.clone(), self.core.assignment().clone());
        self.rooms.dependencies().tasks.spawn(async move {
            let join_id = arrival.join_id.clone();
            let stopped = rooms.dependencies().stop.is_cancelled();
            if stopped || rooms.arrive(&assignment, arrival).await.is_err() {
                rooms.dependencies().seats.release_reservation(&join_id);
            }
        });
    }
}

fn message_of(request: WorkerRequest, room: RoomNumber, events: &mpsc::Sender<WorkerEvent>) -> WorkerMessage {
    match request {
        WorkerRequest::OpenRoom => WorkerMessage::OpenRoom { room, events: events.clone() },
        WorkerRequest::Command(command) => command.into(),
    }
}
