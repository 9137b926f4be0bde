//! The task that follows etcd: the leases of all nodes, and the rooms of the institutions that approve this node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchStream};

use crate::backoff::Backoff;
use crate::connection::{REQUEST_TIMEOUT, with_timeout};
use crate::full_read::{self, FullRead};
use crate::record::{put, remove};
use crate::registry::RegistryError;
use crate::shared::Shared;

/// Follows etcd without end: a full read, then watches from its revision. Whatever ends a watch
/// (compaction, disconnection, a new leader) leads to the next full read, as does another set of institutions.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut follower = Follower { shared, backoff: Backoff::default(), refused: RefusedRooms::default() };
    let mut logged = false;
    loop {
        let reason = match follower.read_and_watch().await {
            Ok(FollowEnd::FullReadDue) => continue,
            Ok(FollowEnd::Lost(reason)) => reason,
            Err(error) => error.to_string(),
        };
        let shared = &follower.shared;
        shared.view.modify(|view| {
            if view.view().unavailable_since.is_none() {
                tracing::warn!(reason, "lost the watch on etcd; reads continue from the last known copy");
                view.set_unavailable();
            } else if !logged {
                let etcd = shared.connector.endpoints().join(", ");
                tracing::warn!(etcd, reason, "etcd does not answer yet; will try again");
            }
        });
        logged = true;
        follower.backoff.pause().await;
    }
}

/// Why following ended.
enum FollowEnd {
    /// The next full read is due.
    FullReadDue,
    /// A watch ended.
    Lost(String),
}

struct Follower {
    shared: Arc<Shared>,
    backoff: Backoff,
    refused: RefusedRooms,
}

impl Follower {
    async fn read_and_watch(&mut self) -> Result<FollowEnd, RegistryError> {
        let shared = self.shared.clone();
        let mut renewals = shared.connector.renewals();
        let mut client = shared.connector.connect().await?;
        let read = full_read::read_all(&shared, &mut client).await?;
        let history = read.history;
        let mut watch = watch_all(&shared, &mut client, &read).await?;
        self.refused.set(&read.refused);
        full_read::publish(&shared, read);
        self.backoff.reset();
        let full_read_due = tokio::time::sleep(shared.config.full_read_interval);
        tokio::pin!(full_read_due);
        let mut retry_at = self.refused.next_attempt();
        loop {
            let message = tokio::select! {
                () = &mut full_read_due => return Ok(FollowEnd::FullReadDue),
                () = shared.history.read_requested() => return Ok(FollowEnd::FullReadDue),
                _ = renewals.changed() => return Ok(FollowEnd::FullReadDue),
                () = wait_until(retry_at) => {
                    if self.refused.is_any_allowed(&shared, &mut client).await? {
                        return Ok(FollowEnd::FullReadDue);
                    }
                    retry_at = self.refused.next_attempt();
                    continue;
                }
                message = watch.message() => {
                    message.map_err(|error| RegistryError::Unavailable(error.to_string()))?
                }
                // A watch without events does not show that the connection is alive: send a request, for a key that
                // this node's role may read.
                () = tokio::time::sleep(REQUEST_TIMEOUT) => {
                    let options = GetOptions::new().with_serializable();
                    with_timeout(client.get(shared.keys.nodes(), Some(options))).await?;
                    continue;
                }
            };
            let Some(message) = message else { return Ok(FollowEnd::Lost("the watch ended".into())) };
            if message.canceled() {
                let (at, why) = (message.compact_revision(), message.cancel_reason());
                return Ok(FollowEnd::Lost(format!("a watch was cancelled at compaction {at}: {why}")));
            }
            shared.history.saw(history, message.header());
            if message.events().is_empty() {
                continue;
            }
            shared.view.modify(|view| {
                for event in message.events() {
                    let Some(record) = event.kv() else { continue };
                    match event.event_type() {
                        EventType::Put => put(&shared, view, record),
                        EventType::Delete => remove(view, shared.keys.all(), record),
                    }
                }
            });
        }
    }
}

/// Watches all that was read, from its revision, in one stream.
async fn watch_all(
    shared: &Shared,
    client: &mut Client,
    read: &FullRead,
) -> Result<WatchStream, RegistryError> {
    let options =
        || WatchOptions::new().with_prefix().with_start_revision(read.revision + 1).with_progress_notify();
    let mut prefixes = read.prefixes(shared).into_iter();
    let leases = prefixes.next().unwrap_or_default();
    let mut watch = with_timeout(client.watch(leases, Some(options()))).await?;
    for prefix in prefixes {
        with_timeout(watch.watch(prefix, Some(options()))).await?;
    }
    Ok(watch)
}

async fn wait_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The institutions that approve this node and whose rooms etcd refuses to it: their role was not changed yet.
struct RefusedRooms {
    institutions: BTreeSet<String>,
    backoff: Backoff,
}

impl Default for RefusedRooms {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        Self { institutions: BTreeSet::new(), backoff }
    }
}

impl RefusedRooms {
    /// Notes which are refused now, and logs each of them once.
    fn set(&mut self, refused: &BTreeSet<String>) {
        for institution in refused.difference(&self.institutions) {
            tracing::error!(
                institution,
                "the policy of this institution approves this node, and etcd refuses its rooms to it: run the commands \
                 that `systirctl etcd roles` prints; will try again"
            );
        }
        for institution in self.institutions.difference(refused) {
            tracing::info!(institution, "etcd no longer refuses the rooms of this institution");
        }
        if *refused != self.institutions {
            self.institutions.clone_from(refused);
            self.backoff.reset();
        }
    }

    /// When to ask again; never if none is refused.
    fn next_attempt(&mut self) -> Option<tokio::time::Instant> {
        (!self.institutions.is_empty()).then(|| tokio::time::Instant::now() + self.backoff.delay())
    }

    async fn is_any_allowed(&self, shared: &Shared, client: &mut Client) -> Result<bool, RegistryError> {
        for institution in &self.institutions {
            let options = GetOptions::new().with_prefix().with_count_only().with_serializable();
            match with_timeout(client.get(shared.keys.rooms(institution), Some(options))).await {
                Ok(_) => return Ok(true),
                Err(RegistryError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
