//! How much one node may make another remember.

/// Largest participant body and room metadata, bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// Most live participants that one node may own in a room.
pub const MAX_PARTICIPANTS: usize = 20_000;
/// Most departed participants remembered per node, so that a late update does not bring them back.
pub const MAX_TOMBSTONES: usize = 1_024;
/// How far another node's clock may be ahead, milliseconds. A join that claims more would win against
/// every later one of its identity.
pub(crate) const MAX_AHEAD_MS: u64 = 60_000;
/// How far what others' joins say may carry the joins of this node ahead of its own clock: half of
/// what the others take, so that they take these too.
pub(crate) const MAX_CARRIED_MS: u64 = MAX_AHEAD_MS / 2;
/// How far the front door's word of one person's last join may be ahead. Further than any honest clock
/// is; whoever lies harms one person that came to it, for so long.
pub(crate) const MAX_GATEWAY_AHEAD_MS: u64 = 300_000;
