//! A node: starts its parts in order and stops them in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::middleware::from_fn_with_state;
use axum_server::tls_rustls::RustlsConfig;
use prometheus_client::collector::Collector;
use systir_admission::{Admission, LocalLoad, SeatMetrics};
use systir_cascade::{LinkMetrics, Links, LinksConfig};
use systir_documents::NodeKey;
use systir_forwarding::ThreadNotifier;
use systir_gateway::{JoinLimits, SignalCounters, SignalMetrics};
use systir_media_control::KeyAllocator;
use systir_media_control::ice::{CandidateProtocol, IceCandidate};
use systir_placement::{SeatQuotas, Seats};
use systir_policy::Authority;
use systir_registry::{
    Assignments, EtcdRegistry, GrantSigner, Lease, Occupied as _, Registry, RegistryMetrics, unix_ms,
};
use systir_room_runtime::{CleanUp, RoomDependencies, Rooms};
use systir_transport::Certificate;
use systir_version::VersionRange;
use systir_worker::tcp::ConnectionLimiter;
use systir_worker::{WorkerAccess, WorkerHandle, WorkerMetrics, WorkerPool, WorkerStats};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Api};
use crate::api_keys::{self, ApiKeys};
use crate::cluster_service::ClusterService;
use crate::config::RelayConfig;
use crate::documents::exchange::Offers;
use crate::documents::store::DocumentStore;
use crate::documents::{apply, exchange, follow, follow_pins, start};
use crate::documents_api::{self, DocumentsApi};
use crate::drain::{DrainedNode, NodeDrain, RelayedClients};
use crate::drain_api::{self, DrainApi};
use crate::gateway_role::{self, GatewayRole};
use crate::join::Joins;
use crate::journal::{self, JournalFiles, JournalQueue};
use crate::metrics::{self, NodeMetrics, Readiness};
use crate::node_directory::NodeDirectory;
use crate::node_key;
use crate::operator_mistakes::{self, MistakeMetrics};
use crate::policy_page::{PolicyPages, ServedPages};
use crate::port_owner::cannot_listen;
use crate::room_keys::{self, ConfiguredRoomKeys};
use crate::serve::proxy_protocol::TrustedProxies;
use crate::serve::tls::{self, CertificateFiles, CertificatePair};
use crate::startup_files::{self, StartupFiles};
use crate::ticket_issuer::TicketIssuer;
use crate::workers::{self, StartedWorker};
use crate::{gateway, kernel_limits, link_dispatch, load, policy_page, serve};

/// How long readiness waits for the registry's first answer.
const REGISTRY_WAIT: Duration = Duration::from_secs(10);

/// How often expired reservations are released.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Limit of concurrent connections to the metrics port.
pub(crate) const METRICS_CONNECTIONS: usize = 64;

/// How often grants are searched that must be signed anew, at least.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);

/// The tasks of a node: each ends when `stop` is cancelled.
#[derive(Debug, Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a task until it ends or the node stops.
    fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let _ = stop.run_until_cancelled_owned(task).await;
        });
    }
}

/// A running node.
pub struct Node {
    name: String,
    tasks: Tasks,
    registry: Arc<dyn Registry>,
    directory: Arc<NodeDirectory>,
    documents: Arc<DocumentStore>,
    authority: Arc<Authority>,
    keys: Arc<ApiKeys>,
    mistakes: MistakeMetrics,
    room_keys: watch::Sender<ConfiguredRoomKeys>,
    readiness: Arc<Readiness>,
    drain: Arc<NodeDrain>,
    workers: Vec<WorkerHandle>,
    http: axum_server::Handle<SocketAddr>,
    #[cfg(test)]
    pub(crate) parts: tests::Parts,
}

/// Why the process ends.
#[derive(Debug, Clone, Default)]
pub struct StopSignals {
    /// The first signal: the node drains, then ends.
    pub first: CancellationToken,
    /// A second signal: it ends at once.
    pub second: CancellationToken,
}

/// Runs one node with its registry in etcd until a signal. `file` is its configuration file.
///
/// # Errors
/// When a part cannot start, with its name and the reason.
pub async fn run(config: RelayConfig, file: PathBuf, signals: StopSignals) -> Result<()> {
    kernel_limits::warn_of_low_limits(&config);
    let (etcd, files) = (startup_files::etcd(&config)?, config.registry.clone());
    let (credentials, looked_at) = (etcd.credentials.clone(), Arc::new(config.clone()));
    let registry = Arc::new(EtcdRegistry::start(etcd));
    let node = Node::start(config, registry.clone()).await?;
    node.tasks.spawn(startup_files::follow_etcd(files, credentials, move |renewed| registry.renew(renewed)));
    node.tasks.spawn(api_keys::follow(node.keys.clone(), node.authority.clone(), file.clone()));
    node.tasks.spawn(room_keys::follow(node.room_keys.clone(), file.clone()));
    let mistakes = node.mistakes.clone();
    let documents = node.documents.clone();
    node.tasks.spawn(operator_mistakes::follow(looked_at, file.clone(), documents, mistakes));
    node.tasks.spawn(follow_pins::run(node.documents.clone(), file));
    signals.first.cancelled().await;
    tokio::select! {
        () = node.drain() => {}
        () = signals.second.cancelled() => {
            tracing::warn!("a second signal: the node ends at once, and its participants must join again");
        }
    }
    node.stop().await;
    Ok(())
}

impl Node {
    /// Starts all parts: policy, workers, links, gateway, metrics, and the lease last.
    ///
    /// # Errors
    /// When a part cannot start, with its name and the reason.
    pub async fn start(config: RelayConfig, registry: Arc<dyn Registry>) -> Result<Self> {
        Self::start_with(config, registry, VersionRange::OWN).await
    }

    /// The same as a node that works with these versions.
    async fn start_with(
        config: RelayConfig,
        registry: Arc<dyn Registry>,
        versions: VersionRange,
    ) -> Result<Self> {
        let name = config.node.name.clone();
        let metrics = NodeMetrics::default();
        let start = start::read(&config)?;
        let StartupFiles {
            credentials,
            node_key,
            keys,
            room_keys,
            drain_keys,
            links: (links_files, links_pair),
            http,
        } = StartupFiles::read(&config, &start)?;
        let authority = Arc::new(Authority::new(start.engine, &name, metrics.policy.clone()));
        let tasks = Tasks::default();
        start_journal(&config, &authority, &metrics, &tasks);
        let (room_keys, in_force) = room_keys;
        authority.use_room_keys(in_force);
        let documents = Arc::new(DocumentStore::new(
            start.documents,
            &config.policy,
            start.pins,
            authority.clone(),
            metrics.documents.clone(),
        )?);
        let certificate = Certificate::generate().context("the DTLS certificate cannot be generated")?;

        let notifier = ThreadNotifier::new();
        let started = workers::start(&config, &certificate, &notifier)?;
        let tcp_limiter = ConnectionLimiter::default();
        let handles = started.iter().map(|worker| &worker.handle);
        let tcp = crate::ice_tcp::listen(&config, handles, &tcp_limiter, &tasks.tracker, &tasks.stop).await?;
        let pool = pool(&started, &tcp, certificate.fingerprint()).context("no media worker")?;
        let media: Vec<SocketAddr> = started.iter().flat_map(|worker| worker.advertised.clone()).collect();
        let (mut handles, mut ports) = (Vec::new(), Vec::new());
        for StartedWorker { handle, port, .. } in started {
            handles.push(handle);
            ports.push(port);
        }
        let stats: Vec<Arc<WorkerStats>> = handles.iter().map(|worker| worker.stats.clone()).collect();

        let quic = config.links.quic;
        let quic_socket =
            crate::listen::link_udp(quic).map_err(|error| cannot_listen("links.quic", true, quic, &error))?;
        let grpc = config.links.grpc;
        let grpc_listener = crate::listen::link_tcp(grpc)
            .and_then(TcpListener::from_std)
            .map_err(|error| cannot_listen("links.grpc", false, grpc, &error))?;
        let ports_of_links = (grpc_listener.local_addr()?.port(), quic_socket.local_addr()?.port());
        let lease = lease(&config, ports_of_links, versions);

        let seats = Arc::new(Seats::new(config.node.capacity, quotas(&config)));
        let local_load = Arc::new(LocalLoad::new(seats.clone()));
        let node_key = NodeKey::from(node_key);
        let (key_changes, key_changed) = watch::channel(0);
        let signer = GrantSigner {
            node: name.clone(),
            trust_domain: credentials.id().trust_domain().to_string(),
            key: node_key.clone(),
            life: Duration::from_secs(config.policy.grant_seconds),
        };
        let assignments = Assignments::new(registry.clone(), signer, authority.clone());
        let directory = Arc::new(NodeDirectory::new(authority.clone(), registry.clone()));
        directory.follow_rooms();
        let admission = Arc::new(Admission::new(
            &name,
            authority.clone(),
            assignments.clone(),
            seats.clone(),
            local_load.clone(),
            directory.clone(),
            metrics.joins.clone(),
        ));
        let rooms = Arc::new(Rooms::new(RoomDependencies {
            node: name.clone(),
            authority: authority.clone(),
            assignments: assignments.clone(),
            seats: seats.clone(),
            links: directory.clone(),
            flows: directory.clone(),
            policy_changes: documents.changes(),
            workers: pool,
            keys: Arc::new(KeyAllocator::new()),
            metrics: metrics.rooms.clone(),
            tasks: tasks.tracker.clone(),
            stop: tasks.stop.clone(),
        }));
        let (sockets, streams) = (Arc::new(SignalCounters::default()), Arc::new(SignalCounters::default()));

        let mut links_config = LinksConfig::new(
            credentials.clone(),
            node_key.clone(),
            directory.clone(),
            quic_socket,
            grpc_listener,
        );
        links_config.notifier = notifier;
        links_config.workers = ports;
        links_config.versions = versions;
        links_config.ceiling_bps = u64::from(config.links.ceiling_mbps) * 1_000_000;
        let offers = Arc::new(Offers::default());
        let service = ClusterService {
            node: name.clone(),
            authority: authority.clone(),
            assignments: assignments.clone(),
            admission: admission.clone(),
            seats: seats.clone(),
            rooms: rooms.clone(),
            directory: directory.clone(),
            streams: streams.clone(),
            documents: documents.clone(),
            offers: offers.clone(),
            tasks: tasks.tracker.clone(),
        };
        let (links, events) = Links::start(links_config, Arc::new(service))?;
        directory.connect(links);
        assignments.connect(directory.clone(), Box::new(rooms.clone()));
        let interval = RENEWAL_INTERVAL.min(Duration::from_secs(config.policy.grant_seconds) / 5);
        tasks.spawn(renew_grants(
            assignments.clone(),
            rooms.clone(),
            interval,
            documents.changes(),
            key_changed.clone(),
        ));
        tasks.spawn(link_dispatch::run(
            directory.clone(),
            rooms.clone(),
            metrics.rooms.clone(),
            metrics.links.clone(),
            metrics.failed_dials.clone(),
            events,
        ));
        tasks.spawn(expire_reservations(seats.clone()));
        tasks.spawn(rooms.clone().clean_up(CleanUp::default()));
        tasks.spawn(follow::run(documents.clone(), config.policy.documents.clone()));
        let room_keys = watch::Sender::new(room_keys);
        tasks.spawn(room_keys::permit(room_keys.subscribe(), authority.clone(), documents.changes()));
        tasks.spawn(apply::run(documents.clone(), credentials.clone(), directory.clone()));
        tasks.spawn(exchange::fetch(documents.clone(), exchange::fetcher(directory.clone()), offers.clone()));
        tasks.spawn(exchange::compare(
            documents.clone(),
            directory.clone(),
            registry.clone(),
            name.clone(),
            offers.clone(),
        ));
        let renew = move |pair: &CertificatePair| startup_files::renew(&credentials, pair);
        tasks.spawn(tls::follow("links", links_files, links_pair, renew));
        let key_file = config.node.key.clone();
        tasks.spawn(node_key::follow(key_file, authority.clone(), node_key.clone(), key_changes));

        let (relayed, readiness) = (Arc::new(RelayedClients::default()), Arc::new(Readiness::default()));
        let joins = Joins {
            node: name.clone(),
            authority: authority.clone(),
            admission: admission.clone(),
            assignments: assignments.clone(),
            rooms: rooms.clone(),
            directory: directory.clone(),
            tasks: tasks.tracker.clone(),
            streams: streams.clone(),
            relayed: relayed.clone(),
            tickets: Arc::new(TicketIssuer {
                node: name.clone(),
                key: node_key.clone(),
                key_changes: key_changed.clone(),
                tasks: tasks.tracker.clone(),
                signed: metrics.tickets_signed.clone(),
            }),
            policy_changes: documents.changes(),
        };
        let keys = Arc::new(keys);
        let join_limits = Arc::new(JoinLimits::new(config.http.clients_share_addresses()));
        let api = Arc::new(Api {
            keys: keys.clone(),
            authority: authority.clone(),
            admission: admission.clone(),
            assignments: assignments.clone(),
            rooms: rooms.clone(),
            limits: join_limits.clone(),
        });
        let role = GatewayRole {
            admission: admission.clone(),
            authority: authority.clone(),
            refuses: AtomicBool::new(false),
            institutions: config.policy.institutions.keys().cloned().collect(),
        };
        let documents_api = DocumentsApi { api: api.clone(), store: documents.clone() };
        let pages = PolicyPages {
            admission: admission.clone(),
            store: documents.clone(),
            folder: config.policy.documents.clone(),
            operator: config.policy.operator.clone(),
            metrics: metrics.policy_pages.clone(),
            served: ServedPages::default(),
        };
        let systir =
            api::router(api).merge(documents_api::router(documents_api)).merge(policy_page::router(pages));
        let app = gateway::router(keys.clone(), joins.clone(), sockets.clone(), join_limits.clone())
            .merge(serve::with_body_timeout(systir))
            .merge(systir_console::router())
            .layer(from_fn_with_state(Arc::new(role), gateway_role::require));
        let parts = DrainedNode {
            node: name.clone(),
            seats: seats.clone(),
            admission: admission.clone(),
            assignments: assignments.clone(),
            rooms: rooms.clone(),
            relayed,
            readiness: readiness.clone(),
            metrics: metrics.drain.clone(),
            tasks: tasks.tracker.clone(),
            stop: tasks.stop.clone(),
        };
        let drain = NodeDrain::new(parts, &config.drain);
        // Its operator drains a node that is no gateway too.
        let drain_api = drain_api::router(DrainApi {
            drain: drain.clone(),
            keys: drain_keys,
            limits: join_limits.clone(),
        });
        let app = app.merge(serve::with_body_timeout(drain_api));
        let http = serve_clients(&config, &tasks, &metrics, app, http).await?;

        let link_metrics = LinkMetrics::new(directory.clone());
        tasks.spawn(link_metrics.clone().update_totals());
        let collectors: Vec<Box<dyn Collector>> = vec![
            Box::new(WorkerMetrics::new(stats.clone(), tcp_limiter)),
            Box::new(link_metrics),
            Box::new(SeatMetrics(seats.clone())),
            Box::new(SignalMetrics { sockets, streams }),
            Box::new(RegistryMetrics::new(registry.clone(), &name)),
        ];
        let app = metrics::router(metrics.registry(&assignments), collectors, readiness.clone());
        serve_metrics(&config, &tasks, &metrics, app)?;

        registry.announce(lease);
        tasks.spawn(load::report(local_load.clone(), registry.clone(), stats));
        tracing::info!(
            node = name,
            http = %config.http.listen,
            ?media,
            links = %config.links.grpc,
            capacity = config.node.capacity,
            "the node has started"
        );
        let ready = report_ready(name.clone(), registry.clone(), readiness.clone());
        if registry.view().is_read() {
            ready.await;
        } else {
            tasks.spawn(ready);
        }
        let mistakes = metrics.mistakes.clone();
        #[cfg(test)]
        let parts = tests::Parts {
            authority: authority.clone(),
            documents: documents.clone(),
            admission,
            joins,
            join_limits,
            rooms,
            seats,
            local_load,
            assignments,
            metrics,
        };
        Ok(Self {
            name,
            tasks,
            registry,
            directory,
            documents,
            authority,
            keys,
            mistakes,
            room_keys,
            readiness,
            drain,
            workers: handles,
            http,
            #[cfg(test)]
            parts,
        })
    }

    /// Empties the node: returns when nobody is left, or at the deadline, when the rest was asked to reconnect.
    pub async fn drain(&self) {
        self.drain.begin(None, true);
        self.drain.finished().await;
    }

    /// Stops the parts in order: readiness off, lease revoked, rooms ask their participants to reconnect,
    /// links closed, HTTP ended, workers ended with their connections.
    pub async fn stop(self) {
        self.readiness.started.store(false, Ordering::Relaxed);
        self.registry.retire().await;
        self.tasks.stop.cancel();
        // `report_ready` may have set it in the meantime.
        self.readiness.started.store(false, Ordering::Relaxed);
        // Time for the rooms' leave messages to be written.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if let Some(links) = self.directory.links() {
            links.shutdown().await;
        }
        self.http.graceful_shutdown(Some(Duration::from_secs(1)));
        let tasks = self.tasks.tracker;
        tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.is_err() {
            tracing::warn!(left = tasks.len(), "some tasks did not end within 5 s");
        }
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(move || {
            // No short circuit: each worker is joined, even when another one failed.
            workers.into_iter().filter_map(|worker| (!worker.join()).then_some(())).count() == 0
        });
        if !matches!(tokio::time::timeout(Duration::from_secs(3), joined).await, Ok(Ok(true))) {
            tracing::warn!("a media worker did not stop within 3 s, or it panicked");
        }
        tracing::info!(node = self.name, "stopped");
    }
}

/// Starts to write the journal of decisions.
fn start_journal(config: &RelayConfig, authority: &Authority, metrics: &NodeMetrics, tasks: &Tasks) {
    let (queue, received) = JournalQueue::new(&config.node.name, journal::QUEUE, metrics.journal.clone());
    authority.journal_to(Arc::new(queue));
    let files = JournalFiles::new(&config.policy.state.join("journal"), config.journal.limits());
    tasks.tracker.spawn(journal::run(received, files, tasks.stop.clone()));
}

/// The workers with their ICE candidates. All workers share the ICE-TCP listeners.
fn pool(started: &[StartedWorker], tcp: &[SocketAddr], fingerprint: [u8; 32]) -> Option<WorkerPool> {
    let access = |(index, worker): (u8, &StartedWorker)| {
        let udp = worker.advertised.iter().map(|address| (address, CandidateProtocol::Udp));
        let tcp = tcp.iter().map(|address| (address, CandidateProtocol::Tcp));
        let candidates =
            udp.chain(tcp).map(|(address, protocol)| IceCandidate { address: *address, protocol }).collect();
        WorkerAccess { index, messages: worker.handle.commands.clone(), candidates }
    };
    WorkerPool::new((0..).zip(started).map(access).collect(), fingerprint)
}

fn quotas(config: &RelayConfig) -> SeatQuotas {
    let institutions = config.policy.institutions.iter();
    let institutions =
        institutions.filter_map(|(name, institution)| Some((name.clone(), institution.seats?)));
    SeatQuotas { per_identity: config.node.seats_per_identity, institutions: institutions.collect() }
}

/// This node's lease.
fn lease(config: &RelayConfig, (grpc_port, quic_port): (u16, u16), versions: VersionRange) -> Lease {
    let host = config.links.advertise.unwrap_or_else(|| config.links.grpc.ip());
    let load =
        systir_registry::NodeLoad { capacity: config.node.capacity, at_ms: unix_ms(), ..Default::default() };
    Lease {
        node: config.node.name.as_str().into(),
        grpc: SocketAddr::new(host, grpc_port).to_string(),
        quic: SocketAddr::new(host, quic_port).to_string(),
        load,
        draining: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        versions,
    }
}

/// Signs the grants of this node's rooms anew when they are due, and when policy changed.
async fn renew_grants(
    assignments: Arc<Assignments>,
    rooms: Arc<Rooms>,
    interval: Duration,
    mut policy: watch::Receiver<u64>,
    mut node_key: watch::Receiver<u64>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = policy.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Ok(()) = node_key.changed() => {}
        }
        assignments.renew_all(|room| rooms.is_occupied(room));
    }
}

/// Releases seats whose reservations have expired.
async fn expire_reservations(seats: Arc<Seats>) {
    loop {
        tokio::time::sleep(EXPIRY_INTERVAL).await;
        seats.expire(Instant::now());
    }
}

async fn serve_clients(
    config: &RelayConfig,
    tasks: &Tasks,
    metrics: &NodeMetrics,
    app: axum::Router,
    certificate: Option<(CertificateFiles, CertificatePair)>,
) -> Result<axum_server::Handle<SocketAddr>> {
    let tls = match certificate {
        None => None,
        Some((files, pair)) => {
            let tls = RustlsConfig::from_config(tls::config(&pair).context("http.certificate")?);
            tasks.spawn(tls::follow("http", files, pair, tls::renewed_http(tls.clone())));
            Some(tls)
        }
    };
    let port = serve::HttpPort {
        listener: std::net::TcpListener::bind(config.http.listen)
            .map_err(|error| cannot_listen("http.listen", false, config.http.listen, &error))?,
        connections: config.http.connections,
        per_address: config.http.per_address(),
        proxies: config.http.proxies()?,
        refused: metrics.connections_refused.clone(),
        tls,
        handle: axum_server::Handle::new(),
    };
    let handle = port.handle.clone();
    tasks.tracker.spawn(async move {
        if let Err(error) = serve::serve(port, app).await {
            tracing::error!(%error, "the HTTP port is no longer served");
        }
    });
    Ok(handle)
}

fn serve_metrics(
    config: &RelayConfig,
    tasks: &Tasks,
    metrics: &NodeMetrics,
    app: axum::Router,
) -> Result<()> {
    let port = serve::HttpPort {
        listener: std::net::TcpListener::bind(config.telemetry.listen)
            .map_err(|error| cannot_listen("telemetry.listen", false, config.telemetry.listen, &error))?,
        connections: METRICS_CONNECTIONS,
        per_address: METRICS_CONNECTIONS,
        proxies: TrustedProxies::default(),
        refused: metrics.connections_refused.clone(),
        tls: None,
        handle: axum_server::Handle::new(),
    };
    let (handle, stop) = (port.handle.clone(), tasks.stop.clone());
    tasks.tracker.spawn(async move {
        stop.cancelled_owned().await;
        handle.graceful_shutdown(Some(Duration::from_secs(1)));
    });
    tasks.tracker.spawn(async move {
        if let Err(error) = serve::serve(port, app).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}

/// Reports the node ready once the registry has answered, at the latest after [`REGISTRY_WAIT`]. Without the
/// registry the node knows no room yet.
async fn report_ready(node: String, registry: Arc<dyn Registry>, readiness: Arc<Readiness>) {
    let mut view = registry.watch();
    let answer = view.wait_for(|view| view.is_read());
    let answered = tokio::time::timeout(REGISTRY_WAIT, answer).await.is_ok();
    readiness.started.store(true, Ordering::Relaxed);
    if answered {
        tracing::info!(node, "the node accepts joins");
    } else {
        tracing::warn!(
            node,
            "the registry has not answered for {} s: the node accepts joins, but can open no room before the registry answers; it keeps retrying",
            REGISTRY_WAIT.as_secs()
        );
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
