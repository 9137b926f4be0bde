//! Audio as a receiver with a jitter buffer of 200 ms plays it: a packet that has not arrived when it
//! is due is missed, whether it comes later or never.

use std::collections::BTreeMap;

use crate::media::Stamp;

/// Depth of the jitter buffer, microseconds.
const BUFFER_US: u64 = 200_000;
/// Packets that are kept before they are counted, for late ones among them.
const REMEMBERED: usize = 512;

/// One audio track.
#[derive(Debug, Default)]
pub(super) struct Audio {
    /// Age on arrival in microseconds, by the count in the stamp.
    ages: BTreeMap<u32, u64>,
    /// The least age of all, from which the jitter buffer measures delay.
    least_age: Option<u64>,
    /// Count and sending time of the newest packet.
    newest: Option<(u32, u64)>,
    /// Sending interval of the newest packets.
    interval_us: u64,
    counted: Played,
    /// Missed packets since the last one that was played.
    gap: u64,
    /// The count that is due next.
    next: Option<u32>,
}

/// Counters of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Played {
    /// Packets that were due.
    pub(super) due: u64,
    /// Packets that had not arrived when they were due.
    pub(super) missed: u64,
    /// Longest run of missed packets.
    pub(super) longest_gap: u64,
}

impl Audio {
    pub(super) fn packet(&mut self, now_us: u64, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else { return };
        let age = now_us.saturating_sub(stamp.sent_us);
        self.least_age = Some(self.least_age.map_or(age, |least| least.min(age)));
        if self.next.is_none_or(|next| stamp.count >= next) {
            self.ages.entry(stamp.count).or_insert(age);
            self.next.get_or_insert(stamp.count);
        }
        match self.newest {
            Some((count, sent_us)) if stamp.count > count => {
                self.interval_us =
                    stamp.sent_us.saturating_sub(sent_us) / u64::from(stamp.count - count).max(1);
                self.newest = Some((stamp.count, stamp.sent_us));
            }
            None => self.newest = Some((stamp.count, stamp.sent_us)),
            Some(_) => {}
        }
        while self.ages.len() > REMEMBERED {
            self.count_one();
        }
    }

    /// Counts the packet that is due next as played or missed.
    fn count_one(&mut self) {
        let Some(count) = self.next else { return };
        let age = self.ages.remove(&count);
        self.next = Some(count + 1);
        let limit = self.least_age.unwrap_or_default() + BUFFER_US;
        self.counted.due += 1;
        if age.is_some_and(|age| age <= limit) {
            self.gap = 0;
        } else {
            self.counted.missed += 1;
            self.gap += 1;
            self.counted.longest_gap = self.counted.longest_gap.max(self.gap);
        }
    }

    /// Counters of all packets that were due, until `end_us` when the track is still published.
    pub(super) fn played(&self, end_us: Option<u64>) -> Played {
        let Some((newest, sent_us)) = self.newest else { return self.counted };
        let mut rest = Self { ages: self.ages.clone(), ..*self };
        // Packets sent later than this are not due yet.
        let sent_by =
            end_us.unwrap_or(sent_us).saturating_sub(BUFFER_US + self.least_age.unwrap_or_default());
        let last = match self.interval_us {
            // Of a single packet it is not known when the next one is due.
            0 => u64::from(newest).saturating_sub(u64::from(sent_by < sent_us)),
            interval if sent_by >= sent_us => {
                let after = (sent_by - sent_us) / interval;
                u64::from(newest) + after.min(u64::from(u32::MAX - newest))
            }
            interval => u64::from(newest).saturating_sub((sent_us - sent_by).div_ceil(interval)),
        };
        while rest.next.is_some_and(|next| u64::from(next) <= last) {
            rest.count_one();
        }
        rest.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(counts: impl IntoIterator<Item = u32>, delay_us: impl Fn(u32) -> u64) -> Audio {
        let mut audio = Audio::default();
        for count in counts {
            let sent_us = 1_000_000 + u64::from(count) * 20_000;
            let stamp = Stamp { sent_us, count, layer: 0, packets: 1 };
            audio.packet(sent_us + delay_us(count), Some(stamp));
        }
        audio
    }

    fn end(count: u64) -> Option<u64> {
        Some(1_000_000 + count * 20_000)
    }

    #[test]
    fn packet_is_played_in_time_and_missed_when_late() {
        let audio = play(0..1000, |count| if count % 100 == 7 { 205_100 } else { 5_000 });
        assert_eq!(audio.played(end(1000)), Played { due: 990, missed: 10, longest_gap: 1 });
        let audio = play(0..1000, |count| if count % 100 == 7 { 204_900 } else { 5_000 });
        assert_eq!(audio.played(end(1000)).missed, 0);
    }

    #[test]
    fn lost_packets_are_missed_and_make_a_gap() {
        let audio = play((0..1000).filter(|count| !(500..520).contains(count)), |_| 1_000);
        assert_eq!(audio.played(end(1000)), Played { due: 990, missed: 20, longest_gap: 20 });
    }

    #[test]
    fn after_a_single_packet_nothing_more_is_due() {
        let audio = play(7..8, |_| 1_000);
        assert_eq!(audio.played(end(7)).due, 0);
        assert_eq!(audio.played(end(4_000_000)), Played { due: 1, missed: 0, longest_gap: 0 });
    }

    #[test]
    fn published_track_without_packets_is_missed() {
        let audio = play(0..100, |_| 0);
        assert_eq!(audio.played(end(200)), Played { due: 191, missed: 91, longest_gap: 91 });
        assert_eq!(audio.played(None).missed, 0, "it ended");
    }

    #[test]
    fn reordering_within_the_buffer_is_not_missed() {
        let swapped = (0..300).map(|count: u32| count ^ 1);
        assert_eq!(play(swapped, |_| 3_000).played(end(300)).missed, 0);
    }
}
