//! Limits how often one packet is retransmitted to one receiver.

use std::time::{Duration, Instant};

/// Shortest time between two retransmissions of one packet: about a short round trip.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Slots. Two sequence numbers that share a slot only cost one retransmission too many.
const SLOTS: usize = 64;

/// Remembers recent retransmissions. Allocates at the first one.
#[derive(Debug, Default)]
pub(crate) struct ResendThrottle(Vec<Option<(u16, Instant)>>);

impl ResendThrottle {
    /// May this packet be retransmitted now? If so, the retransmission is noted.
    pub(crate) fn admit(&mut self, now: Instant, seq: u16) -> bool {
        if self.0.is_empty() {
            self.0.resize(SLOTS, None);
        }
        let Some(slot) = self.0.get_mut(usize::from(seq) % SLOTS) else { return true };
        let recent =
            slot.is_some_and(|(last, at)| last == seq && now.saturating_duration_since(at) < MIN_INTERVAL);
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
        assert!(throttle.admit(start, 7));
        assert!(!throttle.admit(start + MIN_INTERVAL / 2, 7));
        assert!(throttle.admit(start + MIN_INTERVAL / 2, 8));
        assert!(throttle.admit(start + MIN_INTERVAL, 7));
    }
}
