//! Parses records of etcd into the copy.

use etcd_client::KeyValue;

use crate::lease::Lease;
use crate::shared::Shared;
use crate::view_change::ViewEditor;
use systir_assignment::{Assignment, LAST_EPOCH, NodeId, RoomId, Versioned};

/// Why a record cannot be read. The message contains nothing of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnreadableRecord {
    #[error("it is malformed")]
    Malformed,
    #[error("it is stored under another record's key")]
    Misplaced,
    #[error("its epoch is higher than any that a takeover can lead to")]
    Epoch,
    #[error("its key is unknown")]
    ForeignKey,
}

/// The assignment in a record.
pub(crate) fn assignment_of(record: &KeyValue) -> Result<Versioned<Assignment>, UnreadableRecord> {
    let value = read_assignment(record.key(), record.value())?;
    Ok(Versioned { value, revision: record.mod_revision() as u64 })
}

fn read_assignment(key: &[u8], value: &[u8]) -> Result<Assignment, UnreadableRecord> {
    let value: Assignment = serde_json::from_slice(value).map_err(|_| UnreadableRecord::Malformed)?;
    if !key.ends_with(format!("/rooms/{}", value.room.key()).as_bytes()) {
        return Err(UnreadableRecord::Misplaced);
    }
    if value.epoch > LAST_EPOCH {
        return Err(UnreadableRecord::Epoch);
    }
    Ok(value)
}

fn read_lease(key: &[u8], value: &[u8]) -> Result<Lease, UnreadableRecord> {
    let lease: Lease = serde_json::from_slice(value).map_err(|_| UnreadableRecord::Malformed)?;
    if !key.ends_with(format!("/nodes/{}", lease.node).as_bytes()) {
        return Err(UnreadableRecord::Misplaced);
    }
    Ok(lease)
}

/// Entry point for fuzzing: an untrusted record.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(key: &[u8], value: &[u8]) {
    let _ = key_of("/systir/v1/nordunet/", key);
    let _ = read_lease(key, value);
    if let Ok(assignment) = read_assignment(key, value) {
        let again = serde_json::to_vec(&assignment).unwrap_or_default();
        assert_eq!(read_assignment(key, &again), Ok(assignment));
    }
}

enum RecordKey {
    Node(NodeId),
    Room(RoomId),
    Other,
}

fn key_of(prefix: &str, key: &[u8]) -> RecordKey {
    let Some(rest) = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(prefix)) else {
        return RecordKey::Other;
    };
    match rest.split_once('/') {
        Some(("nodes", node)) => RecordKey::Node(NodeId::from(node)),
        Some(("rooms", room)) => RoomId::from_key(room).map_or(RecordKey::Other, RecordKey::Room),
        _ => RecordKey::Other,
    }
}

/// Puts a record into the copy. An unreadable record counts as absent.
pub(crate) fn put(shared: &Shared, view: &mut ViewEditor<'_>, record: &KeyValue) {
    let skip = |view: &mut ViewEditor<'_>, reason: UnreadableRecord| {
        view.count_unreadable();
        shared.unreadable.warn(&reason);
    };
    match key_of(shared.keys.all(), record.key()) {
        RecordKey::Node(node) => match read_lease(record.key(), record.value()) {
            Ok(lease) => view.insert_lease(lease),
            Err(reason) => {
                view.remove_lease(&node);
                skip(view, reason);
            }
        },
        RecordKey::Room(room) => match assignment_of(record) {
            Ok(assignment) => view.insert_newer_room(assignment),
            Err(reason) => {
                view.remove_room(&room);
                skip(view, reason);
            }
        },
        RecordKey::Other => skip(view, UnreadableRecord::ForeignKey),
    }
}

/// Removes a deleted record from the copy.
pub(crate) fn remove(view: &mut ViewEditor<'_>, prefix: &str, record: &KeyValue) {
    match key_of(prefix, record.key()) {
        RecordKey::Node(node) => view.remove_lease(&node),
        RecordKey::Room(room) => {
            // This node may have written the room again before the watch reports its deletion.
            let ended = record.mod_revision() as u64;
            if view.view().rooms.get(&room).is_some_and(|known| known.revision < ended) {
                view.remove_room(&room);
            }
        }
        RecordKey::Other => {}
    }
}
