use std::time::{Duration, Instant};

/// What may leave at once, unless it is set.
const BURST: Duration = Duration::from_millis(10);
/// Below this rate one packet would block the next ones for seconds.
const MIN_RATE: u64 = 10_000;

/// A leaky bucket: says when the next packet may leave, so that large frames do not fill the network's
/// queue at once.
///
/// A small frame leaves as one burst; key frames and many retransmissions are spread. A probe has a bucket of
/// its own without burst ([`Pacer::with_burst`]) at the probe's rate, and is not counted in the media's bucket:
/// else media would wait behind it.
#[derive(Debug)]
pub struct Pacer {
    /// Bits per second.
    rate: u64,
    burst: Duration,
    /// When all that was sent would have left at `rate`.
    drained: Instant,
}

impl Pacer {
    /// An empty bucket that drains with `rate` bits per second and takes a burst of 10 ms.
    #[must_use]
    pub fn new(now: Instant, rate: u64) -> Self {
        Self::with_burst(now, rate, BURST)
    }

    /// An empty bucket that takes what leaves in `burst` at once; zero: one packet at a time.
    #[must_use]
    pub fn with_burst(now: Instant, rate: u64, burst: Duration) -> Self {
        Self { rate: rate.max(MIN_RATE), burst, drained: now }
    }

    /// Changes the rate, in bits per second. What was sent before now drains with the new rate.
    pub fn set_rate(&mut self, now: Instant, bits_per_second: u64) {
        let rate = bits_per_second.max(MIN_RATE);
        if rate == self.rate {
            return;
        }
        let left = self.drained.saturating_duration_since(now).as_nanos();
        let left = left * u128::from(self.rate) / u128::from(rate);
        self.drained = now + Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX / 4));
        self.rate = rate;
    }

    /// Changes what is taken at once: what drains in `burst`.
    pub fn set_burst(&mut self, burst: Duration) {
        self.burst = burst;
    }

    /// Whether the next packet may leave now.
    #[must_use]
    pub fn may_send(&self, now: Instant) -> bool {
        self.next(now) <= now
    }

    /// Records that `bytes` left.
    pub fn sent(&mut self, now: Instant, bytes: usize) {
        let nanos = (bytes as u64).saturating_mul(8_000_000_000) / self.rate;
        self.drained = self.drained.max(now) + Duration::from_nanos(nanos);
    }

    /// When [`Self::may_send`] becomes true; `now` if it is.
    #[must_use]
    pub fn next(&self, now: Instant) -> Instant {
        let ahead = self.drained.saturating_duration_since(now);
        now + ahead.saturating_sub(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When each of `count` packets of 1250 bytes leaves, in milliseconds.
    fn departures(pacer: &mut Pacer, start: Instant, count: usize) -> Vec<u128> {
        let mut now = start;
        let mut left = Vec::new();
        for _ in 0..count {
            now = pacer.next(now);
            assert!(pacer.may_send(now));
            pacer.sent(now, 1250);
            left.push((now - start).as_millis());
        }
        left
    }

    #[test]
    fn a_small_frame_leaves_at_once_and_a_key_frame_is_spread() {
        let start = Instant::now();
        // 1250 bytes are 10 ms at this rate.
        let mut pacer = Pacer::new(start, 1_000_000);
        assert_eq!(departures(&mut pacer, start, 2), [0, 0]);
        let mut pacer = Pacer::new(start, 1_000_000);
        assert_eq!(departures(&mut pacer, start, 6), [0, 0, 10, 20, 30, 40]);
    }

    #[test]
    fn a_probe_is_spread_from_its_first_packet() {
        let start = Instant::now();
        let mut pacer = Pacer::with_burst(start, 2_000_000, Duration::ZERO);
        assert_eq!(departures(&mut pacer, start, 4), [0, 5, 10, 15]);
    }

    #[test]
    fn what_waits_drains_with_the_new_rate() {
        let start = Instant::now();
        let mut pacer = Pacer::with_burst(start, 1_000_000, Duration::ZERO);
        pacer.sent(start, 12_500);
        assert_eq!(pacer.next(start), start + 100 * MS);
        pacer.set_rate(start, 2_000_000);
        assert_eq!(pacer.next(start), start + 50 * MS);
        pacer.set_rate(start + 50 * MS, 0);
        assert!(pacer.may_send(start + 50 * MS));
    }

    #[test]
    fn silence_saves_nothing_up() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start, 1_000_000);
        let later = start + 10_000 * MS;
        assert_eq!(departures(&mut pacer, later, 3), [0, 0, 10]);
    }
}
