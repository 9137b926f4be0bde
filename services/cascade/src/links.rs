//! Links from the node's side: who needs one, who dials, what is open on it.

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
use crate::link::send::{self, SendError};
use crate::link::table::LinkTable;
use crate::peer_address::PeerAddress;
use crate::quic::{self, Command, QuicConfig, WorkerPort};
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
/// Events that wait for the node, at most; then the peers wait.
const EVENT_QUEUE: usize = 4096;

/// What links are made of.
pub struct LinksConfig {
    /// Who this node is and whom it believes.
    pub credentials: Credentials,
    /// Bound socket for QUIC.
    pub quic_socket: UdpSocket,
    /// Bound listener for gRPC.
    pub grpc_listener: TcpListener,
    /// More services for the gRPC port, such as the operators'. They see [`crate::ProvenPeer`] and
    /// must check it themselves.
    pub services: Routes,
    /// The notifier whose waker the workers' rings were made with.
    pub notifier: ThreadNotifier,
    /// The workers' rings, in the order of the workers' numbers, at most 16.
    pub workers: Vec<WorkerPort>,
    /// Bits per second that one link may send.
    pub ceiling_bps: u64,
    /// QUIC connections per link that this node dials, 1 to 8.
    pub connections: u8,
    /// Largest UDP payload to look for; 1452 fits Ethernet.
    pub max_mtu: u16,
    /// Bytes of socket buffer to ask the system for, each way.
    pub socket_buffer: usize,
    /// How long a link that no room needs is kept.
    pub linger: Duration,
}

impl LinksConfig {
    /// With usual values: 10 Gbit/s, one connection, Ethernet, 32 MiB, 5 s, no workers.
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

/// Links could not be started.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// More workers than a flow can name.
    #[error("{0} workers are too many for links; at most 16 can have one")]
    TooManyWorkers(usize),
    /// The QUIC thread.
    #[error("the QUIC half of links did not start: {0}")]
    Quic(String),
    /// The gRPC server.
    #[error("the gRPC half of links did not start: {0}")]
    Grpc(String),
}

/// The node's links. Cheap to clone; all ends when the last clone is dropped.
#[derive(Clone)]
pub struct Links {
    runtime: Arc<LinkRuntime>,
    heartbeats: Arc<Heartbeats>,
    owner: Arc<Owner>,
}

/// Ends everything with the last handle.
struct Owner {
    runtime: Arc<LinkRuntime>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.runtime.cancel.cancel();
        self.runtime.quic.send(Command::Shutdown);
    }
}

impl Links {
    /// Starts both halves; must be called on a tokio runtime. The events must be read all the time.
    ///
    /// # Errors
    /// When the thread, the sockets or TLS do not start.
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

    /// Who this node is.
    #[must_use]
    pub fn me(&self) -> &SpiffeId {
        self.runtime.credentials.id()
    }

    /// The room needs a link with the peer. The caller's own policy has said yes; the peer is asked
    /// for its own. `RoomOpened` or `RoomRefused` follows once the link stands. Said again with
    /// another epoch or policy version, the peer is asked again.
    pub fn open_room(&self, room: &str, peer: PeerAddress, epoch: u64, policy_version: u64) {
        needed_rooms::open_room(&self.runtime, room, peer, epoch, policy_version);
    }

    /// The room is closed on the link with the peer, at once and at both ends. A link without rooms
    /// ends after the linger time.
    pub fn close_room(&self, room: &str, peer: &SpiffeId) {
        needed_rooms::close_room(&self.runtime, room, peer);
    }

    /// Sends a message about an open room, without waiting.
    ///
    /// # Errors
    /// When there is no link, the room is not open on it, or the peer does not read.
    pub fn send(&self, peer: &SpiffeId, room: &str, body: RoomBody) -> Result<(), SendError> {
        send::send(&self.runtime, peer, room, body)
    }

    /// All links that stand.
    #[must_use]
    pub fn list(&self) -> Vec<LinkInfo> {
        self.runtime.table.list()
    }

    /// Packets that workers did not take in time, and packets of workers for links that are gone.
    #[must_use]
    pub fn lost_between_threads(&self) -> (u64, u64) {
        self.runtime.quic.lost()
    }

    /// Asks a node for a participant's place.
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

    /// Gives a place back.
    ///
    /// # Errors
    /// When the node cannot be reached or does not answer within 3 s.
    pub async fn release(&self, peer: &PeerAddress, request: ReleaseRequest) -> Result<(), CallError> {
        let mut client = self.runtime.clients.shared(peer);
        with_timeout(CALL_TIMEOUT, client.release(request)).await.map(|_| ())
    }

    /// Begins to relay a participant's signalling to its media node. The caller's own policy has
    /// said yes.
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

    /// Ends all links and both halves, within about 3 s.
    pub async fn shutdown(&self) {
        self.runtime.cancel.cancel();
        self.runtime.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.runtime.tasks.wait()).await;
        self.runtime.quic.send(Command::Shutdown);
        let thread = self.owner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            let _ = tokio::time::timeout(Duration::from_secs(1), joined).await;
        }
    }
}
