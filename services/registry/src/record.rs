//! Writes records to etcd, and reads them into the copy. Each states the versions of nodes that it is for; the form of
//! that statement, `"versions": {"oldest": 1, "newest": 2}`, is the same in all versions. Other fields that this release does not know
//! are ignored: a record is written whole by one node only.

use etcd_client::KeyValue;

use serde::{Deserialize, Serialize};

use crate::lease::{Lease, UnsupportedLease};
use crate::shared::Shared;
use crate::view_change::ViewEditor;
use systir_assignment::{Assignment, LAST_EPOCH, NodeId, RoomId, Versioned};
use systir_version::{UnsupportedVersion, VersionRange};

/// Why a record cannot be read. The message contains nothing of the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnreadableRecord {
    #[error("it is malformed")]
    Malformed,
    #[error("it is stored under another record's key")]
    Misplaced,
    #[error("its epoch is higher than any that a takeover can lead to")]
    Epoch,
    #[error("its key is unknown")]
    ForeignKey,
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
}

/// A room's record as it is written.
#[derive(Serialize)]
struct RoomRecord<'a> {
    versions: VersionRange,
    #[serde(flatten)]
    assignment: &'a Assignment,
}

/// What is read of a record first.
#[derive(Deserialize)]
struct Stated {
    #[serde(default)]
    versions: VersionRange,
}

/// The text of a room's record.
pub(crate) fn text_of(assignment: &Assignment, versions: VersionRange) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&RoomRecord { versions, assignment })
}

/// Checks the versions that a record states.
fn check_versions(value: &[u8], own: VersionRange) -> Result<(), UnreadableRecord> {
    let Stated { versions } = serde_json::from_slice(value).map_err(|_| UnreadableRecord::Malformed)?;
    own.agree(versions, "the writer of a record in etcd")?;
    Ok(())
}

/// The assignment in a record.
pub(crate) fn assignment_of(
    record: &KeyValue,
    own: VersionRange,
) -> Result<Versioned<Assignment>, UnreadableRecord> {
    let value = read_assignment(record.key(), record.value(), own)?;
    Ok(Versioned { value, revision: record.mod_revision() as u64 })
}

fn read_assignment(key: &[u8], value: &[u8], own: VersionRange) -> Result<Assignment, UnreadableRecord> {
    check_versions(value, own)?;
    let value: Assignment = serde_json::from_slice(value).map_err(|_| UnreadableRecord::Malformed)?;
    if !key.ends_with(format!("/rooms/{}", value.room.key()).as_bytes()) {
        return Err(UnreadableRecord::Misplaced);
    }
    if value.epoch > LAST_EPOCH {
        return Err(UnreadableRecord::Epoch);
    }
    Ok(value)
}

fn read_lease(key: &[u8], value: &[u8], own: VersionRange) -> Result<Lease, UnreadableRecord> {
    check_versions(value, own)?;
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
    let own = VersionRange::OWN;
    let _ = read_lease(key, value, own);
    // As `systirctl doctor` reads leases.
    if let Ok(lease) = serde_json::from_slice::<Lease>(value) {
        let written = serde_json::to_vec(&lease).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Lease>(&written).ok(), Some(lease));
    }
    if let Ok(assignment) = read_assignment(key, value, own) {
        let again = text_of(&assignment, own).unwrap_or_default();
        assert_eq!(read_assignment(key, &again, own), Ok(assignment));
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
    let own = shared.config.versions;
    let skip = |view: &mut ViewEditor<'_>, reason: UnreadableRecord| {
        view.count_unreadable(matches!(reason, UnreadableRecord::Version(_)));
        shared.unreadable.warn(&reason);
    };
    match key_of(shared.keys.all(), record.key()) {
        RecordKey::Node(node) => match read_lease(record.key(), record.value(), own) {
            Ok(lease) => view.insert_lease(lease),
            Err(reason) => {
                view.remove_lease(&node);
                if let (UnreadableRecord::Version(_), Ok(lease)) =
                    (&reason, serde_json::from_slice::<UnsupportedLease>(record.value()))
                {
                    view.insert_unsupported_lease(node, lease);
                }
                skip(view, reason);
            }
        },
        RecordKey::Room(room) => match assignment_of(record, own) {
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

#[cfg(test)]
mod tests {
    use systir_golden::Golden;

    use super::*;
    use crate::lease::NodeLoad;

    fn golden() -> Golden {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN)
    }

    fn lease() -> Lease {
        let load = NodeLoad {
            participants: 3,
            capacity: 300,
            cpu_permille: 120,
            egress_bps: 4_000_000,
            packets: 500,
            at_ms: 1_795_939_200_000,
        };
        Lease {
            node: "cph-1".into(),
            grpc: "192.0.2.7:7871".to_owned(),
            quic: "192.0.2.7:7870".to_owned(),
            load,
            draining: true,
            version: "0.1.0".to_owned(),
            versions: VersionRange::OWN,
        }
    }

    fn assignment() -> Assignment {
        let room = RoomId::new("ku.dk", "qYwJq-J5E9Hz");
        let mut assignment = Assignment::new(
            room,
            "RM_4kTqYb2xNc7h".to_owned(),
            "cph-1".into(),
            "7".to_owned(),
            1_795_939_200_000,
        );
        assignment.add_spill("sto-1".into(), 1_795_939_200_001);
        assignment.epoch = 3;
        assignment.grant = "systir.org/grant/v1\n...\n".to_owned();
        assignment
    }

    #[test]
    fn records_are_written_and_read_as_their_fixtures() {
        let (golden, own) = (golden(), VersionRange::OWN);
        golden.check("lease.json", &serde_json::to_vec(&lease()).unwrap(), |version, bytes| {
            // Version 0 states none.
            let versions = if version == 0 {
                VersionRange::UNSTATED
            } else {
                VersionRange::new(version - 1, version).unwrap()
            };
            assert_eq!(
                read_lease(b"/systir/v1/main/nodes/cph-1", bytes, own),
                Ok(Lease { versions, ..lease() })
            );
        });
        let key = format!("/systir/v1/main/rooms/{}", assignment().room.key());
        golden.check("room.json", &text_of(&assignment(), own).unwrap(), |_, bytes| {
            assert_eq!(read_assignment(key.as_bytes(), bytes, own), Ok(assignment()));
        });
        let keys = systir_assignment::StoreKeys::new("main");
        let (node, room) = (keys.node("cph-1"), keys.room(&assignment().room));
        golden.check("keys.txt", format!("{node}\n{room}\n").as_bytes(), |_, bytes| {
            let lines: Vec<&str> = std::str::from_utf8(bytes).unwrap().lines().collect();
            assert!(
                matches!(key_of(keys.all(), lines[0].as_bytes()), RecordKey::Node(node) if node == *"cph-1")
            );
            let read = key_of(keys.all(), lines[1].as_bytes());
            assert!(matches!(read, RecordKey::Room(room) if room == assignment().room));
        });
        golden.check_names(&["lease.json", "room.json", "keys.txt"]);
    }
}
