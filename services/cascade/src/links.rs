//! The facade of all links of a node.

use crate::event::{LinkEvent, RoomBody};
use crate::flow::MAX_WORKERS;
use crate::grpc::call_error::CallError;
use crate::grpc::client::{Clients, with_timeout};
use crate::grpc::heartbeat::Heartbeats;
use crate::grpc::tls;
use crate::handler::Handler;
use crate::link::info::LinkInfo;
use crate::link::needed_rooms;
use crate::link::runtime::LinkRuntime;
use crate::link::send::{self, RoomSendError};
use crate::link::table::LinkTable;
use crate::peer_address::PeerAddress;
use crate::quic::{self, QuicCommand, QuicConfig, WorkerPort};
use crate::server;
use crate::signal::{self, Outgoing, SignalReceiver, SignalSender, SignalStream};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use systir_forwarding::ThreadNotifier;
use systir_identity::{Credentials, SpiffeId};
use systir_proto::cluster::v1::signal_message::Body;
use systir_proto::cluster::v1::{ReleaseRequest, ReserveReply, ReserveRequest, SignalMessage, SignalStart};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Link event queue. When it is full, links stop reading their sessions.
const EVENT_QUEUE: usize = 4096;

/// Configuration of a node's links.
pub struct LinksConfig {
    /// This node's certificate and the CAs that it trusts.
    pub credentials: Credentials,
    /// Bound socket for QUIC.
    pub quic_socket: UdpSocket,
    /// Bound listener for gRPC.
    pub grpc_listener: TcpListener,
    /// More services on the gRPC port, for example for operators. They must check
    /// [`crate::ProvenPeer`] themselves.
    pub services: Routes,
    /// The notifier that the workers' rings wake.
    pub notifier: ThreadNotifier,
    /// The workers' rings, indexed by worker number; at most 16.
    pub workers: Vec<WorkerPort>,
    /// Highest send rate of one link in bits per second.
    pub ceiling_bps: u64,
    /// QUIC connections per link that this node dials, 1 to 8.
    pub connections: u8,
    /// Largest UDP payload that path MTU discovery tries, in bytes; 1452 fits Ethernet.
    pub max_mtu: u16,
    /// Socket buffer to request from the kernel, in bytes per direction.
    pub socket_buffer: usize,
    /// How long a link stays up without rooms.
    pub linger: Duration,
}

impl LinksConfig {
    /// The defaults: 10 Gbit/s, one connection, 1452 bytes, 32 MiB, 5 s, no workers.
    #[must_use]
    pub fn new(credentials: Credentials, quic_socket: UdpSocket, grpc_listener: TcpListener) -> Self {
        Self {
            credentials,
            quic_socket,
            grpc_listener,
            services: Routes::default(),
            notifier: ThreadNotifier::new(),
            workers: Vec::new(),
            ceiling_bps: 10_000_000_000,
            connections: 1,
            max_mtu: 1452,
            socket_buffer: 32 << 20,
            linger: Duration::from_secs(5),
        }
    }
}

/// Why links could not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// More workers than flow identifiers can name.
    #[error("{0} workers are too many; links serve at most 16")]
    TooManyWorkers(usize),
    /// The QUIC thread.
    #[error("the QUIC thread did not start: {0}")]
    Quic(String),
    /// The gRPC server.
    #[error("the gRPC server did not start: {0}")]
    Grpc(String),
}

/// All links of a node. Cheap to clone; dropping the last clone ends all links.
#[derive(Clone)]
pub struct Links {
    runtime: Arc<LinkRuntime>,
    heartbeats: Arc<Heartbeats>,
    owner: Arc<Owner>,
}

/// Stops the tasks and the thread when the last clone is dropped.
struct Owner {
    runtime: Arc<LinkRuntime>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.runtime.cancel.cancel();
        self.runtime.quic.send(QuicCommand::Shutdown);
    }
}

impl Links {
    /// Starts the QUIC thread and the gRPC server; must be called on a tokio runtime. The caller must
    /// keep reading the events.
    ///
    /// # Errors
    /// When the thread, a socket or TLS fails, or there are too many workers.
    pub fn start(
        config: LinksConfig,
        handler: Arc<dyn Handler>,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>), StartError> {
        if config.workers.len() > MAX_WORKERS {
            return Err(StartError::TooManyWorkers(config.workers.len()));
        }
        let connections = config.connections.clamp(1, 8);
        let quic_config = QuicConfig {
            credentials: config.credentials.clone(),
            ceiling: config.ceiling_bps / 8,
            connections,
            max_mtu: config.max_mtu,
            socket_buffer: config.socket_buffer,
        };
        let tls = tls::server_config(&config.credentials).map_err(StartError::Grpc)?;
        let (quic, thread) = quic::spawn(quic_config, config.quic_socket, config.notifier, config.workers)
            .map_err(StartError::Quic)?;
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let clients = Arc::new(Clients::new(config.credentials.clone()));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let runtime = Arc::new(LinkRuntime {
            credentials: config.credentials,
            handler,
            events,
            quic,
            clients: clients.clone(),
            connections,
            linger: config.linger,
            cancel: cancel.clone(),
            tasks: tasks.clone(),
            table: LinkTable::default(),
        });
        let links = runtime.clone();
        let heartbeats = Heartbeats::new(clients, tasks, cancel, move |peer| links.table.is_up(peer));
        runtime.tasks.spawn(server::serve(runtime.clone(), config.grpc_listener, tls, config.services));
        let owner = Owner { runtime: runtime.clone(), thread: Mutex::new(Some(thread)) };
        Ok((Self { runtime, heartbeats: Arc::new(heartbeats), owner: Arc::new(owner) }, receiver))
    }

    /// This node's SPIFFE id.
    #[must_use]
    pub fn me(&self) -> &SpiffeId {
        self.runtime.credentials.id()
    }

    /// Requests the room on the link with the peer, and dials the peer if there is no link. The caller
    /// has asked its own policy; the peer asks its policy. `RoomOpened` or `RoomRefused` follows once
    /// the link is up. A call with another epoch or policy version asks the peer again.
    pub fn open_room(&self, room: &str, peer: PeerAddress, epoch: u64, policy_version: u64) {
        needed_rooms::open_room(&self.runtime, room, peer, epoch, policy_version);
    }

    /// Closes the room on the link with the peer, immediately and at both nodes. A link without rooms
    /// ends after [`LinksConfig::linger`].
    pub fn close_room(&self, room: &str, peer: &SpiffeId) {
        needed_rooms::close_room(&self.runtime, room, peer);
    }

    /// Sends a message about an open room without waiting.
    ///
    /// # Errors
    /// See [`RoomSendError`].
    pub fn send(&self, peer: &SpiffeId, room: &str, body: RoomBody) -> Result<(), RoomSendError> {
        send::send(&self.runtime, peer, room, body)
    }

    /// All links that are up.
    #[must_use]
    pub fn list(&self) -> Vec<LinkInfo> {
        self.runtime.table.list()
    }

    /// Packets lost between threads: those that a full ring to a worker dropped, and those that
    /// workers sent to links that are down.
    #[must_use]
    pub fn lost_between_threads(&self) -> (u64, u64) {
        self.runtime.quic.lost()
    }

    /// Asks a node to reserve a seat for a participant.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer within 3 s.
    pub async fn reserve(
        &self,
        peer: &PeerAddress,
        request: ReserveRequest,
    ) -> Result<ReserveReply, CallError> {
        let mut client = self.runtime.clients.shared(peer);
        with_timeout(CALL_TIMEOUT, client.reserve(request)).await
    }

    /// Releases a reservation or a seat.
    ///
    /// # Errors
    /// When the node cannot be reached or does not answer within 3 s.
    pub async fn release(&self, peer: &PeerAddress, request: ReleaseRequest) -> Result<(), CallError> {
        let mut client = self.runtime.clients.shared(peer);
        with_timeout(CALL_TIMEOUT, client.release(request)).await.map(|_| ())
    }

    /// Starts relaying a participant's signalling to its media node. The caller has asked its own
    /// policy.
    ///
    /// # Errors
    /// When the node refuses, cannot be reached or does not answer within 3 s.
    pub async fn signal(&self, peer: &PeerAddress, start: SignalStart) -> Result<SignalStream, CallError> {
        let mut client = self.runtime.clients.shared(peer);
        let (tx, rx) = mpsc::channel(signal::QUEUE);
        let first = SignalMessage { seq: 0, body: Some(Body::Start(start)) };
        tx.try_send(first).map_err(|error| CallError::Failed(error.to_string()))?;
        let stream = with_timeout(CALL_TIMEOUT, client.signal(ReceiverStream::new(rx))).await?;
        Ok(SignalStream {
            tx: SignalSender { out: Outgoing::Request(tx), next: 1 },
            rx: SignalReceiver {
                stream,
                next: 1,
                ended: false,
                heartbeat: Some(self.heartbeats.start(peer)),
            },
        })
    }

    /// Ends all links, the gRPC server and the QUIC thread, within about 3 s.
    pub async fn shutdown(&self) {
        self.runtime.cancel.cancel();
        self.runtime.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.runtime.tasks.wait()).await;
        self.runtime.quic.send(QuicCommand::Shutdown);
        let thread = self.owner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            let _ = tokio::time::timeout(Duration::from_secs(1), joined).await;
        }
    }
}
