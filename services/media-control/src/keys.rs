//! Keys of rooms, participants and tracks on this node, unique while the process lives.

use std::sync::atomic::{AtomicU64, Ordering};

/// A room on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(pub u32);

/// A participant whose media this node carries; unique while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantKey(pub u64);

/// A track of a room on this node, published here or arriving over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackKey(pub u64);

/// Mints keys; one per node, shared by its rooms and sessions. Tracks that arrive over links get
/// theirs from here too.
#[derive(Debug, Default)]
pub struct KeyMint {
    last: AtomicU64,
}

impl KeyMint {
    /// The first key is 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A key for a track.
    pub fn track(&self) -> TrackKey {
        TrackKey(self.next())
    }

    /// A key for a participant.
    pub fn participant(&self) -> ParticipantKey {
        ParticipantKey(self.next())
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}
