//! Counters of one participant: packets, loss, latency.

mod frames;

use std::collections::{HashMap, HashSet};

use hdrhistogram::Histogram;
use str0m::rtp::Ssrc;

use crate::media::Stamp;
use frames::{Counted, Frames};

/// Bytes of an RTP header without extensions.
pub(crate) const RTP_HEADER: usize = 12;
/// Largest age in histograms, microseconds; greater ones count as this.
const MAX_AGE_US: u64 = 60_000_000;

/// Counters of one participant since they were reset.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) packets_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) unsent: u64,
    pub(crate) packets_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) age_us: Histogram<u64>,
    tracks: HashMap<String, Received>,
}

/// An empty histogram of ages, two significant digits.
pub(crate) fn ages() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants and valid")]
    Histogram::new_with_bounds(1, MAX_AGE_US, 2).expect("constant bounds")
}

/// A packet that arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) ssrc: Ssrc,
    /// Extended sequence number.
    pub(crate) seq: u64,
    /// Bytes of RTP.
    pub(crate) bytes: usize,
    pub(crate) stamp: Option<Stamp>,
}

/// Counters of one received track.
#[derive(Debug, Default)]
struct Received {
    packets: u64,
    ssrc: Option<Ssrc>,
    frames: Frames,
    /// Packets expected and arrived in runs that have ended.
    expected: u64,
    arrived: u64,
    run: Option<Run>,
}

/// Packets between two layer switches. A server forwards one layer at a time, so a gap between runs is
/// not loss.
#[derive(Debug)]
struct Run {
    layer: u8,
    first: u32,
    last: u32,
    arrived: u64,
}

impl Run {
    fn expected(&self) -> u64 {
        u64::from(self.last.wrapping_sub(self.first)) + 1
    }
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            packets_out: 0,
            bytes_out: 0,
            unsent: 0,
            packets_in: 0,
            bytes_in: 0,
            age_us: ages(),
            tracks: HashMap::new(),
        }
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.packets_out += 1;
        self.bytes_out += bytes as u64;
    }

    /// A packet of a track has arrived.
    pub(crate) fn received(&mut self, track: &str, packet: Packet, now_us: u64) {
        self.packets_in += 1;
        self.bytes_in += packet.bytes as u64;
        if !self.tracks.contains_key(track) {
            self.tracks.insert(track.to_owned(), Received::default());
        }
        let Some(received) = self.tracks.get_mut(track) else { return };
        received.packets += 1;
        // A new RTP stream of the track has unrelated sequence numbers.
        if received.ssrc.replace(packet.ssrc) != Some(packet.ssrc) {
            received.frames = Frames::default();
        }
        let mut frames = std::mem::take(&mut received.frames);
        frames.packet(packet.seq, now_us, packet.stamp, |counted| {
            received.counted(counted);
            if let Some(age_us) = counted.age_us {
                self.age_us.saturating_record(age_us.max(1));
            }
        });
        received.frames = frames;
    }

    /// Packets of load participants: (expected, arrived).
    pub(crate) fn completeness(&self) -> (u64, u64) {
        self.tracks.values().fold((0, 0), |(expected, arrived), track| {
            let run = track.run.as_ref().map_or((0, 0), |run| (run.expected(), run.arrived));
            (expected + track.expected + run.0, arrived + track.arrived + run.1)
        })
    }

    /// Number of these tracks of which a packet arrived.
    pub(crate) fn tracks_received(&self, tracks: &HashSet<String>) -> usize {
        tracks.iter().filter(|track| self.tracks.get(*track).is_some_and(|t| t.packets > 0)).count()
    }
}

impl Received {
    fn counted(&mut self, packet: Counted) {
        match &mut self.run {
            Some(run) if run.layer == packet.layer => {
                run.arrived += 1;
                // A late packet only changes the run when it comes before its start.
                if packet.count.wrapping_sub(run.last) < u32::MAX / 2 {
                    run.last = packet.count;
                } else if run.first.wrapping_sub(packet.count) < u32::MAX / 2 {
                    run.first = packet.count;
                }
            }
            run => {
                let Counted { layer, count, .. } = packet;
                let next = Run { layer, first: count, last: count, arrived: 1 };
                if let Some(ended) = run.replace(next) {
                    self.expected += ended.expected();
                    self.arrived += ended.arrived;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(stats: &mut Stats, track: &str, layer: u8, counts: impl IntoIterator<Item = u32>) {
        for count in counts {
            let stamp = Some(Stamp { sent_us: 1_000, count, layer, packets: 1 });
            stats.received(track, Packet { ssrc: 1.into(), seq: count.into(), bytes: 100, stamp }, 3_000);
        }
    }

    #[test]
    fn gaps_within_a_layer_are_loss_and_reordering_is_not() {
        let mut stats = Stats::new();
        arrive(&mut stats, "TR_a", 0, [10, 11, 14, 13, 9]);
        assert_eq!(stats.completeness(), (6, 5), "9 to 14 without 12");
        assert_eq!((stats.packets_in, stats.bytes_in), (5, 500));
        assert_eq!(stats.age_us.max() / 100, 20);
    }

    #[test]
    fn all_packets_of_a_frame_count_by_its_one_stamp() {
        let mut stats = Stats::new();
        for count in [0, 1, 2, 3, 5, 6, 7, 8_u32] {
            let stamp = Stamp { sent_us: 1_000, count, layer: 0, packets: 3 };
            let stamp = (count % 3 == 2).then_some(stamp);
            let packet = Packet { ssrc: 1.into(), seq: u64::from(count) + 50, bytes: 100, stamp };
            stats.received("TR_v", packet, 3_000);
        }
        assert_eq!(stats.completeness(), (9, 8), "0 to 8 without 4");
        assert_eq!((stats.age_us.len(), stats.age_us.max() / 100), (8, 20));
    }

    #[test]
    fn layer_switch_is_not_loss() {
        let mut stats = Stats::new();
        arrive(&mut stats, "TR_v", 0, 0..10);
        arrive(&mut stats, "TR_v", 2, 500..510);
        arrive(&mut stats, "TR_v", 0, 900..910);
        assert_eq!(stats.completeness(), (30, 30));
    }

    #[test]
    fn track_is_received_when_a_packet_of_it_arrives() {
        let mut stats = Stats::new();
        let packet = Packet { ssrc: 1.into(), seq: 1, bytes: 100, stamp: None };
        stats.received("TR_foreign", packet, 1);
        arrive(&mut stats, "TR_gone", 0, [1]);
        let expected = HashSet::from(["TR_foreign".to_string(), "TR_silent".to_string()]);
        assert_eq!(stats.tracks_received(&expected), 1);
        assert_eq!(stats.completeness(), (1, 1));
    }
}
