//! The rate limit of a connection.

use std::time::{Duration, Instant};

/// How long packets may wait in quinn's send buffer, and the depth of the bucket.
pub(super) const BACKLOG: Duration = Duration::from_millis(20);

/// A token bucket: enforces the operator's ceiling, which congestion control only approximates.
pub(super) struct TokenBucket {
    rate: f64,
    depth: f64,
    level: f64,
    at: Instant,
}

impl TokenBucket {
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        let rate = rate as f64;
        let depth = (rate * BACKLOG.as_secs_f64()).max(32_000.0);
        Self { rate, depth, level: depth, at: now }
    }

    pub(super) fn is_empty(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.level = (self.level + gained).min(self.depth);
        self.at = now;
        self.level <= 0.0
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.level -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_holds_over_time() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1_000_000, start);
        let mut sent = 0;
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            while !bucket.is_empty(now) {
                bucket.take(1200);
                sent += 1200;
            }
        }
        assert!((990_000..=1_040_000).contains(&sent), "{sent} bytes in a second");
    }
}
