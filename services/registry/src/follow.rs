//! The task that follows all records in etcd.

use std::sync::Arc;

use etcd_client::{Client, EventType, GetOptions, WatchOptions};

use crate::etcd::{REQUEST_TIMEOUT, Shared, new_backoff, with_timeout};
use crate::record::{put, remove};
use crate::registry::RegistryError;
use crate::store_history::ResponseHistory;
use crate::view::View;
use crate::view_change::ViewEditor;

/// Follows etcd without end: a full read, then a watch from its revision. Whatever ends the watch
/// (compaction, disconnection, a new leader) leads to the next full read.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut backoff = new_backoff();
    let mut logged = false;
    loop {
        let ended = read_and_watch(&shared, &mut backoff).await;
        let reason = match ended {
            Ok(FollowEnd::FullReadDue) => continue,
            Ok(FollowEnd::Lost(reason)) => reason,
            Err(error) => error.to_string(),
        };
        shared.view.modify(|view| {
            if view.view().unavailable_since.is_none() {
                tracing::warn!(reason, "lost the watch on etcd; reads continue from the last known copy");
                view.set_unavailable();
            } else if !logged {
                let etcd = shared.config.endpoints.join(", ");
                tracing::warn!(etcd, reason, "etcd does not answer yet; will try again");
            }
        });
        logged = true;
        backoff.pause().await;
    }
}

/// Why following ended.
enum FollowEnd {
    /// The next full read is due.
    FullReadDue,
    /// The watch ended.
    Lost(String),
}

/// Records per request: all at once could exceed the size limit of a gRPC message.
const PAGE_RECORDS: i64 = 1_000;

// tonic distinguishes this error by its message only.
fn is_too_long(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("length too large"))
}

/// All records, as of one revision.
struct FullRead {
    view: View,
    revision: i64,
    /// The history of etcd that they belong to.
    history: u64,
}

/// Reads everything below the prefix, as of one revision, page by page.
async fn read_all(shared: &Shared, client: &mut Client) -> Result<FullRead, RegistryError> {
    let prefix = shared.prefix();
    let before = shared.history.before_request();
    let (mut view, mut history) = (View::default(), 0);
    let mut editor = ViewEditor::new(&mut view);
    // The end of the key range: the prefix ends with `/`, and `0` is the next character.
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let (mut from, mut limit, mut revision) = (prefix.as_bytes().to_vec(), PAGE_RECORDS, 0);
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(limit).with_revision(revision);
        let request = client.get(from.clone(), Some(options));
        let page = with_timeout(async {
            match request.await {
                Err(error) if limit > 1 && is_too_long(&error) => Ok(None),
                answer => answer.map(Some),
            }
        });
        let Some(page) = page.await? else {
            // These records are too long for one message: request fewer.
            limit /= 2;
            continue;
        };
        // Read all further pages at the revision of the first.
        if revision == 0 {
            history = match shared.history.check(before, page.header()) {
                ResponseHistory::Known(history) | ResponseHistory::New(history) => history,
                ResponseHistory::Outdated => {
                    return Err(RegistryError::Unavailable("it was replaced while it was read".to_owned()));
                }
            };
            revision = page.header().map_or(0, |header| header.revision());
        }
        for record in page.kvs() {
            put(&mut editor, &prefix, record);
        }
        match page.kvs().last() {
            Some(last) if page.more() => from = [last.key(), &[0]].concat(),
            _ => return Ok(FullRead { view, revision, history }),
        }
    }
}

/// Replaces the copy by a full read.
fn publish(shared: &Shared, read: FullRead) {
    let FullRead { view: mut fresh, revision, history } = read;
    shared.view.replace(|view| {
        if view.unavailable_since.is_some() {
            tracing::info!(
                nodes = fresh.nodes.len(),
                rooms = fresh.rooms.len(),
                "etcd answers; the copy is up to date"
            );
        }
        fresh.unreadable += view.unreadable;
        fresh.keep_ended_leases(view);
        // Keep what this node wrote after the read. If etcd was replaced, the copy's revisions are of the
        // earlier etcd: they do not show what is newer.
        if view.replaced == history {
            for (room, known) in view.rooms.iter().filter(|(_, known)| known.revision > revision as u64) {
                fresh.rooms.insert(room.clone(), known.clone());
            }
        }
        fresh.replaced = history;
        fresh
    });
}

async fn read_and_watch(
    shared: &Shared,
    backoff: &mut crate::backoff::Backoff,
) -> Result<FollowEnd, RegistryError> {
    let mut client = shared.connect().await?;
    let prefix = shared.prefix();
    let read = read_all(shared, &mut client).await?;
    let history = read.history;
    let watch_options =
        WatchOptions::new().with_prefix().with_start_revision(read.revision + 1).with_progress_notify();
    let mut watch = with_timeout(client.watch(prefix.clone(), Some(watch_options))).await?;
    publish(shared, read);
    backoff.reset();
    let full_read_due = tokio::time::sleep(shared.config.full_read_interval);
    tokio::pin!(full_read_due);
    loop {
        let message = tokio::select! {
            () = &mut full_read_due => return Ok(FollowEnd::FullReadDue),
            () = shared.history.read_requested() => return Ok(FollowEnd::FullReadDue),
            message = watch.message() => message.map_err(|error| RegistryError::Unavailable(error.to_string()))?,
            // A watch without events does not show that the connection is alive: send a request.
            () = tokio::time::sleep(REQUEST_TIMEOUT) => {
                // A key below the prefix: this node's role may read no other.
                with_timeout(client.get(format!("{prefix}alive"), Some(GetOptions::new().with_serializable()))).await?;
                continue;
            }
        };
        let Some(message) = message else { return Ok(FollowEnd::Lost("the watch ended".into())) };
        if message.canceled() {
            let at = message.compact_revision();
            return Ok(FollowEnd::Lost(format!("the watch was cancelled at compaction {at}")));
        }
        shared.history.saw(history, message.header());
        if message.events().is_empty() {
            continue;
        }
        shared.view.modify(|view| {
            for event in message.events() {
                let Some(record) = event.kv() else { continue };
                match event.event_type() {
                    EventType::Put => put(view, &prefix, record),
                    EventType::Delete => remove(view, &prefix, record),
                }
            }
        });
    }
}
