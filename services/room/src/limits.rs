//! Limits on the state that one node may make another store.

use systir_documents::{MAX_JOIN_AHEAD_MS, TICKET_CLOCK_MS};

/// Largest participant body and room metadata, bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// Most live participants that one node may own in a room: a room has 1,000, each of whom may be rejoining.
pub const MAX_PARTICIPANTS: usize = 2_000;
/// Most bytes of all records that one node may own in a room, tombstones included. All of them are one message on a link,
/// which may have 16 MiB.
pub const MAX_OWNED_BYTES: usize = 15 << 20;
/// The same in all rooms together: 10,000 participants are 40 MB with their tickets, the rest is for those who have left.
pub const MAX_OWNED_BYTES_OF_ALL_ROOMS: usize = 256 << 20;
/// What a record counts in addition to its texts, bytes.
pub(crate) const RECORD_BYTES: usize = 256;
/// Most tombstones kept per node. A tombstone keeps a late update from restoring its participant.
pub const MAX_TOMBSTONES: usize = 1_024;
/// Most records in a snapshot of a node. An honest one has some tombstones beyond the limit while it has not dropped them.
pub(crate) const MAX_RECORDS: usize = MAX_PARTICIPANTS + 2 * MAX_TOMBSTONES;
/// How far the join number of another node's participant may be ahead of this node's clock, milliseconds: as far as the
/// rules of tickets allow. One that is further ahead would win against all later joins of its identity.
pub(crate) const MAX_AHEAD_MS: u64 = TICKET_CLOCK_MS + MAX_JOIN_AHEAD_MS;
