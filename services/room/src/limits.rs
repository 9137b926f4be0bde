//! Limits on the state that one node may make another store.

/// Largest participant body and room metadata, bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// Most live participants that one node may own in a room.
pub const MAX_PARTICIPANTS: usize = 20_000;
/// Most tombstones kept per node. A tombstone keeps a late update from restoring its participant.
pub const MAX_TOMBSTONES: usize = 1_024;
/// How far another node's clock may be ahead, milliseconds. A join with a later time would win against all
/// later joins of its identity.
pub(crate) const MAX_AHEAD_MS: u64 = 60_000;
/// How far joins of other nodes may move join epochs of this node ahead of its own clock, milliseconds: half
/// of what other nodes accept, so that they accept these too.
pub(crate) const MAX_CARRIED_MS: u64 = MAX_AHEAD_MS / 2;
/// How far ahead the last join of an identity may be that a gateway reports, milliseconds. More than a real
/// clock difference. A hostile gateway can harm only participants that join through it, for this long.
pub(crate) const MAX_GATEWAY_AHEAD_MS: u64 = 300_000;
