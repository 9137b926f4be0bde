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
use crate::room_watch::RoomWatch;
use crate::shared_view::SharedView;
use crate::store_history::{ResponseHistory, StoreHistory};
use crate::view::View;
use crate::view_change::ViewEditor;
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

/// Attempts to replace a record that cannot be read, while others write it.
const REPLACE_ATTEMPTS: usize = 3;

pub(crate) struct Shared {
    pub config: EtcdConfig,
    pub view: SharedView,
    pub history: StoreHistory,
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
            view: SharedView::new(unavailable),
            history: StoreHistory::default(),
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
    async fn transact(&self, txn: Txn) -> Result<TxnAnswer, RegistryError> {
        let before = self.shared.history.before_request();
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
        let answer = answer?;
        let history = self.shared.history.check(before, answer.header());
        if matches!(history, ResponseHistory::New(_)) {
            self.shared.history.request_read();
        }
        Ok(TxnAnswer { answer, history })
    }

    /// Changes the copy by an answer, so that this node reads its own writes. Not when etcd was replaced: the
    /// copy is then of the earlier etcd and is about to be read anew.
    fn change_copy(&self, history: ResponseHistory, change: impl FnOnce(&mut ViewEditor<'_>)) {
        self.shared.view.modify(|view| {
            if history == ResponseHistory::Known(view.view().replaced) {
                change(view);
            }
        });
    }

    async fn put_if(
        &self,
        compare: Compare,
        key: String,
        wanted: Assignment,
    ) -> Result<Result<Versioned<Assignment>, Found>, RegistryError> {
        let value = serde_json::to_vec(&wanted).map_err(|error| RegistryError::Refused(error.to_string()))?;
        let txn = Txn::new()
            .when([compare])
            .and_then([TxnOp::put(key.clone(), value, Some(PutOptions::new()))])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.transact(txn).await?;
        if answer.succeeded() {
            let record = Versioned { value: wanted, revision: answer.revision() };
            self.change_copy(answer.history, |view| view.insert_newer_room(record.clone()));
            return Ok(Ok(record));
        }
        let found = answer.found();
        match &found {
            Found::Record(current) => {
                self.change_copy(answer.history, |view| view.insert_newer_room((**current).clone()));
            }
            Found::Unreadable(_) | Found::Nothing => self.remove_older(&wanted.room, &answer),
        }
        Ok(Err(found))
    }

    // Removes a record that was gone at the answer's revision from the copy, unless the copy has a newer one.
    fn remove_older(&self, room: &RoomId, answer: &TxnAnswer) {
        self.change_copy(answer.history, |view| {
            if view.view().room(room).is_some_and(|known| known.revision <= answer.revision()) {
                view.remove_room(room);
            }
        });
    }
}

/// The answer to a transaction.
struct TxnAnswer {
    answer: etcd_client::TxnResponse,
    history: ResponseHistory,
}

/// The record that a failed transaction found.
enum Found {
    Record(Box<Versioned<Assignment>>),
    /// It cannot be read and counts as absent. Its revision.
    Unreadable(i64),
    Nothing,
}

impl TxnAnswer {
    fn succeeded(&self) -> bool {
        self.answer.succeeded()
    }

    fn revision(&self) -> u64 {
        self.answer.header().map_or(0, |header| header.revision()) as u64
    }

    fn found(&self) -> Found {
        let responses = self.answer.op_responses();
        let record = responses.iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first(),
            _ => None,
        });
        let Some(record) = record else { return Found::Nothing };
        match record::assignment_of(record) {
            Ok(known) => Found::Record(Box::new(known)),
            Err(reason) => {
                tracing::warn!(%reason, "a room's record cannot be read and counts as absent");
                Found::Unreadable(record.mod_revision())
            }
        }
    }
}

impl Registry for EtcdRegistry {
    fn view(&self) -> Arc<View> {
        self.shared.view.current()
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.shared.view.watch()
    }

    fn watch_room(&self, room: &RoomId) -> RoomWatch {
        self.shared.view.watch_room(room)
    }

    fn wake_room(&self, room: &RoomId) {
        self.shared.view.wake_room(room);
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
            let mut absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
            for _ in 0..REPLACE_ATTEMPTS {
                match self.put_if(absent, key.clone(), assignment.clone()).await? {
                    Ok(created) => return Ok(created),
                    Err(Found::Record(existing)) => return Err(CreateError::AlreadyAssigned(existing)),
                    // Else nobody could join the room until someone deletes the record.
                    Err(Found::Unreadable(revision)) => {
                        absent = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
                    }
                    Err(Found::Nothing) => {
                        absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
                    }
                }
            }
            let reason = "the room's record cannot be read and changes all the time";
            Err(RegistryError::Refused(reason.to_owned()).into())
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
            match self.put_if(unchanged, key, wanted).await? {
                Ok(written) => Ok(written),
                Err(Found::Record(current)) => Err(UpdateError::Conflict(current)),
                Err(Found::Unreadable(_) | Found::Nothing) => Err(UpdateError::Gone),
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
            match answer.found() {
                _ if answer.succeeded() => {
                    self.remove_older(&read.value.room, &answer);
                    Ok(())
                }
                Found::Record(current) => Err(UpdateError::Conflict(current)),
                Found::Unreadable(_) | Found::Nothing => {
                    self.remove_older(&read.value.room, &answer);
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
