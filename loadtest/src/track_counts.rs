//! How many tracks all participants together receive at the moment, for the progress of a load test.

use std::sync::Mutex;
use std::sync::PoisonError;

/// Tracks of one participant or of all, since measuring began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrackCounts {
    /// Tracks of the other participants, each counted once per receiver.
    pub expected: usize,
    /// Tracks of which a packet arrived.
    pub received: usize,
    /// Video tracks of which a frame could be decoded.
    pub video_received: usize,
}

/// The sum over all participants.
#[derive(Debug, Default)]
pub(crate) struct TrackTotals(Mutex<TrackCounts>);

impl TrackTotals {
    /// A participant that counted `before` counts `now`.
    pub(crate) fn update(&self, before: TrackCounts, now: TrackCounts) {
        if before == now {
            return;
        }
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = |sum: usize, before: usize, now: usize| (sum + now).saturating_sub(before);
        *sum = TrackCounts {
            expected: moved(sum.expected, before.expected, now.expected),
            received: moved(sum.received, before.received, now.received),
            video_received: moved(sum.video_received, before.video_received, now.video_received),
        };
    }

    pub(crate) fn get(&self) -> TrackCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_what_all_participants_count_last() {
        let totals = TrackTotals::default();
        let count = |expected, received| TrackCounts { expected, received, video_received: 0 };
        totals.update(count(0, 0), count(4, 1));
        totals.update(count(0, 0), count(4, 4));
        totals.update(count(4, 1), count(2, 2));
        assert_eq!(totals.get(), count(6, 6));
    }
}
