//! The registry in etcd: transactions that compare revisions (never etcd's lock API, which is unsafe),
//! leases, and a watch that recovers from compaction and disconnection. What etcd returns is not
//! authoritative for policy: decisions are based on the operator's own files.
//!
//! The keys are those of [`StoreKeys`]; values are JSON. Each node has its own etcd role: it reads the leases
//! of all nodes and writes its own, and it reads and writes the rooms of the institutions that approve it, and
//! of no others (`deploy/etcd/README.md`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::{Client, Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::{Connector, EtcdCredentials, with_timeout};
use crate::etcd_config::EtcdConfig;
use crate::follow;
use crate::keep_lease;
use crate::lease::{Lease, NodeLoad};
use crate::record::{self, UnreadableRecord};
use crate::registry::{CreateError, Registry, RegistryError, UpdateError};
use crate::renew;
use crate::room_watch::RoomWatch;
use crate::shared::Shared;
use crate::shared_view::SharedView;
use crate::store_history::{ResponseHistory, StoreHistory};
use crate::unreadable_warnings::UnreadableWarnings;
use crate::view::View;
use crate::view_change::ViewEditor;
use systir_assignment::{Assignment, NodeId, RoomId, StoreKeys, Versioned};
use systir_version::{UnsupportedVersion, VersionRange};

/// Attempts to replace a record that cannot be read, while others write it.
const REPLACE_ATTEMPTS: usize = 3;

/// The client for writes. Each write uses a clone, so that no write waits for another.
#[derive(Default)]
struct WriteClient {
    /// With the credentials that it was made with.
    client: Option<(Client, Arc<EtcdCredentials>)>,
    /// Counts the clients made: a failed write drops its own client, never a newer one.
    generation: u64,
}

/// The registry of one node.
pub struct EtcdRegistry {
    shared: Arc<Shared>,
    write_client: tokio::sync::Mutex<WriteClient>,
    /// Credentials that etcd has not accepted yet.
    offered: watch::Sender<EtcdCredentials>,
    _tasks: DropGuard,
}

impl std::fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdRegistry")
            .field("endpoints", &self.shared.config.endpoints)
            .finish_non_exhaustive()
    }
}

impl EtcdRegistry {
    /// Starts following etcd. If etcd does not answer yet, the copy stays empty until it does. No institution's
    /// rooms are followed before [`Registry::follow`].
    #[must_use]
    pub fn start(config: EtcdConfig) -> Self {
        let view = View {
            unavailable_since: Some(Instant::now()),
            followed: Some(Arc::default()),
            remembered: Some(Arc::default()),
            ..View::default()
        };
        let offered = watch::Sender::new(config.credentials.clone());
        let shared = Arc::new(Shared {
            connector: Connector::new(config.endpoints.clone(), config.credentials.clone()),
            keys: StoreKeys::new(&config.cluster),
            config,
            view: SharedView::new(view),
            history: StoreHistory::default(),
            unreadable: UnreadableWarnings::default(),
            lease: watch::Sender::new(None),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow::follow(shared.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_lease::keep_lease(shared.clone())));
        let renewals = renew::renew(shared.clone(), offered.subscribe());
        tokio::spawn(stop.clone().run_until_cancelled_owned(renewals));
        Self { shared, write_client: tokio::sync::Mutex::default(), offered, _tasks: stop.drop_guard() }
    }

    /// Uses other credentials: all connections are made anew, once etcd has accepted them. Until then the
    /// earlier ones stay in use.
    pub fn renew(&self, credentials: EtcdCredentials) {
        self.offered.send_replace(credentials);
    }

    async fn client(&self) -> Result<(u64, Client), etcd_client::Error> {
        let mut writer = self.write_client.lock().await;
        let credentials = self.shared.connector.credentials();
        if let Some((client, with)) = &writer.client
            && Arc::ptr_eq(with, &credentials)
        {
            return Ok((writer.generation, client.clone()));
        }
        let client = self.shared.connector.dial(&credentials).await?;
        writer.generation += 1;
        writer.client = Some((client.clone(), credentials));
        Ok((writer.generation, client))
    }

    /// Refuses to write a room of an institution that does not approve this node. etcd would refuse it too, if the
    /// node's role is as it should be.
    fn check_followed(&self, room: &RoomId) -> Result<(), RegistryError> {
        if self.shared.view.current().follows(&room.institution) {
            return Ok(());
        }
        let why = format!("the policy of {} approves this node in no role", room.institution);
        Err(RegistryError::Refused(why))
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

    /// Puts the record under the first key if all keys have these revisions (0: no record). Else returns what is under
    /// each key.
    async fn put_if(
        &self,
        keys: &[(String, u64)],
        wanted: Assignment,
    ) -> Result<Result<Versioned<Assignment>, Vec<Found>>, RegistryError> {
        let own = self.shared.config.versions;
        let value =
            record::text_of(&wanted, own).map_err(|error| RegistryError::Refused(error.to_string()))?;
        let unchanged = |(key, revision): &(String, u64)| {
            // A key without a record has revision 0.
            Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision as i64)
        };
        let put = keys.first().map(|(key, _)| TxnOp::put(key.as_str(), value, Some(PutOptions::new())));
        let reads = keys.iter().map(|(key, _)| TxnOp::get(key.as_str(), None));
        let txn = Txn::new()
            .when(keys.iter().map(unchanged).collect::<Vec<_>>())
            .and_then(put.into_iter().collect::<Vec<_>>())
            .or_else(reads.collect::<Vec<_>>());
        let answer = self.transact(txn).await?;
        if answer.succeeded() {
            let record = Versioned { value: wanted, revision: answer.revision() };
            self.change_copy(answer.history, |view| view.insert_newer_room(record.clone()));
            return Ok(Ok(record));
        }
        let found = answer.found(own);
        for found in &found {
            if let Found::Record(current) = found {
                self.change_copy(answer.history, |view| view.insert_newer_room((**current).clone()));
            }
        }
        if !matches!(found.first(), Some(Found::Record(_))) {
            self.remove_older(&wanted.room, &answer);
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
    /// It is of another version, and stays as it is.
    Unsupported(UnsupportedVersion),
    Nothing,
}

impl TxnAnswer {
    fn succeeded(&self) -> bool {
        self.answer.succeeded()
    }

    fn revision(&self) -> u64 {
        self.answer.header().map_or(0, |header| header.revision()) as u64
    }

    /// What each read of the transaction found.
    fn found(&self, own: VersionRange) -> Vec<Found> {
        let responses = self.answer.op_responses();
        let reads = responses.iter().filter_map(|response| match response {
            TxnOpResponse::Get(found) => {
                Some(found.kvs().first().map_or(Found::Nothing, |record| found_in(record, own)))
            }
            _ => None,
        });
        reads.collect()
    }
}

fn found_in(record: &KeyValue, own: VersionRange) -> Found {
    match record::assignment_of(record, own) {
        Ok(known) => Found::Record(Box::new(known)),
        Err(UnreadableRecord::Version(unsupported)) => Found::Unsupported(unsupported),
        Err(reason) => {
            tracing::warn!(%reason, "a room's record cannot be read and counts as absent");
            Found::Unreadable(record.mod_revision())
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

    fn follow(&self, institutions: BTreeSet<String>) {
        let mut changed = false;
        self.shared.view.modify(|view| changed = view.follow(institutions));
        if changed {
            self.shared.history.request_read();
        }
    }

    fn remember(&self, nodes: BTreeSet<NodeId>) {
        self.shared.view.modify(|view| view.remember(nodes));
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
            let key = self.shared.keys.node(lease.node.as_str());
            if let Err(error) = self.transact(Txn::new().and_then([TxnOp::delete(key, None)])).await {
                tracing::info!(%error, "the lease could not be removed; it will expire");
            }
        }
        .boxed()
    }

    fn create_unless(
        &self,
        assignment: Assignment,
        others: Vec<(RoomId, u64)>,
    ) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        async move {
            self.check_followed(&assignment.room)?;
            let key = self.shared.keys.room(&assignment.room);
            // The keys, and the revision that each must still have; 0 for no record.
            let others = others.iter().map(|(room, revision)| (self.shared.keys.room(room), *revision));
            let mut keys: Vec<(String, u64)> = std::iter::once((key, 0)).chain(others).collect();
            for _ in 0..REPLACE_ATTEMPTS {
                let found = match self.put_if(&keys, assignment.clone()).await? {
                    Ok(created) => return Ok(created),
                    Err(found) => found,
                };
                for ((_, expected), found) in keys.iter_mut().zip(found) {
                    *expected = match found {
                        Found::Record(known) if known.revision == *expected => continue,
                        Found::Record(existing) => return Err(CreateError::AlreadyAssigned(existing)),
                        // Else nobody could join the room until someone deletes the record.
                        Found::Unreadable(revision) => revision as u64,
                        Found::Unsupported(unsupported) => {
                            return Err(RegistryError::UnsupportedVersion(unsupported).into());
                        }
                        Found::Nothing => 0,
                    };
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
            self.check_followed(&read.value.room)?;
            let key = self.shared.keys.room(&read.value.room);
            match self.put_if(&[(key, read.revision)], wanted).await? {
                Ok(written) => Ok(written),
                Err(found) => match found.into_iter().next() {
                    Some(Found::Record(current)) => Err(UpdateError::Conflict(current)),
                    Some(Found::Unsupported(unsupported)) => Err(RegistryError::from(unsupported).into()),
                    _ => Err(UpdateError::Gone),
                },
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, read: &'a Versioned<Assignment>) -> BoxFuture<'a, Result<(), UpdateError>> {
        async move {
            self.check_followed(&read.value.room)?;
            let key = self.shared.keys.room(&read.value.room);
            let txn = Txn::new()
                .when([Compare::mod_revision(key.clone(), CompareOp::Equal, read.revision as i64)])
                .and_then([TxnOp::delete(key.clone(), None)])
                .or_else([TxnOp::get(key, None)]);
            let answer = self.transact(txn).await?;
            match answer.found(self.shared.config.versions).into_iter().next() {
                _ if answer.succeeded() => {
                    self.remove_older(&read.value.room, &answer);
                    Ok(())
                }
                Some(Found::Record(current)) => Err(UpdateError::Conflict(current)),
                Some(Found::Unsupported(unsupported)) => Err(RegistryError::from(unsupported).into()),
                _ => {
                    self.remove_older(&read.value.room, &answer);
                    Err(UpdateError::Gone)
                }
            }
        }
        .boxed()
    }
}
