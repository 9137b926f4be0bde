//! The two tasks of the etcd registry: one follows everybody's records, one keeps the own lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::{Client, EventType, GetOptions, KeyValue, PutOptions, WatchOptions};

use crate::etcd::{ANSWER, Shared, in_time, pauses};
use crate::lease::Lease;
use crate::registry::RegistryError;
use crate::view::View;
use systir_assignment::{Assignment, LAST_EPOCH, NodeId, RoomId, Versioned};

/// Why a record cannot be read; never what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Garbled {
    #[error("it is no record of this kind")]
    Malformed,
    #[error("it lies under the key of another")]
    Misplaced,
    #[error("its epoch is beyond the last one, so that nobody could take over")]
    Epoch,
    #[error("its key is none of ours")]
    ForeignKey,
}

/// The assignment in a record.
pub(crate) fn assignment_of(record: &KeyValue) -> Result<Versioned<Assignment>, Garbled> {
    let value = read_assignment(record.key(), record.value())?;
    Ok(Versioned { value, revision: record.mod_revision() as u64 })
}

fn read_assignment(key: &[u8], value: &[u8]) -> Result<Assignment, Garbled> {
    let value: Assignment = serde_json::from_slice(value).map_err(|_| Garbled::Malformed)?;
    if !key.ends_with(format!("/rooms/{}", value.room.key()).as_bytes()) {
        return Err(Garbled::Misplaced);
    }
    if value.epoch > LAST_EPOCH {
        return Err(Garbled::Epoch);
    }
    Ok(value)
}

fn read_lease(key: &[u8], value: &[u8]) -> Result<Lease, Garbled> {
    let lease: Lease = serde_json::from_slice(value).map_err(|_| Garbled::Malformed)?;
    if !key.ends_with(format!("/nodes/{}", lease.node).as_bytes()) {
        return Err(Garbled::Misplaced);
    }
    Ok(lease)
}

/// Entrance for the fuzzers: a record that anybody may have written.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(key: &[u8], value: &[u8]) {
    let _ = key_of("/systir/v1/nordunet/", key);
    let _ = read_lease(key, value);
    if let Ok(mut assignment) = read_assignment(key, value) {
        let again = serde_json::to_vec(&assignment).unwrap_or_default();
        assert_eq!(read_assignment(key, &again), Ok(assignment.clone()));
        let _ = assignment.take_over(NodeId::from("cph-1"), 1);
    }
}

enum Key {
    Node(NodeId),
    Room(RoomId),
    Other,
}

fn key_of(prefix: &str, key: &[u8]) -> Key {
    let Some(rest) = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(prefix)) else {
        return Key::Other;
    };
    match rest.split_once('/') {
        Some(("nodes", node)) => Key::Node(NodeId::from(node)),
        Some(("rooms", room)) => RoomId::from_key(room).map_or(Key::Other, Key::Room),
        _ => Key::Other,
    }
}

// A garbled record counts as absent: nothing is decided on what cannot be read.
fn put(view: &mut View, prefix: &str, record: &KeyValue) {
    match key_of(prefix, record.key()) {
        Key::Node(node) => match read_lease(record.key(), record.value()) {
            Ok(lease) => {
                view.nodes.insert(node, lease);
            }
            Err(why) => garbled(view, why, |view| {
                view.nodes.remove(&node);
            }),
        },
        Key::Room(room) => match assignment_of(record) {
            // A write of this node's own may be in the copy before the watch tells of an older one.
            Ok(assignment) => {
                if view.rooms.get(&room).is_none_or(|known| known.revision < assignment.revision) {
                    view.rooms.insert(room, assignment);
                }
            }
            Err(why) => garbled(view, why, |view| {
                view.rooms.remove(&room);
            }),
        },
        Key::Other => garbled(view, Garbled::ForeignKey, |_| {}),
    }
}

fn garbled(view: &mut View, why: Garbled, forget: impl FnOnce(&mut View)) {
    forget(view);
    view.garbled += 1;
    tracing::warn!(
        %why,
        "a record in etcd cannot be read and counts as absent; somebody else writes under our prefix"
    );
}

fn remove(view: &mut View, prefix: &str, record: &KeyValue) {
    match key_of(prefix, record.key()) {
        Key::Node(node) => {
            view.nodes.remove(&node);
        }
        Key::Room(room) => {
            // This node may have written the room anew before the watch tells of its end.
            let ended = record.mod_revision() as u64;
            if view.rooms.get(&room).is_some_and(|known| known.revision < ended) {
                view.rooms.remove(&room);
            }
        }
        Key::Other => {}
    }
}

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

/// Keeps this node's lease, with what the node last said of itself.
pub(crate) async fn keep_lease(shared: Arc<Shared>) {
    let mut pauses = pauses();
    let mut wanted = shared.lease.subscribe();
    loop {
        if wanted.borrow_and_update().is_none() {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        if let Err(error) = hold(&shared, &mut wanted, &mut pauses).await {
            tracing::debug!(%error, "the lease is not held; trying again");
        }
        pauses.pause().await;
    }
}

async fn hold(
    shared: &Shared,
    wanted: &mut tokio::sync::watch::Receiver<Option<Lease>>,
    pauses: &mut crate::backoff::Backoff,
) -> Result<(), RegistryError> {
    let mut client = shared.connect().await?;
    let seconds = shared.config.lease.as_secs().max(2) as i64;
    let id = in_time(client.lease_grant(seconds, None)).await?.id();
    let (mut keeper, mut answers) = in_time(client.lease_keep_alive(id)).await?;
    let mut beat = tokio::time::interval(shared.config.lease / 3);
    loop {
        let Some(lease) = wanted.borrow_and_update().clone() else {
            let _ = in_time(client.lease_revoke(id)).await;
            return Ok(());
        };
        write(&mut client, &shared.node_key(&lease), &lease, id).await?;
        pauses.reset();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return Ok(()) },
            _ = beat.tick() => {
                in_time(keeper.keep_alive()).await?;
                let alive = in_time(answers.message()).await?;
                if alive.is_none_or(|alive| alive.ttl() <= 0) {
                    return Err(RegistryError::Refused("the lease has ended".into()));
                }
            }
        }
    }
}

async fn write(client: &mut Client, key: &str, lease: &Lease, id: i64) -> Result<(), RegistryError> {
    let value = serde_json::to_vec(lease).map_err(|error| RegistryError::Refused(error.to_string()))?;
    in_time(client.put(key, value, Some(PutOptions::new().with_lease(id)))).await.map(|_| ())
}
