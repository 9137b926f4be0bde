//! A rate limiter: a burst at once, then an even rate. The time is an argument.

use std::time::{Duration, Instant};

/// The rate limiter of one client.
#[derive(Debug, Clone, Copy)]
pub struct RateLimiter {
    every: Duration,
    /// How far ahead of the even pace it may be.
    ahead: Duration,
    /// When all that was taken is paid for.
    paid: Instant,
}

impl RateLimiter {
    /// `burst` at once; each is earned again within `every`.
    #[must_use]
    pub fn new(burst: u32, every: Duration, now: Instant) -> Self {
        Self { every, ahead: every.saturating_mul(burst.saturating_sub(1)), paid: now }
    }

    /// When something may be taken.
    #[must_use]
    pub fn ready_at(&self) -> Instant {
        self.paid.checked_sub(self.ahead).unwrap_or(self.paid)
    }

    /// May something be taken now?
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.ready_at() <= now
    }

    /// Takes something of this size, also more than is left: the next one waits the longer.
    pub fn take(&mut self, cost: u32, now: Instant) {
        let cost = self.every.saturating_mul(cost);
        self.paid = self.paid.max(now).checked_add(cost).unwrap_or(self.paid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(10);

    #[test]
    fn a_burst_is_free_and_then_the_pace_is_even() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(3, EVERY, start);
        for _ in 0..3 {
            assert!(limiter.is_ready(start));
            limiter.take(1, start);
        }
        for taken in 1..100 {
            assert_eq!(limiter.ready_at(), start + EVERY * taken);
            limiter.take(1, start + EVERY * taken);
        }
    }

    #[test]
    fn what_is_large_is_taken_at_once_and_waited_for_afterwards() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(3, EVERY, start);
        limiter.take(100, start);
        assert_eq!(limiter.ready_at(), start + EVERY * 98);
        let later = start + EVERY * 1000;
        limiter.take(3, later);
        assert_eq!(limiter.ready_at(), later + EVERY, "quiet times are not saved up beyond the burst");
    }
}
