//! How much one node may make another remember.

use crate::update::{MergeError, Record, RecordState};

/// Largest participant body and room metadata, bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// Most live participants that one node may own in a room.
pub const MAX_PARTICIPANTS: usize = 20_000;
/// Most departed participants remembered per node, so that a late update does not bring them back.
pub const MAX_TOMBSTONES: usize = 1_024;
/// Longest participant id and identity, bytes.
const MAX_NAME: usize = 512;
/// How far another node's clock may be ahead, milliseconds. A join that claims more would win against
/// every later one of its identity.
pub(crate) const MAX_AHEAD_MS: u64 = 60_000;
/// How far what others' joins say may carry the joins of this node ahead of its own clock: half of
/// what the others take, so that they take these too.
pub(crate) const MAX_CARRIED_MS: u64 = MAX_AHEAD_MS / 2;
/// How far the front door's word of one person's last join may be ahead. Further than any honest clock
/// is; whoever lies harms one person that came to it, for so long.
pub(crate) const MAX_LENT_MS: u64 = 300_000;
/// Largest join epoch: leaves room to count on, whatever a node claims.
const MAX_EPOCH: u64 = 1 << 56;

/// Is a record within the limits?
pub(crate) fn check(record: &Record) -> Result<(), MergeError> {
    if record.sid.is_empty() || record.identity.is_empty() {
        return Err(MergeError::Malformed("a participant without an id or identity"));
    }
    if record.sid.len() > MAX_NAME || record.identity.len() > MAX_NAME {
        return Err(MergeError::Malformed("a participant id or identity of more than 512 bytes"));
    }
    if record.version.epoch > MAX_EPOCH || record.version.counter == u32::MAX {
        return Err(MergeError::Malformed("a version beyond any real one"));
    }
    match &record.state {
        RecordState::Live(body) if body.len() > MAX_BODY => Err(MergeError::TooLarge { bytes: body.len() }),
        _ => Ok(()),
    }
}
