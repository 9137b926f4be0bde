//! The encoding of state updates on links.

use prost::Message as _;
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_update::Body;

use crate::limits::MAX_RECORDS;
use crate::{MetadataVersion, ParticipantRecord, ParticipantVersion, RecordState, Update};

/// Encodes an update for a link.
#[must_use]
pub fn encode(update: &Update) -> bytes::Bytes {
    let record = |record: &ParticipantRecord| wire::StateRecord {
        sid: record.sid.to_string(),
        identity: record.identity.to_string(),
        join_number: record.version.epoch,
        counter: record.version.counter,
        body: match &record.state {
            RecordState::Live(body) => Some(body.clone()),
            RecordState::Removed | RecordState::Refused => None,
        },
        ticket: record.ticket.clone().unwrap_or_default(),
    };
    let write = |owner: &str, incarnation: u64, seq: u64, snapshot: bool, records: Vec<wire::StateRecord>| {
        Body::Write(wire::StateWrite { owner: owner.to_owned(), incarnation, seq, snapshot, records })
    };
    let body = match update {
        Update::Participant { owner, incarnation, seq, record: one } => {
            write(owner, *incarnation, *seq, false, vec![record(one)])
        }
        Update::Snapshot { owner, incarnation, seq, records } => {
            write(owner, *incarnation, *seq, true, records.iter().map(record).collect())
        }
        Update::Metadata { home, version, value } => Body::Metadata(wire::StateMetadata {
            home: home.to_string(),
            epoch: version.epoch,
            incarnation: version.incarnation,
            counter: version.counter,
            value: value.clone(),
        }),
    };
    wire::RoomUpdate { body: Some(body) }.encode_to_vec().into()
}

/// Fields of a write other than its records, at most.
const OTHER_FIELDS: usize = 16;

/// Has an encoded update more records than a node may have? Asked before it is decoded, since an empty record of two bytes takes
/// a hundred in memory.
fn has_too_many_records(bytes: &[u8]) -> bool {
    let mut left = MAX_RECORDS + OTHER_FIELDS;
    for field in systir_proto::fields(bytes) {
        let Ok((_, content)) = field else { return true };
        for _ in systir_proto::fields(content) {
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => return true,
            };
        }
    }
    false
}

/// Decodes an update from a link. None when it is malformed, has too many records, or is unknown to this version.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Update> {
    let record = |record: wire::StateRecord| ParticipantRecord {
        sid: record.sid,
        identity: record.identity,
        version: ParticipantVersion { epoch: record.join_number, counter: record.counter },
        state: record.body.map_or(RecordState::Removed, RecordState::Live),
        ticket: Some(record.ticket).filter(|ticket| !ticket.is_empty()),
    };
    if has_too_many_records(bytes) {
        return None;
    }
    match wire::RoomUpdate::decode(bytes).ok()?.body? {
        Body::Write(mut write) if !write.snapshot => {
            let one = write.records.pop().filter(|_| write.records.is_empty())?;
            let wire::StateWrite { owner, incarnation, seq, .. } = write;
            Some(Update::Participant { owner, incarnation, seq, record: record(one) })
        }
        Body::Write(write) => Some(Update::Snapshot {
            owner: write.owner,
            incarnation: write.incarnation,
            seq: write.seq,
            records: write.records.into_iter().map(record).collect(),
        }),
        Body::Metadata(metadata) => Some(Update::Metadata {
            home: metadata.home,
            version: MetadataVersion {
                epoch: metadata.epoch,
                incarnation: metadata.incarnation,
                counter: metadata.counter,
            },
            value: metadata.value,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_with_more_records_than_a_node_may_have_is_not_decoded() {
        let snapshot = |records| {
            let records = vec![wire::StateRecord::default(); records];
            let owner = "sto-1".to_owned();
            let write = wire::StateWrite { owner, incarnation: 1, seq: 1, snapshot: true, records };
            wire::RoomUpdate { body: Some(Body::Write(write)) }.encode_to_vec()
        };
        assert!(decode(&snapshot(MAX_RECORDS)).is_some());
        assert!(decode(&snapshot(MAX_RECORDS + OTHER_FIELDS)).is_none());
        assert!(decode(&snapshot(1_000_000)).is_none());
        // One message may repeat the write, which adds its records.
        assert!(decode(&snapshot(MAX_RECORDS / 2 + 10).repeat(2)).is_none());
    }
}
