//! Keys of rooms, participants and tracks on this node. They are not reused while the process runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// A room on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomNumber(pub u32);

/// A participant whose media this node carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantKey(pub u64);

/// A track of a room on this node, published here or received over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackKey(pub u64);

/// Allocates keys; one per node, shared by its rooms and sessions. Tracks received over links get their
/// keys here too.
#[derive(Debug, Default)]
pub struct KeyAllocator {
    last: AtomicU64,
}

impl KeyAllocator {
    /// An allocator whose first key is 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allocates a key for a track.
    pub fn track(&self) -> TrackKey {
        TrackKey(self.next())
    }

    /// Allocates a key for a participant.
    pub fn participant(&self) -> ParticipantKey {
        ParticipantKey(self.next())
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}
