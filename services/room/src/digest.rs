//! A digest of a replica, by which two nodes detect that an update was lost.

use std::collections::BTreeMap;

use crate::NodeName;
use crate::owned_records::OwnedRecords;
use crate::version::MetadataVersion;

/// Digest of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateDigest {
    /// Digest of each node's participants.
    pub owners: BTreeMap<NodeName, OwnerDigest>,
    /// Version of the room's metadata.
    pub metadata: Option<MetadataVersion>,
}

/// Digest of one node's live participants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnerDigest {
    /// The node's incarnation.
    pub incarnation: u64,
    /// Number of live participants.
    pub live: u64,
    /// Sum of the FNV-1a hashes of (id, version): independent of order, equal in all builds.
    pub sum: u64,
}

impl OwnerDigest {
    pub(crate) fn of(owner: &OwnedRecords) -> Self {
        let mut digest = Self { incarnation: owner.incarnation, ..Self::default() };
        for (sid, held) in owner.live() {
            digest.live += 1;
            digest.sum = digest.sum.wrapping_add(fnv(sid, held.version.epoch, held.version.counter));
        }
        digest
    }
}

fn fnv(sid: &str, epoch: u64, counter: u32) -> u64 {
    let bytes = sid.bytes().chain(epoch.to_be_bytes()).chain(counter.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
