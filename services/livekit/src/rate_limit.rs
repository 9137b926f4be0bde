//! A rate limiter: a burst at once, then a constant rate. The time is an argument.

use std::time::{Duration, Instant};

/// The rate limiter of one client.
#[derive(Debug, Clone, Copy)]
pub struct RateLimiter {
    interval: Duration,
    /// How far `free_at` may be in the future.
    burst: Duration,
    /// When all that was taken fits the constant rate.
    free_at: Instant,
}

impl RateLimiter {
    /// Allows `burst` units at once, and one more per `interval`.
    #[must_use]
    pub fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self { interval, burst: interval.saturating_mul(burst.saturating_sub(1)), free_at: now }
    }

    /// When the next unit may be taken.
    #[must_use]
    pub fn ready_at(&self) -> Instant {
        self.free_at.checked_sub(self.burst).unwrap_or(self.free_at)
    }

    /// May a unit be taken now?
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.ready_at() <= now
    }

    /// Takes `cost` units, even when fewer are left: then the next one waits longer.
    pub fn take(&mut self, cost: u32, now: Instant) {
        let cost = self.interval.saturating_mul(cost);
        self.free_at = self.free_at.max(now).checked_add(cost).unwrap_or(self.free_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(10);

    #[test]
    fn a_burst_is_allowed_at_once_and_then_a_constant_rate() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(3, INTERVAL, start);
        for _ in 0..3 {
            assert!(limiter.is_ready(start));
            limiter.take(1, start);
        }
        for taken in 1..100 {
            assert_eq!(limiter.ready_at(), start + INTERVAL * taken);
            limiter.take(1, start + INTERVAL * taken);
        }
    }

    #[test]
    fn a_large_cost_is_taken_at_once_and_delays_the_next_one() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(3, INTERVAL, start);
        limiter.take(100, start);
        assert_eq!(limiter.ready_at(), start + INTERVAL * 98);
        let later = start + INTERVAL * 1000;
        limiter.take(3, later);
        assert_eq!(limiter.ready_at(), later + INTERVAL, "idle time allows no more than the burst");
    }
}
