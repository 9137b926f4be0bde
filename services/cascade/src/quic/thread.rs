//! The thread of the links: accepts and dials connections, binds them to links, and drains the
//! workers' rings.

use super::bind::{self, Greeting};
use super::config::QuicConfig;
use super::lane::{self, Lane};
use super::router::{FlowTable, Router};
use super::{Binding, Command, LinkId};
use crate::bell::Doorbell;
use crate::event::{DownReason, LinkNumber};
use crate::flow::FlowId;
use crate::frame;
use crate::stats::LinkStats;
use bytes::BytesMut;
use quinn::{
    Connection, ConnectionStats, Endpoint, EndpointConfig, Incoming, SendStream, TokioRuntime, VarInt,
};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;
use systir_media::batch::{Batch, BatchReceiver, BatchSender};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

/// All lanes of a link stand within this time, or none.
const BIND: Duration = Duration::from_secs(3);
/// Connections that have not said whose they are, at most.
const STRANGERS: usize = 64;
/// Batches taken from workers at a stretch.
const STRETCH: usize = 64;
/// The arena that frames are cut from.
const ARENA: usize = 64 << 10;

/// One worker's rings, seen from the links.
pub struct WorkerPort {
    /// Packets that the worker sends.
    pub from: BatchReceiver,
    /// Packets for the worker.
    pub to: BatchSender,
}

/// The control half's grip on the thread.
#[derive(Clone)]
pub(crate) struct QuicHandle {
    commands: mpsc::Sender<Command>,
    lost_to_workers: Arc<AtomicU64>,
    unknown_link: Arc<AtomicU64>,
}

impl QuicHandle {
    /// Asks; false when the thread is gone or does not keep up.
    pub(crate) fn ask(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Packets lost to full rings, and packets of workers for links that are gone.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.lost_to_workers.load(Ordering::Relaxed), self.unknown_link.load(Ordering::Relaxed))
    }
}

/// Starts the thread. It ends on `Shutdown` or when the handle is gone.
pub(crate) fn spawn(
    config: QuicConfig,
    socket: UdpSocket,
    bell: Doorbell,
    workers: Vec<WorkerPort>,
) -> Result<(QuicHandle, std::thread::JoinHandle<()>), String> {
    enlarge(&socket, config.socket_buffer);
    let server = config.server()?;
    let (commands, inbox) = mpsc::channel(4096);
    let handle = QuicHandle { commands, lost_to_workers: Arc::default(), unknown_link: Arc::default() };
    let counters = handle.clone();
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("links".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error.to_string()))),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let endpoint =
                    Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime));
                let endpoint = match endpoint {
                    Ok(endpoint) => endpoint,
                    Err(error) => return drop(started.send(Err(error.to_string()))),
                };
                let _ = started.send(Ok(()));
                // The handle's sender must not keep its own thread alive.
                let QuicHandle { lost_to_workers, unknown_link, .. } = counters;
                run(config, endpoint, bell, workers, inbox, lost_to_workers, unknown_link).await;
            });
        })
        .map_err(|error| error.to_string())?;
    outcome.recv().map_err(|error| error.to_string())??;
    Ok((handle, thread))
}

/// As large as the system lets us, up to `size`.
fn enlarge(socket: &UdpSocket, size: usize) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(size);
    let _ = socket.set_send_buffer_size(size);
    // Linux tells twice what it grants, for its own needs.
    let granted = socket.recv_buffer_size().unwrap_or_default() / 2;
    if granted < size {
        warn!(
            granted,
            wanted = size,
            "the links' socket buffer is small; raise net.core.rmem_max and wmem_max"
        );
    }
}

struct State {
    config: QuicConfig,
    endpoint: Endpoint,
    router: Rc<Router>,
    expected: RefCell<FxHashMap<LinkId, Rc<Pending>>>,
    trunks: RefCell<FxHashMap<LinkNumber, Rc<Trunk>>>,
    /// Tasks that dial, to be ended with their link.
    dials: RefCell<FxHashMap<LinkNumber, AbortHandle>>,
    strangers: Cell<usize>,
}

/// A link that waits for the peer's connections.
struct Pending {
    number: LinkNumber,
    peer: SpiffeId,
    lanes: u8,
    binding: RefCell<Option<Binding>>,
    arrived: RefCell<Vec<(u8, Connection, SendStream)>>,
}

/// The media half of a link.
pub(super) struct Trunk {
    number: LinkNumber,
    lanes: RefCell<Vec<Rc<Lane>>>,
    flows: RefCell<FlowTable>,
    pub(super) router: Rc<Router>,
    stats: RefCell<LinkStats>,
    published: Arc<Mutex<LinkStats>>,
    down: RefCell<Option<oneshot::Sender<DownReason>>>,
}

impl Trunk {
    pub(super) fn count(&self, count: impl FnOnce(&mut LinkStats)) {
        count(&mut self.stats.borrow_mut());
    }

    pub(super) fn deliver(&self, flow: FlowId, packet: &[u8]) {
        let worker = self.flows.borrow().receiver(flow);
        let delivered = worker.is_some_and(|worker| self.router.deliver(worker, self.number, flow, packet));
        self.count(|stats| {
            if delivered {
                stats.packets_in += 1;
                stats.bytes_in += packet.len() as u64;
            } else {
                stats.unroutable += 1;
            }
        });
    }

    /// Tells the control half; only the first reason counts. The connections close.
    pub(super) fn end(&self, reason: DownReason) {
        let text = reason.to_string();
        if let Some(down) = self.down.borrow_mut().take() {
            let _ = down.send(reason);
        }
        for lane in self.lanes.borrow().iter() {
            lane.connection.close(VarInt::from_u32(0), text.as_bytes());
        }
    }

    /// Has the control half let go of the link without saying so?
    pub(super) fn is_abandoned(&self) -> bool {
        self.down.borrow().as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    pub(super) fn publish(&self, lane: &Lane, connection: &ConnectionStats, rate: u64) {
        let mut stats = self.stats.borrow_mut();
        let lanes = self.lanes.borrow();
        stats.dropped = [0; crate::queue::CLASSES];
        for lane in lanes.iter() {
            for (sum, dropped) in stats.dropped.iter_mut().zip(lane.dropped()) {
                *sum += dropped;
            }
        }
        let first =
            lanes.first().is_some_and(|first| first.connection.stable_id() == lane.connection.stable_id());
        if first {
            stats.rtt = connection.path.rtt;
            stats.mtu = connection.path.current_mtu;
            stats.rate = rate.saturating_mul(lanes.len() as u64);
            stats.lost = connection.path.lost_packets;
            stats.sent = connection.path.sent_packets;
        }
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    fn lane(&self, flow: FlowId) -> Option<Rc<Lane>> {
        let lanes = self.lanes.borrow();
        lanes.get(flow.counter() as usize % lanes.len().max(1)).cloned()
    }
}

async fn run(
    config: QuicConfig,
    endpoint: Endpoint,
    bell: Doorbell,
    workers: Vec<WorkerPort>,
    mut inbox: mpsc::Receiver<Command>,
    lost_to_workers: Arc<AtomicU64>,
    unknown_link: Arc<AtomicU64>,
) {
    let state = Rc::new(State {
        config,
        endpoint,
        router: Rc::new(Router::new(workers)),
        expected: RefCell::default(),
        trunks: RefCell::default(),
        dials: RefCell::default(),
        strangers: Cell::new(0),
    });
    let mut arena = BytesMut::with_capacity(ARENA);
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Shutdown) | None => break,
                Some(command) => obey(&state, command),
            },
            incoming = state.endpoint.accept() => match incoming {
                Some(incoming) => accept(&state, incoming),
                None => break,
            },
            () = bell.rung() => {
                let lost = drain(&state, &bell, &mut arena);
                unknown_link.fetch_add(lost, Ordering::Relaxed);
                lost_to_workers.store(state.router.lost(), Ordering::Relaxed);
            }
        }
    }
    for trunk in state.trunks.take().into_values() {
        trunk.end(DownReason::Shutdown);
    }
    state.endpoint.close(VarInt::from_u32(0), b"this node stops");
    let _ = tokio::time::timeout(Duration::from_millis(500), state.endpoint.wait_idle()).await;
}

/// Empties the workers' rings into the lanes; the number of packets without a link.
fn drain(state: &State, bell: &Doorbell, arena: &mut BytesMut) -> u64 {
    let mut lost = 0;
    for batches in 1.. {
        let Some((worker, batch)) = state.router.take() else { break };
        let now = Instant::now();
        lost += spread(state, arena, now, worker, &batch);
        state.router.recycle(worker, batch);
        if batches == STRETCH {
            // The connections want their turn too; the rest comes right after.
            bell.waker().wake();
            break;
        }
    }
    let now = Instant::now();
    for trunk in state.trunks.borrow().values() {
        for lane in trunk.lanes.borrow().iter() {
            lane.pump(now, trunk);
        }
    }
    lost
}

fn spread(state: &State, arena: &mut BytesMut, now: Instant, worker: u8, batch: &Batch) -> u64 {
    let mut lost = 0;
    let trunks = state.trunks.borrow();
    for (entry, packet) in batch.iter() {
        let target = trunks.get(&entry.peer).zip(FlowId::from_raw(entry.flow));
        let Some((trunk, flow)) = target else {
            lost += 1;
            continue;
        };
        let Some(lane) = trunk.lane(flow) else { continue };
        trunk.flows.borrow_mut().sent(flow, worker);
        if arena.capacity() - arena.len() < packet.len() + frame::PACKET_HEADER {
            arena.reserve(ARENA.max(packet.len() + frame::PACKET_HEADER));
        }
        frame::write_packet(arena, flow, packet);
        lane.push(now, entry.priority, arena.split().freeze());
    }
    lost
}

fn obey(state: &Rc<State>, command: Command) {
    match command {
        Command::Expect(binding) => expect(state, binding),
        Command::Connect(binding, address) => {
            let number = binding.number;
            let task = tokio::task::spawn_local(dial(state.clone(), binding, address));
            state.dials.borrow_mut().insert(number, task.abort_handle());
        }
        Command::Close(number) => {
            if let Some(dial) = state.dials.borrow_mut().remove(&number) {
                dial.abort();
            }
            state.expected.borrow_mut().retain(|_, pending| pending.number != number);
            let trunk = state.trunks.borrow_mut().remove(&number);
            if let Some(trunk) = trunk {
                trunk.end(DownReason::Idle);
            }
        }
        Command::Shutdown => {}
    }
}

fn expect(state: &Rc<State>, binding: Binding) {
    let id = binding.id;
    let pending = Rc::new(Pending {
        number: binding.number,
        peer: binding.peer.clone(),
        lanes: binding.lanes,
        binding: RefCell::new(Some(binding)),
        arrived: RefCell::default(),
    });
    let number = pending.number;
    state.expected.borrow_mut().insert(id, pending);
    let state = state.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(BIND).await;
        let mut expected = state.expected.borrow_mut();
        if expected.get(&id).is_some_and(|pending| pending.number == number)
            && let Some(pending) = expected.remove(&id)
            && let Some(binding) = pending.binding.borrow_mut().take()
        {
            let _ = binding.ready.send(Err("the peer's QUIC connections did not come within 3 s".to_owned()));
        }
    });
}

fn accept(state: &Rc<State>, incoming: Incoming) {
    if state.strangers.get() >= STRANGERS {
        return incoming.refuse();
    }
    state.strangers.set(state.strangers.get() + 1);
    let state = state.clone();
    tokio::task::spawn_local(async move {
        let from = incoming.remote_address();
        let outcome = tokio::time::timeout(BIND, admit(&state, incoming)).await;
        state.strangers.set(state.strangers.get().saturating_sub(1));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => debug!(%from, reason, "a QUIC connection was refused"),
            Err(_) => debug!(%from, "a QUIC connection did not say whose it is within 3 s"),
        }
    });
}

async fn admit(state: &Rc<State>, incoming: Incoming) -> Result<(), String> {
    let connecting = incoming.accept().map_err(|error| error.to_string())?;
    let connection = connecting.await.map_err(|error| error.to_string())?;
    let peer = bind::proven(&connection)?;
    let (greeting, answer) = bind::greeted(&connection).await?;
    let pending = state.expected.borrow().get(&greeting.id).cloned();
    let pending = pending.filter(|pending| pending.peer == peer && pending.lanes == greeting.lanes);
    let Some(pending) = pending else {
        connection.close(VarInt::from_u32(1), b"no such link");
        return Err(format!("{peer} named a link that it has not announced"));
    };
    {
        let mut arrived = pending.arrived.borrow_mut();
        if arrived.iter().any(|(lane, ..)| *lane == greeting.lane) {
            connection.close(VarInt::from_u32(1), b"this lane is there already");
            return Err(format!("{peer} connected the same lane twice"));
        }
        arrived.push((greeting.lane, connection, answer));
        if arrived.len() < usize::from(pending.lanes) {
            return Ok(());
        }
    }
    state.expected.borrow_mut().remove(&greeting.id);
    let Some(binding) = pending.binding.borrow_mut().take() else { return Ok(()) };
    let mut arrived = pending.arrived.take();
    arrived.sort_by_key(|(lane, ..)| *lane);
    let mut connections = Vec::new();
    for (_, connection, answer) in arrived {
        bind::welcome(answer).await?;
        connections.push(connection);
    }
    start(state, binding, connections);
    Ok(())
}

async fn dial(state: Rc<State>, binding: Binding, address: SocketAddr) {
    let outcome = tokio::time::timeout(BIND, connect(&state, &binding, address)).await;
    state.dials.borrow_mut().remove(&binding.number);
    match outcome {
        Ok(Ok(connections)) => start(&state, binding, connections),
        Ok(Err(reason)) => drop(binding.ready.send(Err(reason))),
        Err(_) => drop(binding.ready.send(Err("QUIC did not connect within 3 s".to_owned()))),
    }
}

async fn connect(state: &State, binding: &Binding, address: SocketAddr) -> Result<Vec<Connection>, String> {
    let config = state.config.client(&binding.peer)?;
    let lanes = (0..binding.lanes).map(|lane| {
        let config = config.clone();
        async move {
            let connecting = state
                .endpoint
                .connect_with(config, address, crate::SERVER_NAME)
                .map_err(|error| error.to_string())?;
            let connection = connecting.await.map_err(|error| error.to_string())?;
            let peer = bind::proven(&connection)?;
            if peer != binding.peer {
                return Err(format!("{peer} answered for {}", binding.peer));
            }
            let greeting = Greeting { id: binding.id, lane, lanes: binding.lanes };
            bind::greet(&connection, greeting).await?;
            Ok(connection)
        }
    });
    futures::future::try_join_all(lanes).await
}

fn start(state: &Rc<State>, binding: Binding, connections: Vec<Connection>) {
    let now = Instant::now();
    let ceiling = state.config.lane_ceiling();
    let capacity = state.config.send_buffer();
    let lanes: Vec<_> = connections
        .into_iter()
        .map(|connection| Rc::new(Lane::new(connection, ceiling, capacity, now)))
        .collect();
    let trunk = Rc::new(Trunk {
        number: binding.number,
        lanes: RefCell::new(lanes.clone()),
        flows: RefCell::new(FlowTable::new(binding.parity)),
        router: state.router.clone(),
        stats: RefCell::default(),
        published: binding.stats,
        down: RefCell::new(Some(binding.down)),
    });
    if binding.ready.send(Ok(())).is_err() {
        // The control half gave up meanwhile.
        return trunk.end(DownReason::Idle);
    }
    state.trunks.borrow_mut().insert(binding.number, trunk.clone());
    for lane in lanes {
        tokio::task::spawn_local(lane::read(lane.clone(), trunk.clone()));
        tokio::task::spawn_local(lane::tend(lane, trunk.clone()));
    }
}
