//! A room key that everyone knows, for tests.

use systir_assignment::RoomId;

use crate::{RoomKey, RoomKeys};

/// The test key.
#[must_use]
pub fn key() -> RoomKey {
    RoomKey::from_bytes([1; 32])
}

/// The keys of a node that holds the test key as `ku.dk`'s.
#[must_use]
pub fn keys() -> RoomKeys {
    RoomKeys::default().with("ku.dk", key())
}

/// The room of `ku.dk` with this name, under the test key.
///
/// # Panics
/// When no room can have this name.
#[must_use]
#[allow(clippy::expect_used, reason = "for tests")]
pub fn room(name: &str) -> RoomId {
    keys().room("ku.dk", name).expect("a name of at most 512 bytes")
}
