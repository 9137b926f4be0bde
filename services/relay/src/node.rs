//! A node from start to stop: what its parts share, and the order in which they come and go.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum_server::tls_rustls::RustlsConfig;
use systir_assignment::RoomId;
use systir_cascade::{CallError, Doorbell, Links, LinksConfig, PeerAddress, WorkerPort};
use systir_forwarding::batch::batch_ring;
use systir_livekit::sdp::{Candidate, CandidateProtocol};
use systir_livekit::token::{KeyRing, Redacted};
use systir_media_control::KeyMint;
use systir_media_control::{Command, RoomKey};
use systir_placement::{Admission, Answer, HeardFull, Load, NoReservation, ReserveError};
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::{Demand, RefusalCode, ReleaseRequest, ReserveRefused, ReserveRequest};
use systir_registry::{EtcdRegistry, Lease, Registry};
use systir_rtp::packet::Layer;
use systir_transport::Certificate;
use systir_worker::tcp::Gate;
use systir_worker::{Ring, Worker, WorkerConfig, WorkerHandle, WorkerWaker};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assign::Record;
use crate::authority::Authority;
use crate::config::Config;
use crate::linkside::{Linkside, dispatch};
use crate::load::Rates;
use crate::metrics::Metrics;
use crate::outfit::{self, Outfit};
use crate::reason::Reason;
use crate::room::Message;
use crate::rooms::Rooms;
use crate::serve::tls::{self, Files, Pair};
use crate::trunk::Trunk;
use crate::whereabouts::Whereabouts;
use crate::{admit, api, door, listen, metrics, serve};

/// Batches that may wait between a worker and the links.
const RING: usize = 256;

/// How long readiness waits for the registry's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Connections to the metrics port at one time.
const SCRAPERS: usize = 64;

/// What the parts of a node share. None of it is on a packet's way.
#[derive(Debug)]
pub struct Shared {
    /// The node's name.
    pub name: String,
    /// Policy.
    pub authority: Arc<Authority>,
    /// Leases and assignments.
    pub registry: Arc<dyn Registry>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Rooms that this node carries.
    pub rooms: Rooms,
    /// API keys.
    pub keys: Arc<KeyRing>,
    /// The API key under which the meeting page's visitors join.
    pub guest: Option<(String, Redacted<String>)>,
    /// The node's tasks: each ends when `stop` is cancelled.
    pub tasks: TaskTracker,
    /// Ends the node.
    pub stop: CancellationToken,
    pub(crate) keys_of_media: Arc<KeyMint>,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) media: Vec<SocketAddr>,
    addresses: Vec<Vec<SocketAddr>>,
    /// Where media is taken over TCP, whichever worker it is for.
    tcp: Vec<SocketAddr>,
    pub(crate) tcp_gate: Gate,
    workers: Vec<mpsc::Sender<Command>>,
    admission: Mutex<Admission>,
    trunk: Trunk,
    flow: AtomicU32,
    rates: Mutex<Rates>,
    heard_full: Mutex<HeardFull>,
}

/// Why a node gave no seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoSeat {
    /// What it answered.
    pub answer: Answer,
    /// In which words, for the operator.
    pub why: String,
}

/// What the book of seats answers, as other nodes are told it.
pub(crate) fn refusal_code(error: &ReserveError) -> RefusalCode {
    match error {
        ReserveError::Full { .. } => RefusalCode::Full,
        ReserveError::Draining => RefusalCode::Draining,
        ReserveError::OtherRoom => RefusalCode::Internal,
    }
}

impl NoSeat {
    fn new(code: RefusalCode, why: String) -> Self {
        let answer = match code {
            RefusalCode::Full => Answer::Full,
            RefusalCode::Policy => Answer::Denied,
            RefusalCode::Draining => Answer::Draining,
            RefusalCode::Epoch => Answer::Overtaken,
            RefusalCode::Unspecified | RefusalCode::Internal => Answer::Undecided,
        };
        Self { answer, why }
    }
}

impl From<ReserveError> for NoSeat {
    fn from(error: ReserveError) -> Self {
        Self::new(refusal_code(&error), error.to_string())
    }
}

impl From<ReserveRefused> for NoSeat {
    fn from(refused: ReserveRefused) -> Self {
        Self::new(refused.code(), refused.reason)
    }
}

impl From<CallError> for NoSeat {
    fn from(error: CallError) -> Self {
        let answer = match error {
            CallError::Refused(_) => Answer::Denied,
            _ => Answer::Silent,
        };
        Self { answer, why: error.to_string() }
    }
}

impl Shared {
    pub(crate) fn links(&self) -> &Trunk {
        &self.trunk
    }

    fn seats(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat on this node; the caller has asked policy whether it may carry the room.
    pub(crate) fn reserve_seat(
        &self,
        room: &RoomId,
        identity: &str,
        join_id: &str,
    ) -> Result<(), ReserveError> {
        let reserved = self.seats().reserve(&room.key(), identity, join_id, Instant::now());
        reserved.map(|_| ()).inspect_err(|error| {
            let word = Reason::from(refusal_code(error));
            self.metrics.reserve_refusals.get_or_create(&word.into()).inc();
        })
    }

    pub(crate) async fn reserve_there(
        &self,
        record: &Record,
        node: &str,
        identity: &str,
        join_id: &str,
    ) -> Result<(), NoSeat> {
        let Some(address) = self.address_of(node) else {
            let why = "the node has no lease, so no address is known".to_owned();
            return Err(NoSeat { answer: Answer::Silent, why });
        };
        let assignment = record.assignment();
        let request = ReserveRequest {
            room: assignment.room.key(),
            join_id: join_id.to_owned(),
            epoch: record.epoch(),
            policy_version: assignment.policy_number(),
            demand: Some(Demand { participants: 1, publishes: true, ingress_bps: 0, egress_bps: 0 }),
            ttl_seconds: 10,
            traceparent: crate::trace::traceparent(),
            identity: identity.to_owned(),
        };
        match self.trunk.reserve(&address, request).await?.result {
            Some(Reserved::Admitted(_)) => Ok(()),
            Some(Reserved::Refused(refused)) => Err(refused.into()),
            None => Err(NoSeat { answer: Answer::Undecided, why: "the node did not say yes".to_owned() }),
        }
    }

    fn heard_full(&self) -> MutexGuard<'_, HeardFull> {
        self.heard_full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another node answered: the next joins ask it last for a moment when it is full.
    pub(crate) fn hear(&self, node: &str, answer: &Result<(), NoSeat>) {
        let full = matches!(answer, Err(NoSeat { answer: Answer::Full, .. }));
        self.heard_full().heard(node, full, Instant::now());
    }

    /// What the other nodes' reports do not say yet.
    pub(crate) fn believe_heard(&self, candidates: &mut [systir_placement::Candidate]) {
        self.heard_full().believe(candidates, Instant::now());
    }

    pub(crate) fn commit(&self, room: &str, join_id: &str) -> Result<(), NoReservation> {
        self.seats().commit(room, join_id)
    }

    /// Gives a seat on this node back.
    pub(crate) fn release_here(&self, join_id: &str) {
        self.seats().release(join_id);
    }

    /// Gives a seat back that nobody has taken yet.
    pub(crate) fn release_reservation(&self, join_id: &str) {
        self.seats().release_reservation(join_id);
    }

    pub(crate) async fn release_there(&self, room: &RoomId, node: &str, join_id: &str) {
        let Some(address) = self.address_of(node) else { return };
        let request = ReleaseRequest { room: room.key(), join_id: join_id.to_owned() };
        if let Err(error) = self.trunk.release(&address, request).await {
            tracing::debug!(node, %error, "a seat was not given back; it lapses by itself");
        }
    }

    /// Is somebody of the room here, or about to come?
    pub(crate) fn has_seats(&self, room: &RoomId) -> bool {
        self.seats().used_by(&room.key()) > 0
    }

    pub(crate) fn expire(&self, now: Instant) {
        self.seats().expire(now);
    }

    pub(crate) fn load_here(&self) -> Load {
        let cpu_permille = self.rates().cpu_permille;
        let seats = self.seats();
        Load { participants: seats.used(), capacity: seats.capacity(), cpu_permille, age_ms: 0 }
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn measured(&self, rates: Rates) {
        *self.rates() = rates;
    }

    /// Where another node is reached: by its lease, under the identity of the operator's file.
    pub(crate) fn address_of(&self, node: &str) -> Option<PeerAddress> {
        let view = self.registry.view();
        let lease = view.node(node)?;
        self.trunk.address(node, &lease.grpc, &lease.quic)
    }

    pub(crate) fn has_lease(&self, node: &str) -> bool {
        self.registry.view().node(node).is_some()
    }

    /// The worker that carries a room; a room is on one.
    pub(crate) fn worker_for(&self, room: RoomKey) -> (u8, mpsc::Sender<Command>) {
        let index = room.0 as usize % self.workers.len().max(1);
        (index as u8, self.workers[index].clone())
    }

    pub(crate) fn candidates(&self, worker: u8) -> Vec<Candidate> {
        let addresses = self.addresses.get(usize::from(worker)).map(Vec::as_slice).unwrap_or_default();
        let udp = addresses.iter().map(|address| (address, CandidateProtocol::Udp));
        let tcp = self.tcp.iter().map(|address| (address, CandidateProtocol::Tcp));
        udp.chain(tcp).map(|(address, protocol)| Candidate { address: *address, protocol }).collect()
    }

    /// A flow for each layer of a track that arrives from that node.
    pub(crate) fn flows(&self, worker: u8, node: &str) -> Option<[u32; Layer::MAX]> {
        let parity = self.trunk.parity(node)?;
        let mut flows = [0; Layer::MAX];
        for flow in &mut flows {
            let counter = self.flow.fetch_add(1, Ordering::Relaxed);
            *flow = systir_cascade::FlowId::new(parity, worker, counter)?.raw();
        }
        Some(flows)
    }

    /// Where a room is; from the registry's copy when this node does not carry it.
    pub(crate) async fn whereabouts(&self, room: &RoomId) -> Option<Whereabouts> {
        if let Some(handle) = self.rooms.get(room) {
            let (ask, answer) = oneshot::channel();
            let asked = async {
                handle.messages.send(Message::Where(ask)).await.ok()?;
                answer.await.ok()
            };
            if let Ok(Some(whereabouts)) = tokio::time::timeout(Duration::from_secs(2), asked).await {
                return Some(whereabouts);
            }
        }
        let known = self.registry.assignment(room)?.value;
        Some(crate::room::whereabouts_of(&known, &self.name, &self.authority))
    }

    pub(crate) fn registry_state(&self) -> String {
        match self.registry.view().away_since() {
            None => "connected".to_owned(),
            Some(since) => {
                format!("away for {} s; reads are from the last known copy", since.elapsed().as_secs())
            }
        }
    }

    pub(crate) fn lease_now(&self) -> systir_registry::Load {
        let (load, rates) = (self.load_here(), *self.rates());
        systir_registry::Load {
            participants: load.participants,
            capacity: load.capacity,
            cpu_permille: rates.cpu_permille,
            egress_bps: rates.egress_bps,
            packets: rates.packets,
            at_ms: crate::ids::unix_ms(),
        }
    }
}

/// A node that runs.
pub struct Node {
    shared: Arc<Shared>,
    workers: Vec<WorkerHandle>,
    http: axum_server::Handle<SocketAddr>,
}

/// One node with its registry in etcd, until `stop`.
///
/// # Errors
/// When a part cannot start; with which and why.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    let registry = EtcdRegistry::start(outfit::etcd(&config)?);
    let node = Node::start(config, Arc::new(registry)).await?;
    stop.cancelled().await;
    node.stop().await;
    Ok(())
}

impl Node {
    /// Starts all parts: policy, workers, links, front door, metrics, and last the lease.
    ///
    /// # Errors
    /// When a part cannot start; with which and why.
    pub async fn start(config: Config, registry: Arc<dyn Registry>) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let authority = Arc::new(Authority::load(&config.policy, &config.node.name, metrics.clone())?);
        let Outfit { credentials, keys, guest, links: (links_files, links_pair), door } =
            Outfit::read(&config, &authority)?;
        let renewing = credentials.clone();
        let renewed_links = move |pair: &Pair| outfit::renew(&renewing, pair);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let certificate = Certificate::generate().context("no DTLS certificate")?;
        let fingerprint = certificate.fingerprint();

        let bell = Doorbell::new();
        let (mut handles, mut ports, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        let media_ports = config.media.ports().context("media.listen: no port is left for a worker")?;
        for (index, port) in (0..).zip(media_ports) {
            let (handle, port, advertised) = start_worker(&config, index, port, &certificate, &bell)?;
            handles.push(handle);
            ports.push(port);
            addresses.push(advertised);
        }

        let tcp_gate = Gate::default();
        let tcp = crate::tcp::listen(&config, &handles, &tcp_gate, &tasks, &stop).await?;
        let quic_socket = crate::listen::link_udp(config.links.quic)
            .with_context(|| format!("links.quic: {} is taken", config.links.quic))?;
        let grpc_listener = crate::listen::link_tcp(config.links.grpc)
            .and_then(TcpListener::from_std)
            .with_context(|| format!("links.grpc: {} is taken", config.links.grpc))?;
        let host = config.links.advertise.unwrap_or_else(|| config.links.grpc.ip());
        let lease = Lease {
            node: config.node.name.as_str().into(),
            grpc: SocketAddr::new(host, grpc_listener.local_addr()?.port()).to_string(),
            quic: SocketAddr::new(host, quic_socket.local_addr()?.port()).to_string(),
            load: systir_registry::Load {
                capacity: config.node.capacity,
                at_ms: crate::ids::unix_ms(),
                ..Default::default()
            },
            draining: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let shared = Arc::new(Shared {
            name: config.node.name.clone(),
            trunk: Trunk::new(authority.clone()),
            authority,
            registry,
            metrics: metrics.clone(),
            rooms: Rooms::default(),
            keys: Arc::new(keys),
            guest,
            tasks,
            stop: stop.clone(),
            keys_of_media: Arc::new(KeyMint::new()),
            fingerprint,
            media: addresses.iter().flatten().copied().collect(),
            addresses,
            tcp,
            tcp_gate,
            workers: handles.iter().map(|handle| handle.commands.clone()).collect(),
            admission: Mutex::new(Admission::new(config.node.capacity)),
            flow: AtomicU32::new(1),
            rates: Mutex::default(),
            heard_full: Mutex::default(),
        });

        let mut links_config = LinksConfig::new(credentials, quic_socket, grpc_listener);
        links_config.bell = bell;
        links_config.workers = ports;
        links_config.ceiling_bps = u64::from(config.links.ceiling_mbps) * 1_000_000;
        let (links, events) = Links::start(links_config, Arc::new(Linkside(shared.clone())))?;
        shared.trunk.connect(links);
        shared.tasks.spawn(stop.clone().run_until_cancelled_owned(dispatch(shared.clone(), events)));
        shared
            .tasks
            .spawn(stop.clone().run_until_cancelled_owned(admit::expire_reservations(shared.clone())));
        shared.tasks.spawn(stop.clone().run_until_cancelled_owned(crate::rooms::tidy(shared.clone())));

        let renewed = tls::follow("links", links_files, links_pair, renewed_links);
        shared.tasks.spawn(stop.clone().run_until_cancelled_owned(renewed));

        let http = serve_clients(&config, &shared, door).await?;
        serve_metrics(&config, &shared, &handles)?;
        shared.registry.announce(lease);
        let stats = handles.iter().map(|worker| worker.stats.clone()).collect();
        let report = crate::load::report(shared.clone(), stats);
        shared.tasks.spawn(stop.clone().run_until_cancelled_owned(report));
        tracing::info!(
            node = shared.name,
            http = %config.http.listen,
            media = ?shared.media,
            links = %config.links.grpc,
            capacity = config.node.capacity,
            "the node listens"
        );
        let first = shared.registry.view().away_since().is_none();
        let joins = take_joins(shared.clone());
        if first {
            joins.await;
        } else {
            shared.tasks.spawn(stop.clone().run_until_cancelled_owned(joins));
        }
        Ok(Self { shared, workers: handles, http })
    }

    /// Stops in the order in which nobody is surprised: no new joins, people are told to come back
    /// elsewhere, links close, workers say goodbye.
    pub async fn stop(self) {
        let Self { shared, workers, http } = self;
        shared.metrics.ready.store(false, Ordering::Relaxed);
        shared.registry.retire().await;
        shared.stop.cancel();
        shared.metrics.ready.store(false, Ordering::Relaxed);
        // Room tasks tell their people; give the words time to leave.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if let Some(links) = shared.trunk.links() {
            links.shutdown().await;
        }
        http.graceful_shutdown(Some(Duration::from_secs(1)));
        shared.tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), shared.tasks.wait()).await.is_err() {
            tracing::warn!(left = shared.tasks.len(), "some tasks did not end in time");
        }
        let joined = tokio::task::spawn_blocking(move || {
            // Each is joined, whatever the others did.
            workers.into_iter().filter_map(|worker| (!worker.join()).then_some(())).count() == 0
        });
        if !matches!(tokio::time::timeout(Duration::from_secs(3), joined).await, Ok(Ok(true))) {
            tracing::warn!("a media worker did not end in good order");
        }
        tracing::info!(node = shared.name, "stopped");
    }
}

fn start_worker(
    config: &Config,
    index: u8,
    port: u16,
    certificate: &Certificate,
    bell: &Doorbell,
) -> Result<(WorkerHandle, WorkerPort, Vec<SocketAddr>)> {
    let media = &config.media;
    let listen = SocketAddr::new(media.listen.ip(), port);
    let wanted = listen::per_family(listen, &media.advertise)
        .map_err(|ip| anyhow::anyhow!("media.listen: nobody reaches {ip} at {listen}"))?;
    let sockets = listen::udp(&wanted).context("media.listen")?;
    let port = sockets.first().context("no socket")?.local_addr()?.port();
    let advertised: Vec<SocketAddr> = if media.advertise.is_empty() {
        vec![SocketAddr::new(listen.ip(), port)]
    } else {
        media.advertise.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
    };
    let (wake, waker) = WorkerWaker::new();
    let (to_links, from_worker) = batch_ring(RING, bell.waker());
    let (to_worker, from_links) = batch_ring(RING, wake);
    let handle = Worker::spawn(WorkerConfig {
        index,
        sockets,
        advertised: advertised.clone(),
        certificate: certificate.clone(),
        waker,
        links: Some(Ring { sender: to_links, receiver: from_links }),
        workers: Vec::new(),
        seed: rand::random(),
        // Ended by `join`, after the rooms have said goodbye.
        stop: CancellationToken::new(),
    })
    .context("a media worker did not start")?;
    Ok((handle, WorkerPort { from: from_worker, to: to_worker }, advertised))
}

async fn serve_clients(
    config: &Config,
    shared: &Arc<Shared>,
    door: Option<(Files, Pair)>,
) -> Result<axum_server::Handle<SocketAddr>> {
    let own = serve::in_time(api::router(shared.clone()));
    let page = door::page(shared, config.policy.institutions.keys().map(String::as_str));
    let app = door::router(shared.clone()).merge(own).merge(page);
    let tls = match door {
        None => None,
        Some((files, pair)) => {
            let tls = RustlsConfig::from_config(tls::config(&pair).context("http.certificate")?);
            let renew = tls::renewed_door(tls.clone());
            let follow = tls::follow("front door", files, pair, renew);
            shared.tasks.spawn(shared.stop.clone().run_until_cancelled_owned(follow));
            Some(tls)
        }
    };
    let port = serve::Port {
        listener: std::net::TcpListener::bind(config.http.listen)
            .with_context(|| format!("http.listen: {} is taken", config.http.listen))?,
        connections: config.http.connections,
        refused: shared.metrics.connections_refused.clone(),
        tls,
        handle: axum_server::Handle::new(),
    };
    let handle = port.handle.clone();
    shared.tasks.spawn(async move {
        if let Err(error) = serve::serve(port, app).await {
            tracing::error!(%error, "the front door ended");
        }
    });
    Ok(handle)
}

fn serve_metrics(config: &Config, shared: &Arc<Shared>, workers: &[WorkerHandle]) -> Result<()> {
    let ledger = Arc::new(metrics::LinkLedger::default());
    let keep = metrics::keep(shared.clone(), ledger.clone());
    shared.tasks.spawn(shared.stop.clone().run_until_cancelled_owned(keep));
    let workers = workers.iter().map(|worker| worker.stats.clone()).collect();
    let app =
        metrics::router(shared.metrics.clone(), metrics::Live { shared: shared.clone(), workers, ledger });
    let port = serve::Port {
        listener: std::net::TcpListener::bind(config.telemetry.listen)
            .with_context(|| format!("telemetry.listen: {} is taken", config.telemetry.listen))?,
        connections: SCRAPERS,
        refused: shared.metrics.connections_refused.clone(),
        tls: None,
        handle: axum_server::Handle::new(),
    };
    let (handle, stop) = (port.handle.clone(), shared.stop.clone());
    shared.tasks.spawn(async move {
        stop.cancelled_owned().await;
        handle.graceful_shutdown(Some(Duration::from_secs(1)));
    });
    shared.tasks.spawn(async move {
        if let Err(error) = serve::serve(port, app).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}

/// The node takes joins once the registry has answered: before, it knows of no room. A registry
/// that does not answer holds it up for a while only.
async fn take_joins(shared: Arc<Shared>) {
    let mut view = shared.registry.watch();
    let answer = view.wait_for(|view| view.away_since().is_none());
    let answered = tokio::time::timeout(FIRST_ANSWER, answer).await.is_ok();
    shared.metrics.ready.store(true, Ordering::Relaxed);
    if answered {
        tracing::info!(node = shared.name, "the node takes joins");
    } else {
        tracing::warn!(
            node = shared.name,
            "the registry has not answered for {} s: the node takes joins, but no room can be opened before it does; it is asked again and again",
            FIRST_ANSWER.as_secs()
        );
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
