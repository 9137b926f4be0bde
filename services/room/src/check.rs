//! Validation of one record.

use crate::body::check_entries;
use crate::error::MergeError;
use crate::limits::MAX_BODY;
use crate::update::{ParticipantRecord, RecordState};

/// Longest participant id and identity, bytes.
const MAX_NAME: usize = 512;
/// Largest join number. It leaves room to count further, whatever a node sends.
const MAX_EPOCH: u64 = 1 << 56;

/// Is the body of a record of another node within the limits, so that it may be decoded?
pub(crate) fn check_body(record: &ParticipantRecord) -> Result<(), MergeError> {
    match &record.state {
        RecordState::Live(body) if body.len() > MAX_BODY => Err(MergeError::TooLarge { bytes: body.len() }),
        RecordState::Live(body) => check_entries(body),
        RecordState::Removed | RecordState::Refused => Ok(()),
    }
}

/// Is a record within the limits?
pub(crate) fn check(record: &ParticipantRecord) -> Result<(), MergeError> {
    if record.sid.is_empty() || record.identity.is_empty() {
        return Err(MergeError::Malformed("a participant has no id or no identity"));
    }
    if record.sid.len() > MAX_NAME || record.identity.len() > MAX_NAME {
        return Err(MergeError::Malformed("a participant id or identity is longer than 512 bytes"));
    }
    if record.version.epoch > MAX_EPOCH || record.version.counter == u32::MAX {
        return Err(MergeError::Malformed("a participant version is out of range"));
    }
    match &record.state {
        RecordState::Live(body) if body.len() > MAX_BODY => Err(MergeError::TooLarge { bytes: body.len() }),
        _ => Ok(()),
    }
}
