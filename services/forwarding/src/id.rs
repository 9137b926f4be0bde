//! Ids of tracks and subscriptions.

use crate::slots::index_of;

/// A track of this core. An id is reused only after its index was reused 4,096 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub(crate) u32);

/// One subscriber of one track of this core. Reused like a [`TrackId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u32);

impl TrackId {
    /// A small number, unique among the existing tracks: an index for the caller's tables.
    #[must_use]
    pub fn index(self) -> usize {
        index_of(self.0)
    }
}

impl SubscriptionId {
    /// A small number, unique among the existing subscriptions: an index for the caller's tables.
    #[must_use]
    pub fn index(self) -> usize {
        index_of(self.0)
    }
}
