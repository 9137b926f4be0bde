//! The bit rate of what is sent to one subscriber.

use std::time::{Duration, Instant};

/// How long it is measured.
const WINDOW: Duration = Duration::from_millis(500);

/// Measures a rate, over the last whole window.
#[derive(Debug)]
pub(super) struct SentRate {
    since: Instant,
    bytes: u64,
    /// Bits per second of the window before.
    rate: u64,
}

impl SentRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, rate: 0 }
    }

    /// Counts a packet.
    pub(super) fn add(&mut self, now: Instant, bytes: usize) {
        self.turn(now);
        self.bytes += bytes as u64;
    }

    /// Bits per second.
    pub(super) fn get(&mut self, now: Instant) -> u64 {
        self.turn(now);
        self.rate
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let bits = u128::from(std::mem::take(&mut self.bytes)) * 8_000_000;
            self.rate = u64::try_from(bits / passed.as_micros().max(1)).unwrap_or(u64::MAX);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_window() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut rate = SentRate::new(start);
        assert_eq!(rate.get(at(400)), 0);
        for ms in (0..2000).step_by(20) {
            rate.add(at(ms), 250);
        }
        assert_eq!(rate.get(at(2000)), 100_000);
        assert_eq!(rate.get(at(2600)), 0);
        rate.add(at(2600), 1000);
        assert_eq!(rate.get(at(12_600)), 800, "after a pause it is the mean");
    }
}
