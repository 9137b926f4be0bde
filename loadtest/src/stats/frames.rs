//! Counts of packets without a stamp. Only the last packet of a frame carries a stamp; the count of an
//! earlier one follows from the difference of sequence numbers.

use std::collections::BTreeMap;

use crate::media::Stamp;

/// Packets that wait for the stamp of their frame, at most.
const MAX_WAITING: usize = 512;
/// Stamps that are kept for late packets.
const MAX_STAMPS: usize = 64;

/// Frames of one RTP stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Arrival times of packets without a known count, by sequence number, microseconds.
    waiting: BTreeMap<u64, u64>,
    /// Stamps by the sequence number of their packet.
    stamps: BTreeMap<u64, Stamp>,
}

/// A packet whose count is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) layer: u8,
    pub(super) count: u32,
    /// Microseconds from sending to arrival; none when the stamp of its frame was lost.
    pub(super) age_us: Option<u64>,
}

impl Frames {
    /// Takes a packet with its extended sequence number. Calls `counted` for each packet whose count is
    /// known from now on.
    pub(super) fn packet(
        &mut self,
        seq: u64,
        now_us: u64,
        stamp: Option<Stamp>,
        mut counted: impl FnMut(Counted),
    ) {
        let Some(stamp) = stamp else {
            match self.stamps.range(seq..).next() {
                Some((last, stamp)) if last - seq < u64::from(stamp.packets) => {
                    counted(packet_before(stamp, last - seq, Some(now_us)));
                }
                _ => {
                    self.waiting.insert(seq, now_us);
                    if self.waiting.len() > MAX_WAITING {
                        self.waiting.pop_first();
                    }
                }
            }
            return;
        };
        let first = (seq + 1).saturating_sub(u64::from(stamp.packets));
        // Counts and sequence numbers advanced alike since the previous stamp: frames between the two
        // lost their stamps, and this stamp gives the counts of their other packets.
        let from = match self.stamps.range(..seq).next_back() {
            Some((before, old))
                if old.layer == stamp.layer
                    && u64::from(stamp.count.wrapping_sub(old.count)) == seq - before =>
            {
                first.min(before + 1)
            }
            _ => first,
        };
        let mut known = self.waiting.split_off(&from);
        let mut later = known.split_off(&seq);
        self.waiting.append(&mut later);
        for (waited, came_us) in known {
            counted(packet_before(&stamp, seq - waited, (waited >= first).then_some(came_us)));
        }
        counted(packet_before(&stamp, 0, Some(now_us)));
        self.stamps.insert(seq, stamp);
        if self.stamps.len() > MAX_STAMPS {
            self.stamps.pop_first();
        }
    }
}

/// The packet `before` packets before the stamped one.
fn packet_before(stamp: &Stamp, before: u64, came_us: Option<u64>) -> Counted {
    Counted {
        layer: stamp.layer,
        count: stamp.count.wrapping_sub(u32::try_from(before).unwrap_or(u32::MAX)),
        age_us: came_us.map(|came_us| came_us.saturating_sub(stamp.sent_us)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of `packets` packets, numbered as they were sent; the sequence number is 100 more, and
    /// packet `n` comes at 1,000 + `n` microseconds.
    fn arrive(frames: &mut Frames, packets: u16, counts: impl IntoIterator<Item = u32>) -> Vec<(u32, bool)> {
        let mut known = Vec::new();
        for count in counts {
            let last = (count + 1) % u32::from(packets) == 0;
            let stamp = last.then_some(Stamp { sent_us: 1_000, count, layer: 0, packets });
            frames.packet(u64::from(count) + 100, 1_000 + u64::from(count), stamp, |counted| {
                if let Some(age) = counted.age_us {
                    assert_eq!(age, u64::from(counted.count));
                }
                known.push((counted.count, counted.age_us.is_some()));
            });
        }
        known
    }

    #[test]
    fn packets_are_counted_when_the_stamp_of_their_frame_comes() {
        let mut frames = Frames::default();
        assert_eq!(arrive(&mut frames, 3, [0, 1]), []);
        assert_eq!(arrive(&mut frames, 3, [2]), [(0, true), (1, true), (2, true)]);
        assert_eq!(arrive(&mut frames, 3, [5]), [(5, true)]);
        assert_eq!(arrive(&mut frames, 3, [4, 3]), [(4, true), (3, true)], "late");
        assert!(frames.waiting.is_empty());
    }

    #[test]
    fn packets_of_a_frame_without_its_stamp_are_counted_by_the_next_frame() {
        let mut frames = Frames::default();
        arrive(&mut frames, 3, 0..3);
        assert_eq!(arrive(&mut frames, 3, [3, 4, 6, 7]), []);
        let all = [(3, false), (4, false), (6, true), (7, true), (8, true)];
        assert_eq!(arrive(&mut frames, 3, [8]), all);
        assert_eq!(arrive(&mut frames, 3, [5]), [(5, true)], "it was late and not lost");
    }

    #[test]
    fn packets_of_another_layer_are_not_counted_by_a_stamp_of_this_one() {
        let mut frames = Frames::default();
        arrive(&mut frames, 2, 0..2);
        assert_eq!(arrive(&mut frames, 2, [2]), []);
        let mut known = Vec::new();
        let stamp = Stamp { sent_us: 0, count: 901, layer: 1, packets: 2 };
        frames.packet(104, 0, None, |counted| known.push(counted.count));
        frames.packet(105, 0, Some(stamp), |counted| known.push(counted.count));
        assert_eq!(known, [900, 901]);
    }

    #[test]
    fn packets_that_never_get_a_stamp_are_dropped() {
        let mut frames = Frames::default();
        for seq in 0..10_000 {
            frames.packet(seq, 0, None, |_| panic!("it has no stamp"));
        }
        assert_eq!(frames.waiting.len(), MAX_WAITING);
    }
}
