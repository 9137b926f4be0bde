//! Ids of tracks and subscriptions.

use crate::slots::index_of;

/// A track of this core. An id is not used again for a long time after the track is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub(crate) u32);

/// One subscriber of one track of this core. Not used again for a long time either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u32);

impl TrackId {
    /// Small number, unique among the tracks that exist now: an index for tables beside the core.
    #[must_use]
    pub fn index(self) -> usize {
        index_of(self.0)
    }
}

impl SubscriptionId {
    /// Small number, unique among the subscriptions that exist now: an index for tables beside the core.
    #[must_use]
    pub fn index(self) -> usize {
        index_of(self.0)
    }
}
