//! The task of one room: it feeds the core and does what the core wants done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::{SignalRequest, SignalResponse, signal_response};
use rustc_hash::FxHashMap;
use systir_assignment::{Assignment, RoomId};
use systir_media_control::{Event, ParticipantKey, RoomKey};
use systir_registry::{View, unix_ms};
use systir_room::{
    Arrival, ClusterView, Now, RoomConfig, RoomCore, RoomEffect, RoomInput, RoomLinkEvent, WorkerRequest,
};
use systir_worker::WorkerMessage;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::time::sleep_until;

use crate::handle::{ParticipantArrival, RoomHandle, TaskMessage};
use crate::link_events::SharedLinkEventQueue;
use crate::rooms::Rooms;

/// Messages that may wait for the room.
const MESSAGES: usize = 1024;

/// Worker events that may wait for the room.
const EVENTS: usize = 1024;

/// Requests of clients that may wait for the room; after that each client waits by itself.
const REQUESTS: usize = 256;

/// How long the end of a room waits for a worker that takes nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's request, or (`None`) the end of its signalling.
#[derive(Debug)]
struct ClientInput {
    participant: ParticipantKey,
    request: Option<Box<SignalRequest>>,
}

impl From<ClientInput> for RoomInput {
    fn from(input: ClientInput) -> Self {
        let ClientInput { participant, request } = input;
        match request {
            Some(request) => Self::Request { participant, request },
            None => Self::SignalClosed(participant),
        }
    }
}

/// What a turn of the task begins with.
enum Wakeup<'a> {
    /// It is time to look at what is due.
    Nothing,
    ViewChanged,
    RoomInput(RoomInput),
    Message(TaskMessage),
    /// The worker takes a waiting request, or has ended.
    WorkerTakes(Result<mpsc::Permit<'a, WorkerMessage>, SendError<()>>),
}

struct RoomTask {
    core: RoomCore,
    rooms: Arc<Rooms>,
    id: RoomId,
    key: RoomKey,
    /// The room's key on links and in the seat book.
    wire_key: String,
    worker: mpsc::Sender<WorkerMessage>,
    worker_index: u8,
    /// Where the worker's events go.
    events: mpsc::Sender<Event>,
    messages: mpsc::WeakSender<TaskMessage>,
    /// Where requests of all clients go, so that they have one order.
    requests: mpsc::Sender<ClientInput>,
    link_events: Arc<SharedLinkEventQueue>,
    /// Signalling to the clients of the participants here.
    signals: FxHashMap<ParticipantKey, mpsc::Sender<SignalResponse>>,
    /// Participants whose join message is not sent yet, and when they arrived.
    arriving: FxHashMap<ParticipantKey, Instant>,
}

fn now() -> Now {
    Now { instant: Instant::now(), unix_ms: unix_ms() }
}

/// Starts the room's task; it ends by itself when the room has been empty for a while, and when the node
/// stops.
pub(crate) fn spawn(rooms: &Arc<Rooms>, key: RoomKey, assignment: Assignment) -> RoomHandle {
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
        metrics: dependencies.metrics.clone(),
    };
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
    };
    dependencies.tasks.spawn(task.run(incoming, from_worker, from_clients));
    handle
}

impl RoomTask {
    async fn run(
        mut self,
        mut incoming: mpsc::Receiver<TaskMessage>,
        mut from_worker: mpsc::Receiver<Event>,
        mut from_clients: mpsc::Receiver<ClientInput>,
    ) {
        let stop = self.rooms.dependencies().stop.clone();
        let link_events = self.link_events.clone();
        let worker = self.worker.clone();
        let mut view = self.rooms.dependencies().assignments.registry().watch();
        let first = view.borrow_and_update().clone();
        self.cluster_changed(&first);
        self.settle();
        loop {
            let at = Instant::now();
            let accepts_events = self.core.accepts_events(at);
            let due = self.core.next_due(at);
            let worker_waits = self.core.has_worker_requests();
            let wakeup = tokio::select! {
                () = stop.cancelled() => break,
                permit = worker.reserve(), if worker_waits => Wakeup::WorkerTakes(permit),
                Some(event) = from_worker.recv(), if accepts_events => Wakeup::RoomInput(RoomInput::Worker(event)),
                Some(input) = from_clients.recv(), if accepts_events => Wakeup::RoomInput(input.into()),
                event = link_events.next() => Wakeup::RoomInput(RoomInput::Link(event)),
                Ok(()) = view.changed() => Wakeup::ViewChanged,
                message = incoming.recv() => match message {
                    Some(message) => Wakeup::Message(message),
                    None => break,
                },
                () = sleep_until(due.into()) => Wakeup::Nothing,
            };
            // First: what wakeup may rest on a newer view than the core has.
            let changed = view.has_changed().is_ok_and(|changed| changed);
            if changed || matches!(wakeup, Wakeup::ViewChanged) {
                let newest = view.borrow_and_update().clone();
                self.cluster_changed(&newest);
            }
            match wakeup {
                Wakeup::Nothing | Wakeup::ViewChanged => {}
                Wakeup::RoomInput(input) => self.core.handle(input, now()),
                Wakeup::Message(message) => self.message(message),
                Wakeup::WorkerTakes(Ok(permit)) => self.send_to_worker(permit),
                // Without its worker the node stops.
                Wakeup::WorkerTakes(Err(_)) => self.core.worker_ended(),
            }
            if self.settle() {
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
            TaskMessage::Residency(answer) => {
                let _ = answer.send(self.core.residency());
            }
            TaskMessage::LastJoin(identity, answer) => {
                let _ = answer.send(self.core.last_join(&identity));
            }
        }
    }

    fn arrive(&mut self, arrival: ParticipantArrival) {
        let ParticipantArrival {
            join_id,
            grants,
            client,
            auto_subscribe,
            gateway,
            joined_after,
            signal,
            span,
        } = arrival;
        if let Err(error) = self.rooms.dependencies().seats.commit(&self.wire_key, &join_id) {
            span.record("outcome", "too-late");
            span.in_scope(|| tracing::info!(%error, "a participant came after its reservation expired"));
            return;
        }
        let participant = self.rooms.dependencies().keys.participant();
        self.signals.insert(participant, signal.to_client);
        self.arriving.insert(participant, Instant::now());
        let arrival =
            Arrival { participant, join_id, grants, client, auto_subscribe, gateway, joined_after, span };
        self.core.handle(RoomInput::Arrive(Box::new(arrival)), now());
        self.read_requests(participant, signal.from_client);
    }

    /// Reads a client's requests into the room's one queue. The task ends with the client's signalling or
    /// with the room.
    fn read_requests(&self, participant: ParticipantKey, mut from_client: mpsc::Receiver<SignalRequest>) {
        let requests = self.requests.clone();
        self.rooms.dependencies().tasks.spawn(async move {
            loop {
                let request = from_client.recv().await.map(Box::new);
                let ended = request.is_none();
                if requests.send(ClientInput { participant, request }).await.is_err() || ended {
                    return;
                }
            }
        });
    }

    /// What the registry's copy says about the room and the nodes that it concerns.
    fn cluster_changed(&mut self, view: &View) {
        let assignment = view.room(&self.id).map(|known| known.value.clone());
        let assigned = assignment.iter().flat_map(Assignment::nodes).map(AsRef::as_ref);
        let mut nodes = BTreeMap::new();
        for node in assigned.chain(self.core.nodes()) {
            if view.node(node).is_some() {
                nodes.insert(node.to_owned(), self.rooms.dependencies().links.address(node));
            }
        }
        let cluster = ClusterView { assignment, registry_away: view.away_since().is_some(), nodes };
        self.core.handle(RoomInput::Cluster(cluster), now());
    }

    /// Does all that is due and all that the core wants. True when the room has ended.
    fn settle(&mut self) -> bool {
        let ended = loop {
            let seats = &self.rooms.dependencies().seats;
            let ended = self.core.tick(now(), || seats.are_held_by(&self.wire_key));
            // Before the effects: the worker stops feeding a link before the room closes on it.
            self.flush_to_worker();
            if !self.do_effects() {
                break ended;
            }
        };
        let links = self.rooms.dependencies().links.clone();
        self.core.flush_to_peers(|node, body| links.send(&self.wire_key, node, body));
        ended
    }

    /// Hands the worker what it takes now.
    fn flush_to_worker(&mut self) {
        let (worker, room, events) = (&self.worker, self.key, &self.events);
        self.core.flush_to_worker(|request| match worker.try_reserve() {
            Ok(permit) => {
                permit.send(message_of(request, room, events));
                Ok(())
            }
            Err(TrySendError::Full(())) => Err(request),
            // Without its worker the node stops.
            Err(TrySendError::Closed(())) => Ok(()),
        });
    }

    fn send_to_worker(&mut self, permit: mpsc::Permit<'_, WorkerMessage>) {
        if let Some(request) = self.core.next_worker_request() {
            permit.send(message_of(request, self.key, &self.events));
        }
    }

    /// True when doing them gave the core new inputs.
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
                    if let Err(TrySendError::Full(_)) = client.try_send(*response) {
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
                RoomEffect::LeaveAssignment => self.leave_assignment(),
                RoomEffect::WriteAssignment(last) => self.write_assignment(*last),
            }
        }
        again
    }

    fn leave_assignment(&self) {
        let (rooms, id, messages) = (self.rooms.clone(), self.id.clone(), self.messages.clone());
        self.rooms.dependencies().tasks.spawn(async move {
            // A failed task must not keep the room for ever.
            let may_end = tokio::spawn(async move { rooms.leave(&id).await }).await.unwrap_or(true);
            if let Some(messages) = messages.upgrade() {
                let _ = messages.send(TaskMessage::AssignmentLeft(may_end)).await;
            }
        });
    }

    fn write_assignment(&self, last: Assignment) {
        let rooms = self.rooms.clone();
        self.rooms.dependencies().tasks.spawn(async move {
            let dependencies = rooms.dependencies();
            dependencies.assignments.restore(&last, dependencies.approves(&last.room)).await;
        });
    }

    /// Closes the room on the links, in the registry when the node stops, and at the worker. A participant
    /// that arrives meanwhile finds a new room.
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
                    tracing::error!(worker, "a worker took nothing for {seconds} s; its rooms are lost");
                    return;
                }
            }
        }
    }

    /// A participant that arrived after the room's end goes to a new room.
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

fn message_of(request: WorkerRequest, room: RoomKey, events: &mpsc::Sender<Event>) -> WorkerMessage {
    match request {
        WorkerRequest::OpenRoom => WorkerMessage::OpenRoom { room, events: events.clone() },
        WorkerRequest::Command(command) => command.into(),
    }
}
