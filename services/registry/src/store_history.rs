//! Detects that etcd was restored from a backup or replaced by another etcd. Then the revisions of this
//! node's copy mean nothing any more: a record that the new etcd does not have may have a higher revision
//! than all that it has.

use std::sync::{Mutex, MutexGuard, PoisonError};

use etcd_client::ResponseHeader;
use tokio::sync::Notify;

/// What this node knows of etcd's history.
#[derive(Debug, Default)]
struct Seen {
    /// Cluster id in the last response.
    cluster: Option<u64>,
    /// The highest revision in any response.
    revision: i64,
    /// How often etcd was restored or replaced.
    replaced: u64,
}

/// The history of etcd, as this node sees it in response headers.
#[derive(Debug, Default)]
pub(crate) struct StoreHistory {
    seen: Mutex<Seen>,
    /// Wakes the task that reads all records anew.
    read_due: Notify,
}

/// What was known when a request was sent: its response must not be older.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BeforeRequest {
    revision: i64,
    replaced: u64,
}

/// To which history a response belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseHistory {
    /// To the one that was known. The number counts histories.
    Known(u64),
    /// To a new one: etcd was restored or replaced.
    New(u64),
    /// Unknown: another response showed meanwhile that etcd was replaced.
    Outdated,
}

impl StoreHistory {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Call it before a linearizable request is sent, and pass the result to [`StoreHistory::check`].
    pub(crate) fn before_request(&self) -> BeforeRequest {
        let seen = self.seen();
        BeforeRequest { revision: seen.revision, replaced: seen.replaced }
    }

    /// Checks the response of a linearizable request. The revision of such a response is never lower than
    /// that of any response before the request, unless etcd was restored.
    pub(crate) fn check(&self, before: BeforeRequest, header: Option<&ResponseHeader>) -> ResponseHistory {
        match header {
            Some(header) => self.check_header(before, header.cluster_id(), header.revision()),
            None => ResponseHistory::Outdated,
        }
    }

    fn check_header(&self, before: BeforeRequest, cluster: u64, revision: i64) -> ResponseHistory {
        let mut seen = self.seen();
        if seen.replaced != before.replaced {
            return ResponseHistory::Outdated;
        }
        let other_cluster = seen.cluster.is_some_and(|known| known != cluster);
        if !other_cluster && revision >= before.revision {
            seen.cluster = Some(cluster);
            seen.revision = seen.revision.max(revision);
            return ResponseHistory::Known(seen.replaced);
        }
        tracing::warn!(
            other_cluster,
            revision,
            known = before.revision,
            "etcd was restored from a backup or replaced: its records are read anew, and rooms with participants \
             write theirs again"
        );
        *seen = Seen { cluster: Some(cluster), revision, replaced: seen.replaced + 1 };
        ResponseHistory::New(seen.replaced)
    }

    /// Notes the revision of a watch's message. A message is of the watch's own connection, which ends when
    /// etcd is replaced, so it is not checked.
    pub(crate) fn saw(&self, history: u64, header: Option<&ResponseHeader>) {
        let mut seen = self.seen();
        if let Some(header) = header
            && seen.replaced == history
        {
            seen.revision = seen.revision.max(header.revision());
        }
    }

    /// Requests that all records are read anew.
    pub(crate) fn request_read(&self) {
        self.read_due.notify_one();
    }

    /// Waits until [`StoreHistory::request_read`] is called.
    pub(crate) async fn read_requested(&self) {
        self.read_due.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_went_back_or_another_cluster_is_a_new_history() {
        let etcd = StoreHistory::default();
        let check = |before, cluster, revision| etcd.check_header(before, cluster, revision);
        let first = etcd.before_request();
        assert_eq!(check(first, 7, 100), ResponseHistory::Known(0), "the first response");
        // A request that was sent before another one's response may see an older revision.
        assert_eq!(check(first, 7, 98), ResponseHistory::Known(0));
        let sent = etcd.before_request();
        assert_eq!(check(sent, 7, 100), ResponseHistory::Known(0), "a read changes nothing");
        assert_eq!(check(sent, 7, 99), ResponseHistory::New(1), "restored with the same cluster id");
        assert_eq!(check(sent, 7, 101), ResponseHistory::Outdated, "perhaps of the earlier etcd");
        assert_eq!(check(etcd.before_request(), 7, 99), ResponseHistory::Known(1));
        assert_eq!(check(etcd.before_request(), 8, 5_000), ResponseHistory::New(2), "another cluster");
        assert_eq!(check(etcd.before_request(), 8, 5_001), ResponseHistory::Known(2));
    }
}
