//! Sound as a receiver with a jitter buffer of 200 ms hears it: what is not there when it is due is
//! concealed, whether it comes later or never.

use std::collections::BTreeMap;

use crate::media::Stamp;

/// Depth of the jitter buffer, microseconds.
const BUFFER_US: u64 = 200_000;
/// Packets whose arrival is remembered one by one; older ones are counted.
const REMEMBERED: usize = 512;

/// One stream of sound.
#[derive(Debug, Default)]
pub(super) struct Sound {
    /// Age on arrival, microseconds, by number.
    ages: BTreeMap<u32, u64>,
    /// The least age of all: a packet that came without delay.
    quickest: Option<u64>,
    /// When the newest packet was made, and how far apart the newest two were.
    newest: Option<(u32, u64)>,
    interval_us: u64,
    counted: Heard,
    run: u64,
    next: Option<u32>,
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Heard {
    /// Packets that were due.
    pub(super) due: u64,
    /// Those that were not there in time.
    pub(super) missed: u64,
    /// Longest run of them.
    pub(super) longest: u64,
}

impl Sound {
    pub(super) fn packet(&mut self, now_us: u64, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else { return };
        let age = now_us.saturating_sub(stamp.sent_us);
        self.quickest = Some(self.quickest.map_or(age, |quickest| quickest.min(age)));
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

    /// Counts the oldest packet that is not counted yet.
    fn count_one(&mut self) {
        let Some(count) = self.next else { return };
        let age = self.ages.remove(&count);
        self.next = Some(count + 1);
        let limit = self.quickest.unwrap_or_default() + BUFFER_US;
        self.counted.due += 1;
        if age.is_some_and(|age| age <= limit) {
            self.run = 0;
        } else {
            self.counted.missed += 1;
            self.run += 1;
            self.counted.longest = self.counted.longest.max(self.run);
        }
    }

    /// All that was due, until `end` when the track is still there.
    pub(super) fn heard(&self, end_us: Option<u64>) -> Heard {
        let Some((newest, sent_us)) = self.newest else { return self.counted };
        let mut rest = Self { ages: self.ages.clone(), ..*self };
        // What was made less than a buffer before the end is not due yet.
        let made_by = end_us.unwrap_or(sent_us).saturating_sub(BUFFER_US + self.quickest.unwrap_or_default());
        let interval = self.interval_us.max(1);
        let last = if made_by >= sent_us {
            let after = (made_by - sent_us) / interval;
            u64::from(newest) + after.min(u64::from(u32::MAX - newest))
        } else {
            u64::from(newest).saturating_sub((sent_us - made_by).div_ceil(interval))
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

    fn play(counts: impl IntoIterator<Item = u32>, delay_us: impl Fn(u32) -> u64) -> Sound {
        let mut sound = Sound::default();
        for count in counts {
            let sent_us = 1_000_000 + u64::from(count) * 20_000;
            let stamp = Stamp { sent_us, count, layer: 0, packets: 1 };
            sound.packet(sent_us + delay_us(count), Some(stamp));
        }
        sound
    }

    fn end(count: u64) -> Option<u64> {
        Some(1_000_000 + count * 20_000)
    }

    #[test]
    fn what_comes_in_time_is_heard_and_what_is_late_is_not() {
        let sound = play(0..1000, |count| if count % 100 == 7 { 205_100 } else { 5_000 });
        assert_eq!(sound.heard(end(1000)), Heard { due: 990, missed: 10, longest: 1 });
        let sound = play(0..1000, |count| if count % 100 == 7 { 204_900 } else { 5_000 });
        assert_eq!(sound.heard(end(1000)).missed, 0);
    }

    #[test]
    fn what_never_comes_is_missed_and_runs_are_told() {
        let sound = play((0..1000).filter(|count| !(500..520).contains(count)), |_| 1_000);
        assert_eq!(sound.heard(end(1000)), Heard { due: 990, missed: 20, longest: 20 });
    }

    #[test]
    fn a_track_that_falls_silent_while_it_is_there_is_missed() {
        let sound = play(0..100, |_| 0);
        assert_eq!(sound.heard(end(200)), Heard { due: 191, missed: 91, longest: 91 });
        assert_eq!(sound.heard(None).missed, 0, "it ended");
    }

    #[test]
    fn order_does_not_matter_within_the_buffer() {
        let swapped = (0..300).map(|count: u32| count ^ 1);
        assert_eq!(play(swapped, |_| 3_000).heard(end(300)).missed, 0);
    }
}
