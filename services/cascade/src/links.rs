//! The facade of all links of a node.

use crate::authenticator::Authenticator;
use crate::documents::{self, HeldDocument};
use crate::event::{DownReason, LinkEvent, RoomBody};
use crate::flow::MAX_WORKERS;
use crate::grpc::call_error::CallError;
use crate::grpc::client::{Clients, with_timeout};
use crate::grpc::dialler::NodeDialler;
use crate::grpc::heartbeat::Heartbeats;
use crate::grpc::listener::NodeListener;
use crate::grpc::open_connections::OpenConnections;
use crate::handler::Handler;
use crate::identity_counters::IdentityCounts;
use crate::link::info::LinkInfo;
use crate::link::runtime::LinkRuntime;
use crate::link::send::{self, RoomSendError};
use crate::link::state_pace::StatePaces;
use crate::link::table::LinkTable;
use crate::link::{documents as link_documents, needed_rooms};
use crate::links_config::{LinksConfig, StartError};
use crate::peer_address::PeerAddress;
use crate::quic::{self, QuicCommand, QuicConfig};
use crate::server;
use crate::signal::{self, Outgoing, SignalReceiver, SignalSender, SignalStream};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use systir_documents::DocumentId;
use systir_identity::{ProvenIdentity, SpiffeId};
use systir_limits::AttemptLimiter;
use systir_proto::cluster::v1::signal_message::Body;
use systir_proto::cluster::v1::{
    GrantReply, GrantRequest, ReleaseRequest, ReserveReply, ReserveRequest, SignalMessage, SignalStart,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Link event queue. When it is full, links stop reading their sessions.
const EVENT_QUEUE: usize = 4096;
/// Peers whose calls are remembered, at most.
const MAX_PEERS: usize = 1024;

/// All links of a node. Cheap to clone; dropping the last clone ends all links.
#[derive(Clone)]
pub struct Links {
    runtime: Arc<LinkRuntime>,
    connections: Arc<OpenConnections>,
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
        let authenticator = Arc::new(Authenticator {
            credentials: config.credentials,
            node_key: config.node_key,
            listed: config.listed,
            versions: config.versions,
            counters: Default::default(),
        });
        let quic_config = QuicConfig {
            authenticator: authenticator.clone(),
            ceiling: config.ceiling_bps / 8,
            connections,
            max_mtu: config.max_mtu,
            socket_buffer: config.socket_buffer,
        };
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let open = Arc::new(OpenConnections::default());
        let listener = NodeListener::new(authenticator.clone(), open.clone(), cancel.clone())
            .map_err(StartError::Grpc)?;
        let (quic, thread) = quic::spawn(quic_config, config.quic_socket, config.notifier, config.workers)
            .map_err(StartError::Quic)?;
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let clients = Arc::new(Clients::new(Arc::new(NodeDialler {
            authenticator: authenticator.clone(),
            open: open.clone(),
            tasks: tasks.clone(),
            cancel: cancel.clone(),
        })));
        let runtime = Arc::new(LinkRuntime {
            authenticator,
            handler,
            events,
            quic,
            clients: clients.clone(),
            connections,
            linger: config.linger,
            cancel: cancel.clone(),
            tasks: tasks.clone(),
            table: LinkTable::default(),
            paces: StatePaces::default(),
        });
        let links = runtime.clone();
        let heartbeats = Heartbeats::new(clients, tasks, cancel, move |peer| links.table.is_up(peer));
        let (calls, interval) = config.join_calls;
        let join_calls = AttemptLimiter::new(calls, interval, MAX_PEERS);
        let served = server::serve(runtime.clone(), open.clone(), config.grpc_listener, listener, join_calls);
        runtime.tasks.spawn(served);
        let owner = Owner { runtime: runtime.clone(), thread: Mutex::new(Some(thread)) };
        let (heartbeats, owner) = (Arc::new(heartbeats), Arc::new(owner));
        Ok((Self { runtime, connections: open, heartbeats, owner }, receiver))
    }

    /// This node's SPIFFE id.
    #[must_use]
    pub fn me(&self) -> &SpiffeId {
        self.runtime.authenticator.me()
    }

    /// Requests the room on the link with the peer, and dials the peer if there is no link. The caller
    /// has asked its own policy by the peer's name; the peer asks its policy, and then
    /// [`crate::Handler::may_open`] decides on the identity that the peer proved. `RoomOpened` or
    /// `RoomRefused` follows once the link is up. A call with another epoch or policy version asks the peer again.
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

    /// Is a link with the peer up?
    #[must_use]
    pub fn is_up(&self, peer: &SpiffeId) -> bool {
        self.runtime.table.is_up(peer)
    }

    /// Since when the link with the peer is up. None while there is none.
    #[must_use]
    pub fn up_since(&self, peer: &SpiffeId) -> Option<Instant> {
        self.runtime.table.up(peer).map(|link| link.since)
    }

    /// The identity that the peer of a link proved last. None when no link with it is up.
    #[must_use]
    pub fn identity(&self, peer: &SpiffeId) -> Option<ProvenIdentity> {
        self.runtime.table.up(peer).map(|link| link.connection.peer())
    }

    /// Ends at once all links and gRPC connections, with the signalling on them, whose peer is not accepted any
    /// more: it is not listed, or not with its node key, or the trusted roots do not vouch for its certificate. To be
    /// called when a directory has changed, after [`crate::ListedNodes`] and the roots of
    /// [`systir_identity::Credentials`] are those of the new one. Connections that are made later are checked by the
    /// same.
    pub fn end_unaccepted(&self) {
        let accepts = |peer: &ProvenIdentity| self.runtime.authenticator.accepts(peer);
        for link in self.runtime.table.all_up() {
            if !accepts(&link.connection.peer()) {
                link.end(DownReason::Unlisted);
                // Media must not wait for the session, which may be busy.
                self.runtime.quic.send(QuicCommand::Close(link.number));
            }
        }
        self.connections.end_unless(accepts);
    }

    /// For each peer, when the first of the connections with it ends unless certificates are renewed.
    #[must_use]
    pub fn connection_ends(&self) -> BTreeMap<SpiffeId, SystemTime> {
        self.connections.ends()
    }

    /// What has happened to the identities of peers since the start.
    #[must_use]
    pub fn identity_counts(&self) -> IdentityCounts {
        self.runtime.authenticator.counters.counts()
    }

    /// Tells all peers which documents this node holds. To be called when [`crate::Handler::document_versions`] changes.
    pub fn announce_documents(&self) {
        link_documents::announce_to_all(&self.runtime);
    }

    /// Tells a node which documents this node holds, and asks which it holds, whether a link with it is up or not.
    ///
    /// # Errors
    /// When it refuses, cannot be reached or does not answer within 3 s.
    pub async fn exchange_documents(&self, peer: &PeerAddress) -> Result<Vec<HeldDocument>, CallError> {
        let held = self.runtime.handler.document_versions();
        documents::exchange(self.runtime.clients.shared(peer), &held).await
    }

    /// Fetches the signed note of a document. A node answers one of these calls at a time.
    ///
    /// # Errors
    /// When the node does not hold that version, refuses, cannot be reached or does not answer within 10 s.
    pub async fn fetch_document(
        &self,
        peer: &PeerAddress,
        id: &DocumentId,
        version: u64,
    ) -> Result<String, CallError> {
        documents::fetch(self.runtime.clients.shared(peer), id, version).await
    }

    /// Packets lost between threads: those that a full ring to a worker dropped, and those that
    /// workers sent to links that are down.
    #[must_use]
    pub fn lost_between_threads(&self) -> (u64, u64) {
        self.runtime.quic.lost()
    }

    /// Asks a node for the grant of a room.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer within `limit`.
    pub async fn ask_grant(
        &self,
        peer: &PeerAddress,
        request: GrantRequest,
        limit: Duration,
    ) -> Result<GrantReply, CallError> {
        let mut client = self.runtime.clients.shared(peer);
        with_timeout(limit, client.ask_grant(request)).await
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
        let mut client = self.runtime.clients.shared_for_streams(peer);
        let (tx, rx) = mpsc::channel(signal::QUEUE);
        let first = SignalMessage { seq: 0, body: Some(Body::Start(start)) };
        tx.try_send(first).map_err(|error| CallError::Failed(error.to_string()))?;
        let stream = with_timeout(CALL_TIMEOUT, client.signal(ReceiverStream::new(rx))).await?;
        Ok(SignalStream {
            tx: SignalSender { out: Outgoing::Request(tx), next: 1 },
            rx: SignalReceiver::new(stream, Some(self.heartbeats.start(peer))),
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
