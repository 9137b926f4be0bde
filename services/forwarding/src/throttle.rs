//! Limits how often one packet is retransmitted to one receiver.

use std::time::{Duration, Instant};

/// Shortest time between two retransmissions of one packet when the round trip is shorter or unknown.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Slots. Two sequence numbers that share a slot only cost one retransmission too many.
const SLOTS: usize = 64;
/// A longer round trip is not waited for.
const MAX_INTERVAL: Duration = Duration::from_millis(500);

/// Remembers recent retransmissions. Allocates at the first one.
#[derive(Debug, Default)]
pub(crate) struct ResendThrottle(Vec<Option<(u16, Instant)>>);

impl ResendThrottle {
    /// May this packet be retransmitted now? If so, the retransmission is noted. A request that arrives within
    /// `round_trip` of the last retransmission was sent before the receiver could have it.
    pub(crate) fn admit(&mut self, now: Instant, seq: u16, round_trip: Option<Duration>) -> bool {
        // An eighth less, because it is a mean.
        let interval =
            round_trip.map_or(MIN_INTERVAL, |time| (time - time / 8).clamp(MIN_INTERVAL, MAX_INTERVAL));
        if self.0.is_empty() {
            self.0.resize(SLOTS, None);
        }
        let Some(slot) = self.0.get_mut(usize::from(seq) % SLOTS) else { return true };
        let recent =
            slot.is_some_and(|(last, at)| last == seq && now.saturating_duration_since(at) < interval);
        if !recent {
            *slot = Some((seq, now));
        }
        !recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_retransmitted_once_per_interval() {
        let start = Instant::now();
        let mut throttle = ResendThrottle::default();
        assert!(throttle.admit(start, 7, None));
        assert!(!throttle.admit(start + MIN_INTERVAL / 2, 7, None));
        assert!(throttle.admit(start + MIN_INTERVAL / 2, 8, None));
        assert!(throttle.admit(start + MIN_INTERVAL, 7, None));
    }

    #[test]
    fn a_request_sent_before_the_retransmission_could_arrive_is_ignored() {
        let start = Instant::now();
        let round_trip = Some(Duration::from_millis(200));
        let mut throttle = ResendThrottle::default();
        assert!(throttle.admit(start, 7, round_trip));
        assert!(!throttle.admit(start + Duration::from_millis(150), 7, round_trip));
        assert!(throttle.admit(start + Duration::from_millis(200), 7, round_trip));
    }
}
