//! The task that follows everybody's records in etcd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::{Client, EventType, GetOptions, WatchOptions};

use crate::etcd::{ANSWER, Shared, in_time, pauses};
use crate::record::{put, remove};
use crate::registry::RegistryError;
use crate::view::View;

/// Follows etcd for ever: a whole read, then the watch from there; whatever ends the watch
/// (compaction, disconnection, a new leader) leads to the next whole read.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut pauses = pauses();
    let mut said = false;
    loop {
        let ended = read_and_watch(&shared, &mut pauses).await;
        let why = match ended {
            Ok(Ended::Old) => continue,
            Ok(Ended::Lost(why)) => why,
            Err(error) => error.to_string(),
        };
        shared.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            if view.away_since.is_none() {
                tracing::warn!(why, "etcd is lost; reads go on from the last known copy");
                view.away_since = Some(Instant::now());
            } else if !said {
                let etcd = shared.config.endpoints.join(", ");
                tracing::warn!(etcd, why, "etcd does not answer yet; it is asked again and again");
            }
        });
        said = true;
        pauses.pause().await;
    }
}

/// Why a copy is no longer followed.
enum Ended {
    /// It is time for a whole read.
    Old,
    /// The watch tells nothing more.
    Lost(String),
}

/// Records that one answer holds. All at once would be more than a message may hold.
const PAGE: i64 = 1_000;

// What is below names this error in words only.
fn is_too_long(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("length too large"))
}

/// Everything below the prefix as of one revision, page by page.
async fn read_whole(client: &mut Client, prefix: &str) -> Result<(View, i64), RegistryError> {
    let mut view = View { nodes: BTreeMap::new(), rooms: BTreeMap::new(), away_since: None, garbled: 0 };
    // Behind the last key that begins with the prefix: its last byte is `/`, and `0` comes next.
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let (mut from, mut limit, mut revision) = (prefix.as_bytes().to_vec(), PAGE, 0);
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(limit).with_revision(revision);
        let question = client.get(from.clone(), Some(options));
        let page = in_time(async {
            match question.await {
                Err(error) if limit > 1 && is_too_long(&error) => Ok(None),
                answer => answer.map(Some),
            }
        });
        let Some(page) = page.await? else {
            // These records are longer than most: fewer at a time.
            limit /= 2;
            continue;
        };
        // The first answer says which revision all others shall show.
        if revision == 0 {
            revision = page.header().map_or(0, |header| header.revision());
        }
        for record in page.kvs() {
            put(&mut view, prefix, record);
        }
        match page.kvs().last() {
            Some(last) if page.more() => from = [last.key(), &[0]].concat(),
            _ => return Ok((view, revision)),
        }
    }
}

async fn read_and_watch(
    shared: &Shared,
    pauses: &mut crate::backoff::Backoff,
) -> Result<Ended, RegistryError> {
    let mut client = shared.connect().await?;
    let prefix = shared.prefix();
    let (mut fresh, revision) = read_whole(&mut client, &prefix).await?;
    let from_there =
        WatchOptions::new().with_prefix().with_start_revision(revision + 1).with_progress_notify();
    let mut watch = in_time(client.watch(prefix.clone(), Some(from_there))).await?;
    shared.view.send_modify(|view| {
        if view.away_since.is_some() {
            tracing::info!(nodes = fresh.nodes.len(), rooms = fresh.rooms.len(), "etcd is there");
        }
        fresh.garbled += view.garbled;
        // What this node wrote after the read is newer than the read.
        for (room, known) in view.rooms.iter().filter(|(_, known)| known.revision > revision as u64) {
            fresh.rooms.insert(room.clone(), known.clone());
        }
        *view = Arc::new(fresh);
    });
    pauses.reset();
    let old = tokio::time::sleep(shared.config.whole_read);
    tokio::pin!(old);
    loop {
        let message = tokio::select! {
            () = &mut old => return Ok(Ended::Old),
            message = watch.message() => message.map_err(|error| RegistryError::Unavailable(error.to_string()))?,
            // A watch without events says nothing about the connection: ask now and then.
            () = tokio::time::sleep(ANSWER) => {
                // Below the prefix, which is all that this node's role may read.
                in_time(client.get(format!("{prefix}alive"), Some(GetOptions::new().with_serializable()))).await?;
                continue;
            }
        };
        let Some(message) = message else { return Ok(Ended::Lost("the watch ended".into())) };
        if message.canceled() {
            let at = message.compact_revision();
            return Ok(Ended::Lost(format!("the watch was cancelled at compaction {at}")));
        }
        if message.events().is_empty() {
            continue;
        }
        shared.view.send_modify(|view| {
            let view = Arc::make_mut(view);
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
