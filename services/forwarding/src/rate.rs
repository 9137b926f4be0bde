//! The bit rate of one layer as it arrives, by temporal layers, without key frames that are rare.

use std::time::{Duration, Instant};

/// Temporal layers that have a rate of their own; higher ones count as the last.
pub const TEMPORAL_LAYERS: usize = 4;

/// How long a rate is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// What a packet to a subscriber adds to its payload, bytes, about: RTP header with extensions, SRTP tag, UDP, IP.
pub const PACKET_OVERHEAD: usize = 72;

type Octets = [u64; TEMPORAL_LAYERS];

/// Measures the rate of a layer, over the last whole window.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    since: Option<Instant>,
    octets: Octets,
    /// What arrived in the window before, and its length.
    before: Option<(Octets, Duration)>,
}

impl RateMeter {
    /// Counts a packet of a temporal layer.
    pub(crate) fn add(&mut self, now: Instant, temporal: u8, octets: usize) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= WINDOW {
            // A window with a long break in it says nothing about the time after it.
            let counted = std::mem::take(&mut self.octets);
            self.before = (passed < WINDOW * 2).then_some((counted, passed));
            self.since = Some(now);
        }
        let index = usize::from(temporal).min(TEMPORAL_LAYERS - 1);
        if let Some(count) = self.octets.get_mut(index) {
            *count += (octets + PACKET_OVERHEAD) as u64;
        }
    }

    /// Bits per second of each temporal layer together with those below it, as sent to a subscriber. Zero: not known,
    /// because nothing arrives, or has not for long.
    pub(crate) fn rates(&self, now: Instant) -> [u32; TEMPORAL_LAYERS] {
        let mut rates = [0; TEMPORAL_LAYERS];
        let arrives = self.since.is_some_and(|since| now.saturating_duration_since(since) < WINDOW * 2);
        let Some((octets, length)) = self.before.filter(|_| arrives) else { return rates };
        let mut sum = 0;
        for (rate, octets) in rates.iter_mut().zip(octets) {
            sum += octets;
            *rate = (u128::from(sum) * 8_000_000 / length.as_micros().max(1)).min(u32::MAX.into()) as u32;
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_temporal_layer_includes_those_below_it() {
        let start = Instant::now();
        let mut meter = RateMeter::default();
        assert_eq!(meter.rates(start), [0; 4]);
        let at = |packet: u64| start + Duration::from_millis(packet * 10);
        for packet in 0..300 {
            meter.add(at(packet), [0, 2, 1, 2][packet as usize % 4], 1250 - PACKET_OVERHEAD);
        }
        // 100 packets of 10 kbit a second.
        let expected = [250_000, 500_000, 1_000_000, 1_000_000];
        for (rate, expected) in meter.rates(at(300)).into_iter().zip(expected) {
            assert!(rate.abs_diff(expected) < expected / 20, "{rate} instead of {expected}");
        }
        assert_eq!(meter.rates(at(300) + Duration::from_secs(60)), [0; 4], "it has stopped");
        meter.add(at(10_000), 0, 100);
        assert_eq!(meter.rates(at(10_000)), [0; 4], "too early");
    }
}
