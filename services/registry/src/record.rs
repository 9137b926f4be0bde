//! Records of etcd, read into the copy.

use etcd_client::KeyValue;

use crate::lease::Lease;
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
pub(crate) fn put(view: &mut View, prefix: &str, record: &KeyValue) {
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

pub(crate) fn remove(view: &mut View, prefix: &str, record: &KeyValue) {
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
