//! The same packet is not sent again twice within a short time to the same receiver.

use std::time::{Duration, Instant};

/// About the shortest round trip worth asking over twice.
const PAUSE: Duration = Duration::from_millis(20);
/// Places; two numbers that share one only cost a resend too many.
const PLACES: usize = 64;

/// Remembers what was sent again lately. Takes memory only when something was.
#[derive(Debug, Default)]
pub(crate) struct ResendThrottle(Vec<Option<(u16, Instant)>>);

impl ResendThrottle {
    /// May this number be sent again now? If so, it is noted.
    pub(crate) fn admit(&mut self, now: Instant, seq: u16) -> bool {
        if self.0.is_empty() {
            self.0.resize(PLACES, None);
        }
        let Some(place) = self.0.get_mut(usize::from(seq) % PLACES) else { return true };
        let recent = place.is_some_and(|(last, at)| last == seq && now.saturating_duration_since(at) < PAUSE);
        if !recent {
            *place = Some((seq, now));
        }
        !recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impatient_receiver_gets_a_packet_again_once_per_pause() {
        let start = Instant::now();
        let mut throttle = ResendThrottle::default();
        assert!(throttle.admit(start, 7));
        assert!(!throttle.admit(start + PAUSE / 2, 7));
        assert!(throttle.admit(start + PAUSE / 2, 8));
        assert!(throttle.admit(start + PAUSE, 7));
    }
}
