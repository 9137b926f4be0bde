//! The two tasks of the etcd registry: one follows everybody's records, one keeps the own lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use etcd_client::{Client, EventType, GetOptions, KeyValue, PutOptions, WatchOptions};

use crate::assignment::{Assignment, NodeId, RoomId, Versioned};
use crate::etcd::{ANSWER, Shared, in_time, pauses};
use crate::lease::Lease;
use crate::registry::RegistryError;
use crate::view::View;

/// The assignment in a record; none when it cannot be read or lies under another room's key.
pub(crate) fn assignment_of(record: &KeyValue) -> Option<Versioned<Assignment>> {
    let value = read_assignment(record.key(), record.value())?;
    Some(Versioned { value, revision: record.mod_revision() as u64 })
}

fn read_assignment(key: &[u8], value: &[u8]) -> Option<Assignment> {
    let value: Assignment = serde_json::from_slice(value).ok()?;
    key.ends_with(format!("/rooms/{}", value.room.key()).as_bytes()).then_some(value)
}

fn read_lease(key: &[u8], value: &[u8]) -> Option<Lease> {
    let lease: Lease = serde_json::from_slice(value).ok()?;
    key.ends_with(format!("/nodes/{}", lease.node).as_bytes()).then_some(lease)
}

/// Entrance for the fuzzers: a record that anybody may have written.
pub(crate) fn fuzz(key: &[u8], value: &[u8]) {
    let _ = key_of("/systir/v1/nordunet/", key);
    let _ = read_lease(key, value);
    if let Some(assignment) = read_assignment(key, value) {
        let again = serde_json::to_vec(&assignment).unwrap_or_default();
        assert_eq!(read_assignment(key, &again), Some(assignment));
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
            Some(lease) => {
                view.nodes.insert(node, lease);
            }
            None => garbled(view, |view| {
                view.nodes.remove(&node);
            }),
        },
        Key::Room(room) => match assignment_of(record) {
            // A write of this node's own may be in the copy before the watch tells of an older one.
            Some(assignment) => {
                if view.rooms.get(&room).is_none_or(|known| known.revision < assignment.revision) {
                    view.rooms.insert(room, assignment);
                }
            }
            None => garbled(view, |view| {
                view.rooms.remove(&room);
            }),
        },
        Key::Other => garbled(view, |_| {}),
    }
}

fn garbled(view: &mut View, forget: impl FnOnce(&mut View)) {
    forget(view);
    view.garbled += 1;
    tracing::warn!(
        "a record in etcd cannot be read and counts as absent; somebody else writes under our prefix"
    );
}

fn remove(view: &mut View, prefix: &str, key: &[u8]) {
    match key_of(prefix, key) {
        Key::Node(node) => {
            view.nodes.remove(&node);
        }
        Key::Room(room) => {
            view.rooms.remove(&room);
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

async fn read_and_watch(
    shared: &Shared,
    pauses: &mut crate::backoff::Backoff,
) -> Result<Ended, RegistryError> {
    let mut client = shared.connect().await?;
    let prefix = shared.prefix();
    let everything = in_time(client.get(prefix.clone(), Some(GetOptions::new().with_prefix()))).await?;
    let revision = everything.header().map_or(0, |header| header.revision());
    let mut fresh = View { nodes: BTreeMap::new(), rooms: BTreeMap::new(), away_since: None, garbled: 0 };
    for record in everything.kvs() {
        put(&mut fresh, &prefix, record);
    }
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
                    EventType::Delete => remove(view, &prefix, record.key()),
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
