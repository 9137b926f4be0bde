//! The thread of a worker: a single-threaded runtime that reads the sockets, passes everything to the
//! engine, and sends its datagrams.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use smallvec::SmallVec;
use socket2::SockRef;
use systir_transport::Certificate;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::engine::{Engine, EngineConfig};
use super::links::{Links, Ring};
use super::message::WorkerMessage;
use super::multi_send::MultiSender;
use super::send_queue::{Datagrams, GsoGroup, Route, Via};
use super::socket::Socket;
use super::stats::WorkerStats;
use super::streams::{StreamEvent, StreamId, Streams};
use crate::tcp::TcpArrival;
use systir_forwarding::ThreadNotifier;

/// Capacity of the command queue.
const MAX_COMMANDS: usize = 1024;
/// Commands handled per iteration of the loop, before packets.
const COMMANDS_PER_TURN: usize = 64;
/// Accepted TCP streams that may wait for the worker.
const MAX_ARRIVALS: usize = 64;
/// Events of TCP streams handled per iteration.
const STREAM_EVENTS_PER_TURN: usize = 64;
/// Buffer size of one receive, which may hold several coalesced segments (GRO).
const RECEIVE_BUFFER: usize = 65_536;
/// Calls to receive per iteration and socket; each may return many datagrams.
const RECEIVES_PER_TURN: usize = 4;
/// Requested size of the socket buffers; the default loses bursts.
const SOCKET_BUFFER: usize = 8 << 20;
/// Total time per iteration to wait for room in the kernel's send buffers.
const MAX_SEND_WAIT: Duration = Duration::from_millis(2);

/// Parameters of a worker.
#[derive(Debug)]
pub struct WorkerConfig {
    /// The worker's index on the node; part of the thread's name.
    pub index: u8,
    /// Its own UDP sockets, at most one per address family. A dual-stack socket is refused: it shows IPv4
    /// clients under IPv4-mapped IPv6 addresses.
    pub sockets: Vec<std::net::UdpSocket>,
    /// The addresses advertised to clients as ICE candidates.
    pub advertised: Vec<SocketAddr>,
    /// The certificate of all its connections.
    pub certificate: Certificate,
    /// Wakes the worker's thread; the rings to it hold its waker.
    pub notifier: ThreadNotifier,
    /// The rings to and from the QUIC thread.
    pub links: Option<Ring>,
    /// Seed for the first sequence numbers of streams.
    pub seed: u64,
    /// Stops the worker.
    pub stop: CancellationToken,
}

/// A running worker. Dropping the handle stops the worker without waiting for it.
#[derive(Debug)]
pub struct WorkerHandle {
    /// The command queue. The worker stops when all senders are dropped.
    pub commands: mpsc::Sender<WorkerMessage>,
    /// Takes TCP streams whose first check carries an ICE fragment of this worker.
    pub streams: mpsc::Sender<TcpArrival>,
    /// Its counters.
    pub stats: Arc<WorkerStats>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl WorkerHandle {
    /// Stops the worker and blocks until it has closed its connections (milliseconds). False if it
    /// panicked.
    pub fn join(mut self) -> bool {
        self.stop.cancel();
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A media worker.
#[derive(Debug)]
pub struct Worker {
    engine: Engine,
    sockets: Vec<Socket>,
    streams: Streams,
    arrivals: mpsc::Receiver<TcpArrival>,
    stream_events: mpsc::Receiver<StreamEvent>,
    commands: mpsc::Receiver<WorkerMessage>,
    notifier: ThreadNotifier,
    stats: Arc<WorkerStats>,
    stop: CancellationToken,
    sender: MultiSender,
    receive: Vec<u8>,
}

impl Worker {
    /// Starts a worker's thread.
    ///
    /// # Errors
    /// When a socket cannot be used or the thread cannot be started.
    pub fn spawn(config: WorkerConfig) -> io::Result<WorkerHandle> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut sockets = Vec::new();
        {
            let _entered = runtime.enter();
            for socket in config.sockets {
                let own = socket.local_addr()?;
                if own.is_ipv6() && own.ip().is_unspecified() && !SockRef::from(&socket).only_v6()? {
                    let problem = format!("{own} is a dual-stack socket; use one socket for each family");
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
                }
                socket.set_nonblocking(true)?;
                let state = UdpSocketState::new((&socket).into())?;
                for (which, set) in [
                    ("receive", state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER)),
                    ("send", state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER)),
                ] {
                    if let Err(error) = set {
                        warn!(%error, which, "the socket buffer could not be enlarged; bursts may be lost");
                    }
                }
                sockets.push(Socket::new(UdpSocket::from_std(socket)?, state));
            }
        }
        let (commands, command_queue) = mpsc::channel(MAX_COMMANDS);
        let (streams, arrivals) = mpsc::channel(MAX_ARRIVALS);
        let (tcp_streams, stream_events) = Streams::new();
        let stats = Arc::new(WorkerStats::default());
        let stop = config.stop.clone();
        let engine_config = EngineConfig {
            advertised: config.advertised,
            certificate: config.certificate,
            links: Links::new(config.links),
            seed: config.seed,
        };
        let (notifier, published, stopped) = (config.notifier, Arc::clone(&stats), config.stop);
        // The engine is made on its thread: congestion control cannot move to another one.
        let run = move || {
            let worker = Self {
                engine: Engine::new(engine_config, Instant::now()),
                sockets,
                streams: tcp_streams,
                arrivals,
                stream_events,
                commands: command_queue,
                notifier,
                stats: published,
                stop: stopped,
                sender: MultiSender::default(),
                receive: vec![0; RECEIVE_BUFFER * BATCH_SIZE],
            };
            runtime.block_on(worker.run());
        };
        let thread = std::thread::Builder::new().name(format!("media-{}", config.index)).spawn(run)?;
        Ok(WorkerHandle { commands, streams, stats, stop, thread: Some(thread) })
    }

    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut published = Instant::now();
        let mut more = false;
        while !stop.is_cancelled() {
            if more {
                // Lets the runtime poll sockets and wakers without sleeping.
                tokio::task::yield_now().await;
            } else if !self.wait(&stop).await {
                break;
            }
            let now = Instant::now();
            let Some(commanded) = self.take_commands(now) else { break };
            more = commanded;
            for socket in 0..self.sockets.len() {
                more |= self.receive_all(now, socket);
            }
            more |= self.take_stream_events(now);
            more |= self.engine.take_batches(now);
            self.engine.timeout(now);
            self.engine.finish_turn(now);
            self.flush(now).await;
            if now.saturating_duration_since(published) >= Duration::from_millis(100) {
                published = now;
                self.check_streams(now);
                self.stats.publish(&self.engine.counts());
            }
        }
        self.engine.close_all(Instant::now());
        self.flush(Instant::now()).await;
        self.stats.publish(&self.engine.counts());
    }

    /// Sleeps until there is something to do. False when the worker is to stop.
    async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let deadline = self.engine.deadline(Instant::now());
        let sockets = &self.sockets;
        let readable = poll_fn(|context| {
            // All are polled, so that each one wakes this task.
            let ready = sockets.iter().filter(|socket| socket.io.poll_recv_ready(context).is_ready()).count();
            if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = readable => return true,
            () = self.notifier.notified() => return true,
            message = self.commands.recv() => message,
            Some(arrival) = self.arrivals.recv() => {
                self.streams.add(Instant::now(), arrival);
                return true;
            }
            Some(event) = self.stream_events.recv() => {
                self.stream_event(Instant::now(), event);
                return true;
            }
            () = tokio::time::sleep_until(deadline.into()) => return true,
        };
        match message {
            Some(message) => {
                self.engine.handle_message(Instant::now(), message);
                true
            }
            None => false,
        }
    }

    /// Handles queued commands. True when there may be more; none when the queue is closed.
    fn take_commands(&mut self, now: Instant) -> Option<bool> {
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(message) => self.engine.handle_message(now, message),
                Err(TryRecvError::Empty) => return Some(false),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        Some(true)
    }

    /// Handles new TCP streams and their events. True when there may be more.
    fn take_stream_events(&mut self, now: Instant) -> bool {
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.streams.add(now, arrival);
        }
        for _ in 0..STREAM_EVENTS_PER_TURN {
            match self.stream_events.try_recv() {
                Ok(event) => self.stream_event(now, event),
                Err(_) => return false,
            }
        }
        true
    }

    fn stream_event(&mut self, now: Instant, event: StreamEvent) {
        match event {
            StreamEvent::Frame(stream, mut frame) => {
                let Some(peer) = self.streams.peer(stream) else { return };
                if !self.engine.frame(now, stream, peer, &mut frame) {
                    self.drop_stream(stream);
                }
            }
            StreamEvent::Writable(stream) => {
                if self.streams.write(now, stream) {
                    self.drop_stream(stream);
                }
            }
            StreamEvent::Ended(stream) => {
                self.streams.close(stream);
                self.engine.stream_owners.stream_ended(stream);
            }
        }
    }

    fn drop_stream(&mut self, stream: StreamId) {
        self.streams.close(stream);
        self.engine.stream_owners.stream_ended(stream);
        self.engine.egress.counts.streams_dropped += 1;
    }

    fn check_streams(&mut self, now: Instant) {
        let stream_owners = &self.engine.stream_owners;
        for stream in self.streams.overdue(now, |stream| stream_owners.is_authenticated(stream)) {
            self.drop_stream(stream);
        }
        for (stream, unsent, left) in self.streams.backlogs() {
            self.engine.backlog(now, stream, unsent, left);
        }
        self.engine.egress.counts.streams = self.streams.len() as u64;
    }

    /// Receives what has arrived, but not without end. True when there may be more. What arrives together leaves
    /// together.
    fn receive_all(&mut self, now: Instant, socket: usize) -> bool {
        (0..RECEIVES_PER_TURN).all(|_| self.receive(now, socket))
    }

    /// Receives one batch of datagrams. True when there may be more.
    fn receive(&mut self, now: Instant, index: usize) -> bool {
        let Some(socket) = self.sockets.get(index) else { return false };
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let received = {
            let mut buffers: SmallVec<[IoSliceMut<'_>; BATCH_SIZE]> =
                self.receive.chunks_mut(RECEIVE_BUFFER).map(IoSliceMut::new).collect();
            let receive = || socket.state.recv((&socket.io).into(), &mut buffers, &mut metas);
            match socket.io.try_io(Interest::READABLE, receive) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    debug!(%error, "receiving on a UDP socket failed");
                    return false;
                }
            }
        };
        for (meta, buffer) in metas.iter().zip(self.receive.chunks_mut(RECEIVE_BUFFER)).take(received) {
            let Some(bytes) = buffer.get_mut(..meta.len) else { continue };
            for datagram in bytes.chunks_mut(meta.stride.max(1)) {
                self.engine.datagram(now, index, meta.addr, meta.dst_ip, datagram);
            }
        }
        received > 0
    }

    /// Passes all datagrams to the kernel. What a socket does not take in time stays in its batch, and media for it that is
    /// not written yet stays queued; its other datagrams are dropped then, and counted. A full socket delays no other one.
    async fn flush(&mut self, now: Instant) {
        let mut send_wait = MAX_SEND_WAIT;
        for index in 0..self.sockets.len() {
            self.send_batch(now, index, &mut send_wait).await;
        }
        loop {
            let sockets = &self.sockets;
            let is_full = |index: usize| sockets.get(index).is_some_and(|socket| socket.is_full);
            let Some((route, datagrams)) = self.engine.poll_outgoing(now, is_full) else { break };
            match route.via {
                Via::Udp(index) => self.add_to_batch(now, index, route, datagrams, &mut send_wait).await,
                Via::Tcp(stream) => {
                    if self.streams.send(now, stream, &datagrams, &mut self.engine.egress.counts) {
                        self.drop_stream(stream);
                    }
                    self.engine.egress.buffers.queue.recycle(datagrams);
                }
            }
        }
        self.engine.is_sending = false;
        for index in 0..self.sockets.len() {
            self.send_batch(now, index, &mut send_wait).await;
            let Some(socket) = self.sockets.get_mut(index) else { continue };
            while let Some(datagrams) = socket.batch.recycle(true) {
                self.engine.egress.buffers.queue.recycle(datagrams);
            }
            self.engine.is_sending |= !socket.batch.is_empty();
        }
        for stream in self.engine.stream_owners.take_unowned() {
            self.streams.close(stream);
        }
    }

    /// Adds datagrams to the batch of a socket, and sends it when it is full.
    async fn add_to_batch(
        &mut self,
        now: Instant,
        index: usize,
        route: Route,
        datagrams: Datagrams,
        send_wait: &mut Duration,
    ) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        if socket.is_full && socket.batch.is_crowded() {
            self.engine.egress.counts.send_dropped += datagrams.iter().count() as u64;
            self.engine.egress.buffers.queue.recycle(datagrams);
            return;
        }
        let (max_segments, is_refused) =
            (socket.max_segments(now, route.to), socket.is_refused(now, route.to));
        for group in socket.batch.take(route, datagrams, max_segments) {
            if self.push(index, &group, is_refused) {
                continue;
            }
            self.send_batch(now, index, send_wait).await;
            if !self.push(index, &group, is_refused) {
                self.engine.egress.counts.send_dropped += group.count as u64;
            }
        }
        if let Some(datagrams) = self.sockets.get_mut(index).and_then(|socket| socket.batch.give_back()) {
            self.engine.egress.buffers.queue.recycle(datagrams);
        }
    }

    fn push(&mut self, index: usize, group: &GsoGroup, is_refused: bool) -> bool {
        self.sockets.get_mut(index).is_some_and(|socket| socket.batch.push(group, is_refused))
    }

    /// Sends the batch of a socket.
    async fn send_batch(&mut self, now: Instant, index: usize, send_wait: &mut Duration) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let counts = &mut self.engine.egress.counts;
        socket.send(now, &mut self.sender, send_wait, counts).await;
        while let Some(datagrams) = socket.batch.recycle(false) {
            self.engine.egress.buffers.queue.recycle(datagrams);
        }
    }
}
