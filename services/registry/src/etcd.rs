//! The registry in etcd: transactions that compare revisions (never etcd's lock API, which is unsafe),
//! leases, and a watch that recovers from compaction and disconnection. What etcd returns is not
//! authoritative for policy: decisions are based on the operator's own files.
//!
//! Keys: `<prefix>/nodes/<node>` (under the node's lease) and `<prefix>/rooms/<institution>/<name>`
//! (URL-safe base64); values are JSON. Each node has its own etcd role, so that none can write another's
//! lease: it reads below the prefix, and writes its own key and those of rooms (`deploy/etcd/README.md`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, ConnectOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backoff::Backoff;
use crate::follow;
use crate::keep_lease;
use crate::lease::{Lease, NodeLoad};
use crate::record;
use crate::registry::{CreateError, Registry, RegistryError, UpdateError};
use crate::view::View;
use systir_assignment::{Assignment, RoomId, Versioned};

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// URLs, `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// Name of the cluster; part of every key.
    pub cluster: String,
    /// CA that signed etcd's certificate (PEM).
    pub ca: Option<String>,
    /// This node's client certificate and key (PEM).
    pub identity: Option<(String, String)>,
    /// How long a node's lease lasts after its last keep-alive.
    pub lease: Duration,
    /// Interval of full reads, which replace the copy whatever the watch reported: etcd before 3.5.18
    /// reports to no watch a deletion at exactly the revision of a compaction.
    pub full_read_interval: Duration,
}

impl Default for EtcdConfig {
    /// No endpoints; a lease of 10 s, a full read each minute.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            cluster: String::new(),
            ca: None,
            identity: None,
            lease: Duration::from_secs(10),
            full_read_interval: Duration::from_secs(60),
        }
    }
}

/// Timeout of one request.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct Shared {
    pub config: EtcdConfig,
    pub view: watch::Sender<Arc<View>>,
    pub lease: watch::Sender<Option<Lease>>,
}

impl Shared {
    pub(crate) fn prefix(&self) -> String {
        format!("/systir/v1/{}/", self.config.cluster)
    }

    pub(crate) fn node_key(&self, lease: &Lease) -> String {
        format!("{}nodes/{}", self.prefix(), lease.node)
    }

    fn room_key(&self, room: &RoomId) -> String {
        format!("{}rooms/{}", self.prefix(), room.key())
    }

    pub(crate) async fn connect(&self) -> Result<Client, RegistryError> {
        with_timeout(self.dial()).await
    }

    async fn dial(&self) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(REQUEST_TIMEOUT)
            .with_keep_alive(Duration::from_secs(2), Duration::from_secs(2))
            .with_keep_alive_while_idle(true);
        let tls = self.config.endpoints.iter().any(|address| address.starts_with("https://"));
        if tls || self.config.ca.is_some() || self.config.identity.is_some() {
            let mut tls = etcd_client::TlsOptions::new();
            if let Some(ca) = &self.config.ca {
                tls = tls.ca_certificate(etcd_client::Certificate::from_pem(ca));
            }
            if let Some((certificate, key)) = &self.config.identity {
                tls = tls.identity(etcd_client::Identity::from_pem(certificate, key));
            }
            options = options.with_tls(tls);
        }
        Client::connect(&self.config.endpoints, Some(options)).await
    }
}

/// The client for writes. Each write uses a clone, so that no write waits for another.
#[derive(Default)]
struct WriteClient {
    client: Option<Client>,
    /// Counts the clients made: a failed write drops its own client, never a newer one.
    generation: u64,
}

/// The registry of one node.
pub struct EtcdRegistry {
    shared: Arc<Shared>,
    write_client: tokio::sync::Mutex<WriteClient>,
    _tasks: DropGuard,
}

impl std::fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdRegistry")
            .field("endpoints", &self.shared.config.endpoints)
            .finish_non_exhaustive()
    }
}

/// Runs one request with [`REQUEST_TIMEOUT`]; any failure becomes a [`RegistryError`].
pub(crate) async fn with_timeout<T>(
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, RegistryError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(etcd_client::Error::GRpcStatus(status)))
            if ["PermissionDenied", "Unauthenticated"].contains(&format!("{:?}", status.code()).as_str()) =>
        {
            Err(RegistryError::Refused(status.message().to_owned()))
        }
        Ok(Err(error)) => Err(RegistryError::Unavailable(error.to_string())),
        Err(_) => {
            Err(RegistryError::Unavailable(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())))
        }
    }
}

impl EtcdRegistry {
    /// Starts following etcd. If etcd does not answer yet, the copy stays empty until it does.
    #[must_use]
    pub fn start(config: EtcdConfig) -> Self {
        let unavailable = View { unavailable_since: Some(Instant::now()), ..View::default() };
        let shared = Arc::new(Shared {
            config,
            view: watch::Sender::new(Arc::new(unavailable)),
            lease: watch::Sender::new(None),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow::follow(shared.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_lease::keep_lease(shared.clone())));
        Self { shared, write_client: tokio::sync::Mutex::default(), _tasks: stop.drop_guard() }
    }

    async fn client(&self) -> Result<(u64, Client), etcd_client::Error> {
        let mut writer = self.write_client.lock().await;
        if let Some(client) = &writer.client {
            return Ok((writer.generation, client.clone()));
        }
        let client = self.shared.dial().await?;
        writer.generation += 1;
        writer.client = Some(client.clone());
        Ok((writer.generation, client))
    }

    /// One write. Its timeout starts here and does not depend on other writes.
    async fn transact(&self, txn: Txn) -> Result<etcd_client::TxnResponse, RegistryError> {
        let mut used = None;
        let answer = with_timeout(async {
            let (generation, mut client) = self.client().await?;
            used = Some(generation);
            client.txn(txn).await
        })
        .await;
        if let (Err(RegistryError::Unavailable(_)), Some(used)) = (&answer, used)
            // If the lock is taken, another write is making a new client.
            && let Ok(mut writer) = self.write_client.try_lock()
            && writer.generation == used
        {
            // Do not use a client again whose connection failed.
            writer.client = None;
        }
        answer
    }

    // A write enters the copy at once, so that this node reads its own writes.
    fn insert_newer(&self, record: &Versioned<Assignment>) {
        self.shared.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            let known = view.rooms.get(&record.value.room).map_or(0, |known| known.revision);
            if known < record.revision {
                view.rooms.insert(record.value.room.clone(), record.clone());
            }
        });
    }

    async fn put_if(
        &self,
        compare: Compare,
        key: String,
        wanted: Assignment,
    ) -> Result<Result<Versioned<Assignment>, Option<Versioned<Assignment>>>, RegistryError> {
        let value = serde_json::to_vec(&wanted).map_err(|error| RegistryError::Refused(error.to_string()))?;
        let txn = Txn::new()
            .when([compare])
            .and_then([TxnOp::put(key.clone(), value, Some(PutOptions::new()))])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.transact(txn).await?;
        let revision = answer.header().map_or(0, |header| header.revision()) as u64;
        if answer.succeeded() {
            let record = Versioned { value: wanted, revision };
            self.insert_newer(&record);
            return Ok(Ok(record));
        }
        let current = found(&answer);
        match &current {
            Some(current) => self.insert_newer(current),
            None => self.remove_older(&wanted.room, revision),
        }
        Ok(Err(current))
    }

    // Removes a record that was gone at `revision` from the copy, unless the copy has a newer one.
    fn remove_older(&self, room: &RoomId, revision: u64) {
        self.shared.view.send_if_modified(|view| {
            let known = view.rooms.get(room).is_some_and(|known| known.revision <= revision);
            if known {
                Arc::make_mut(view).rooms.remove(room);
            }
            known
        });
    }
}

/// The record that a failed transaction found; none when there is none or it cannot be read.
fn found(answer: &etcd_client::TxnResponse) -> Option<Versioned<Assignment>> {
    answer.op_responses().into_iter().find_map(|answer| match answer {
        TxnOpResponse::Get(found) => {
            found.kvs().first().and_then(|record| match record::assignment_of(record) {
                Ok(known) => Some(known),
                Err(reason) => {
                    tracing::warn!(%reason, "a room's record cannot be read and counts as absent");
                    None
                }
            })
        }
        _ => None,
    })
}

impl Registry for EtcdRegistry {
    fn view(&self) -> Arc<View> {
        self.shared.view.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.shared.view.subscribe()
    }

    fn announce(&self, lease: Lease) {
        self.shared.lease.send_replace(Some(lease));
    }

    fn report(&self, load: NodeLoad, draining: bool) {
        self.shared.lease.send_if_modified(|lease| {
            let Some(lease) = lease else { return false };
            lease.load = load;
            lease.draining = draining;
            true
        });
    }

    fn retire(&self) -> BoxFuture<'_, ()> {
        async move {
            let Some(lease) = self.shared.lease.send_replace(None) else { return };
            let key = self.shared.node_key(&lease);
            if let Err(error) = self.transact(Txn::new().and_then([TxnOp::delete(key, None)])).await {
                tracing::info!(%error, "the lease could not be removed; it will expire");
            }
        }
        .boxed()
    }

    fn create(&self, assignment: Assignment) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        async move {
            let key = self.shared.room_key(&assignment.room);
            let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
            match self.put_if(absent, key, assignment).await? {
                Ok(created) => Ok(created),
                Err(Some(existing)) => Err(CreateError::AlreadyAssigned(Box::new(existing))),
                Err(None) => {
                    Err(RegistryError::Refused("the room's record cannot be read; delete it".into()).into())
                }
            }
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        read: &'a Versioned<Assignment>,
        wanted: Assignment,
    ) -> BoxFuture<'a, Result<Versioned<Assignment>, UpdateError>> {
        async move {
            let key = self.shared.room_key(&read.value.room);
            let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, read.revision as i64);
            if wanted.epoch < read.value.epoch {
                return Err(UpdateError::StaleEpoch { offered: wanted.epoch, current: read.value.epoch });
            }
            let offered = wanted.epoch;
            match self.put_if(unchanged, key, wanted).await? {
                Ok(written) => Ok(written),
                Err(Some(current)) if offered < current.value.epoch => {
                    Err(UpdateError::StaleEpoch { offered, current: current.value.epoch })
                }
                Err(Some(current)) => Err(UpdateError::Conflict(Box::new(current))),
                Err(None) => Err(UpdateError::Gone),
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, read: &'a Versioned<Assignment>) -> BoxFuture<'a, Result<(), UpdateError>> {
        async move {
            let key = self.shared.room_key(&read.value.room);
            let txn = Txn::new()
                .when([Compare::mod_revision(key.clone(), CompareOp::Equal, read.revision as i64)])
                .and_then([TxnOp::delete(key.clone(), None)])
                .or_else([TxnOp::get(key, None)]);
            let answer = self.transact(txn).await?;
            let revision = answer.header().map_or(0, |header| header.revision()) as u64;
            match (answer.succeeded(), found(&answer)) {
                (true, _) => {
                    self.remove_older(&read.value.room, revision);
                    Ok(())
                }
                (false, Some(current)) if read.value.epoch < current.value.epoch => {
                    Err(UpdateError::StaleEpoch { offered: read.value.epoch, current: current.value.epoch })
                }
                (false, Some(current)) => Err(UpdateError::Conflict(Box::new(current))),
                (false, None) => {
                    self.remove_older(&read.value.room, revision);
                    Err(UpdateError::Gone)
                }
            }
        }
        .boxed()
    }
}

/// Backoff of the registry's two tasks.
pub(crate) fn new_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
}
