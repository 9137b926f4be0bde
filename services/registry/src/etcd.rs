//! The registry in etcd: transactions that compare revisions (never its lock API, which is unsafe),
//! leases, and a watch that survives compaction and disconnection. etcd's answers are records, not
//! authority: policy decides on the operator's own files.
//!
//! Keys: `<prefix>/nodes/<node>` (under the node's lease) and `<prefix>/rooms/<institution>/<name>`
//! (URL-safe base64), values JSON. Each node has a role, so that none can speak for another: it reads
//! below the prefix, and writes its own key and those of rooms (`deploy/etcd/README.md`).

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
use crate::lease::{Lease, Load};
use crate::record;
use crate::registry::{CreateError, Registry, RegistryError, UpdateError};
use crate::view::View;
use systir_assignment::{Assignment, RoomId, Versioned};

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// Addresses, `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// The cluster; part of every key.
    pub cluster: String,
    /// CA of etcd's certificate (PEM).
    pub ca: Option<String>,
    /// This node's client certificate and key (PEM).
    pub identity: Option<(String, String)>,
    /// How long a silent node's lease lasts.
    pub lease: Duration,
    /// How often the copy is made anew from a whole read, whatever the watch told. etcd before 3.5.18
    /// tells no watch of a deletion at the very revision of a compaction.
    pub whole_read: Duration,
}

impl Default for EtcdConfig {
    /// No endpoints; a lease of 10 s, a whole read each minute.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            cluster: String::new(),
            ca: None,
            identity: None,
            lease: Duration::from_secs(10),
            whole_read: Duration::from_secs(60),
        }
    }
}

/// How long one question may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(3);

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
        in_time(self.dial()).await
    }

    async fn dial(&self) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(ANSWER)
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

/// The client for writes. Each write takes a copy, so that none waits for another.
#[derive(Default)]
struct Held {
    client: Option<Client>,
    /// Which one it is: a write that failed gives up its own and not one that was made since.
    number: u64,
}

/// The registry of one node.
pub struct EtcdRegistry {
    shared: Arc<Shared>,
    held: tokio::sync::Mutex<Held>,
    _tasks: DropGuard,
}

impl std::fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdRegistry")
            .field("endpoints", &self.shared.config.endpoints)
            .finish_non_exhaustive()
    }
}

/// Runs one question with its limit; whatever goes wrong on the way is [`RegistryError`].
pub(crate) async fn in_time<T>(
    question: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, RegistryError> {
    match tokio::time::timeout(ANSWER, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(etcd_client::Error::GRpcStatus(status)))
            if ["PermissionDenied", "Unauthenticated"].contains(&format!("{:?}", status.code()).as_str()) =>
        {
            Err(RegistryError::Refused(status.message().to_owned()))
        }
        Ok(Err(error)) => Err(RegistryError::Unavailable(error.to_string())),
        Err(_) => Err(RegistryError::Unavailable(format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

impl EtcdRegistry {
    /// Starts following etcd. It need not be there: the copy fills when it comes.
    #[must_use]
    pub fn start(config: EtcdConfig) -> Self {
        let away = View { away_since: Some(Instant::now()), ..View::default() };
        let shared = Arc::new(Shared {
            config,
            view: watch::Sender::new(Arc::new(away)),
            lease: watch::Sender::new(None),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow::follow(shared.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_lease::keep_lease(shared.clone())));
        Self { shared, held: tokio::sync::Mutex::default(), _tasks: stop.drop_guard() }
    }

    async fn client(&self) -> Result<(u64, Client), etcd_client::Error> {
        let mut held = self.held.lock().await;
        if let Some(client) = &held.client {
            return Ok((held.number, client.clone()));
        }
        let client = self.shared.dial().await?;
        held.number += 1;
        held.client = Some(client.clone());
        Ok((held.number, client))
    }

    /// One write. Its limit counts from here, however many others there are.
    async fn transact(&self, txn: Txn) -> Result<etcd_client::TxnResponse, RegistryError> {
        let mut used = None;
        let answer = in_time(async {
            let (number, mut client) = self.client().await?;
            used = Some(number);
            client.txn(txn).await
        })
        .await;
        if let (Err(RegistryError::Unavailable(_)), Some(used)) = (&answer, used)
            // Whoever makes a new one meanwhile holds the lock.
            && let Ok(mut held) = self.held.try_lock()
            && held.number == used
        {
            // A client whose connection failed is not asked again.
            held.client = None;
        }
        answer
    }

    // A write is in the copy at once, so that its writer never reads older than it wrote.
    fn remember(&self, record: &Versioned<Assignment>) {
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
            self.remember(&record);
            return Ok(Ok(record));
        }
        let current = found(&answer);
        match &current {
            Some(current) => self.remember(current),
            None => self.forget(&wanted.room, revision),
        }
        Ok(Err(current))
    }

    // Nor does who was told that a record is gone go on reading it.
    fn forget(&self, room: &RoomId, revision: u64) {
        self.shared.view.send_if_modified(|view| {
            let known = view.rooms.get(room).is_some_and(|known| known.revision <= revision);
            if known {
                Arc::make_mut(view).rooms.remove(room);
            }
            known
        });
    }
}

/// The record that a transaction found instead of what it expected; none when it cannot be read.
fn found(answer: &etcd_client::TxnResponse) -> Option<Versioned<Assignment>> {
    answer.op_responses().into_iter().find_map(|answer| match answer {
        TxnOpResponse::Get(found) => {
            found.kvs().first().and_then(|record| match record::assignment_of(record) {
                Ok(known) => Some(known),
                Err(why) => {
                    tracing::warn!(%why, "a room's record cannot be read and counts as absent");
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

    fn report(&self, load: Load, draining: bool) {
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
                tracing::info!(%error, "the lease was not taken back; it ends by itself");
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
                    self.forget(&read.value.room, revision);
                    Ok(())
                }
                (false, Some(current)) if read.value.epoch < current.value.epoch => {
                    Err(UpdateError::StaleEpoch { offered: read.value.epoch, current: current.value.epoch })
                }
                (false, Some(current)) => Err(UpdateError::Conflict(Box::new(current))),
                (false, None) => {
                    self.forget(&read.value.room, revision);
                    Err(UpdateError::Gone)
                }
            }
        }
        .boxed()
    }
}

/// Pauses between tries, for both of the registry's tasks.
pub(crate) fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
}
