//! Attempts per key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Limits how often each key may try something: a burst, and then one attempt per interval. The time is an argument.
///
/// It remembers a bounded number of keys. When more than that try at once, it forgets those that tried least.
#[derive(Debug)]
pub struct AttemptLimiter<K> {
    burst: u32,
    interval: Duration,
    keys: usize,
    /// When a key has its whole burst again (the theoretical arrival time of GCRA, ITU-T I.371).
    recovered_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq> AttemptLimiter<K> {
    /// Each key has `burst` attempts at once and another one per `interval`. At most `keys` keys are remembered.
    #[must_use]
    pub fn new(burst: u32, interval: Duration, keys: usize) -> Self {
        Self { burst: burst.max(1), interval, keys: keys.max(2), recovered_at: Mutex::default() }
    }

    /// Takes an attempt of this key. False when it has none left; then nothing is taken.
    pub fn take(&self, key: K, now: Instant) -> bool {
        let mut recovered_at = self.recovered_at.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recovered_at.get(&key).copied();
        let used = known.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if used > self.interval.saturating_mul(self.burst - 1) {
            return false;
        }
        if known.is_none() && recovered_at.len() >= self.keys {
            forget(&mut recovered_at, now);
        }
        recovered_at.insert(key, now + used + self.interval);
        true
    }

    /// Has this key an attempt left? Nothing is taken.
    pub fn has_left(&self, key: &K, now: Instant) -> bool {
        let recovered_at = self.recovered_at.lock().unwrap_or_else(PoisonError::into_inner);
        let used = recovered_at.get(key).map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        used <= self.interval.saturating_mul(self.burst - 1)
    }

    /// Keys that are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.recovered_at.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Forgets the keys that have their whole burst again; when these are few, the half that tried least.
fn forget<K: Hash + Eq>(recovered_at: &mut HashMap<K, Instant>, now: Instant) {
    let before = recovered_at.len();
    recovered_at.retain(|_, at| *at > now);
    if recovered_at.len() > before / 2 {
        let mut times: Vec<Instant> = recovered_at.values().copied().collect();
        let (_, median, _) = times.select_nth_unstable(before / 2 - 1);
        let median = *median;
        recovered_at.retain(|_, at| *at > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_key_has_a_burst_and_then_one_attempt_per_interval() {
        let (limiter, start) = (AttemptLimiter::new(5, SECOND, 100), Instant::now());
        assert_eq!((0..100).filter(|_| limiter.take("one", start)).count(), 5);
        assert!(!limiter.has_left(&"one", start));
        assert!(limiter.has_left(&"other", start));
        assert!(limiter.take("other", start), "another key has attempts of its own");
        let later = start + 2 * SECOND;
        assert_eq!((0..100).filter(|_| limiter.take("one", later)).count(), 2);
        let much_later = start + 100 * SECOND;
        assert_eq!((0..100).filter(|_| limiter.take("one", much_later)).count(), 5);
    }

    #[test]
    fn the_number_of_remembered_keys_is_bounded_and_the_busiest_stay() {
        let (limiter, start) = (AttemptLimiter::new(3, SECOND, 100), Instant::now());
        while limiter.take(0, start) {}
        for key in 1..10_000 {
            assert!(limiter.take(key, start));
            assert!(limiter.remembered() <= 100);
        }
        assert!(!limiter.take(0, start), "a flood of other keys gives the busiest one no attempts");
    }

    #[test]
    fn keys_that_recovered_are_forgotten_first() {
        let (limiter, start) = (AttemptLimiter::new(3, SECOND, 4), Instant::now());
        for key in 0..4 {
            assert!(limiter.take(key, start));
        }
        assert!(limiter.take(9, start + 10 * SECOND));
        assert_eq!(limiter.remembered(), 1);
    }
}
