//! The round-trip time to a client, from its report blocks (RFC 3550 section 6.4.1).

use std::time::{Duration, Instant};

use systir_rtp::rtcp::ReportBlock;

/// A longer time is a mistake of the client.
const MAX: Duration = Duration::from_secs(5);

/// The mean round-trip time of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip(Option<Duration>);

impl RoundTrip {
    pub(super) fn add(&mut self, sample: Duration) {
        self.0 = Some(self.0.map_or(sample, |mean| (mean * 7 + sample) / 8));
    }

    /// None before the first report.
    pub(super) fn mean(&self) -> Option<Duration> {
        self.0
    }
}

/// A sender report of ours: the middle 32 bits of its NTP time, by which a client names it, and when it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentReport {
    name: u32,
    at: Instant,
}

impl SentReport {
    pub(super) fn new(now: Instant, ntp: u64) -> Self {
        Self { name: (ntp >> 16) as u32, at: now }
    }

    /// The round-trip time, if the block answers this report: the time since then, without the client's delay.
    pub(super) fn round_trip(&self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        if block.last_sr != self.name {
            return None;
        }
        let delay = Duration::from_micros(u64::from(block.delay_since_last_sr) * 1_000_000 / 65_536);
        now.saturating_duration_since(self.at).checked_sub(delay).filter(|time| *time <= MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(last_sr: u32, delay_since_last_sr: u32) -> ReportBlock {
        ReportBlock {
            ssrc: 1,
            fraction_lost: 0,
            cumulative_lost: 0,
            extended_seq: 0,
            jitter: 0,
            last_sr,
            delay_since_last_sr,
        }
    }

    #[test]
    fn the_clients_delay_is_not_part_of_the_round_trip() {
        let start = Instant::now();
        let sent = SentReport::new(start, 0x1111_2222_3333_4444);
        let now = start + Duration::from_millis(700);
        assert_eq!(sent.round_trip(now, &block(0x2222_3333, 32_768)), Some(Duration::from_millis(200)));
        assert_eq!(sent.round_trip(now, &block(0x2222_3334, 32_768)), None, "another report");
        assert_eq!(sent.round_trip(now, &block(0x2222_3333, 65_536)), None, "a delay that is too long");
        assert_eq!(sent.round_trip(now + MAX * 2, &block(0x2222_3333, 0)), None);
    }

    #[test]
    fn the_mean_follows_slowly() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.mean(), None);
        round_trip.add(Duration::from_millis(80));
        round_trip.add(Duration::from_millis(160));
        assert_eq!(round_trip.mean(), Some(Duration::from_millis(90)));
    }
}
