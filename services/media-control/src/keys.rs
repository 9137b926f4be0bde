//! Keys that are unique while the process lives.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::command::{ParticipantKey, TrackKey};

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
