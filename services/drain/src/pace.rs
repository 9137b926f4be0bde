//! How often someone may be asked to reconnect.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Time for which the pace catches up after a pause.
const CATCH_UP: Duration = Duration::from_millis(250);

/// A set rate with jitter, so that clients do not reconnect in step.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), next: now }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Someone was asked.
    pub(crate) fn take(&mut self, now: Instant, rng: &mut StdRng) {
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.next = self.next.max(earliest) + self.interval.mul_f64(rng.random_range(0.5..1.5));
    }
}
