//! The queue of the path's bottleneck, as the receiver's reports show it.
//!
//! Google congestion control finds congestion by a trend over many packets, about 250 ms after a path became slower.
//! Until then the sender fills the queue, and audio waits in it. But as long as a queue is not empty, its bottleneck is
//! busy (the "busy period" of queueing theory), and what arrives meanwhile is our share of what it carries. If that is
//! clearly less than what is sent, the first reports show it.

use crate::gcc::Micros;

/// A packet that waited for less counts as one that found the queue empty: clocks are coarse, and packets come in bursts.
const EMPTY: i64 = 15_000;
/// A queue has grown when packets wait for this long, plus so many times the usual delay.
const GROWN: i64 = 35_000;
const USUAL: i64 = 2;
/// Shorter busy periods are too short to measure a rate.
const MIN_PERIOD: Micros = 60_000;
/// Longer ones are begun anew: what was carried before says less about now.
const MAX_PERIOD: Micros = 2_000_000;
/// The least transit time of the last one or two of these is that of an empty queue: clocks drift, and routes change.
const BASE: Micros = 5_000_000;
/// Reports over which the usual delay is averaged; before as many have come, it is not known.
const REPORTS: i64 = 32;
const MIN_REPORTS: i64 = 24;
/// The cap holds for this long after the queue was last seen growing. By then the estimator has seen it, or too little of
/// it.
const HOLD: Micros = 500_000;
/// What was last reported is outdated after that.
const OUTDATED: Micros = 300_000;

/// What the reports show of the bottleneck's queue.
#[derive(Debug, Default)]
pub(crate) struct BottleneckQueue {
    /// The least transit time of this span of [`BASE`] and of the one before; the clocks' offset is arbitrary.
    base: [Option<i64>; 2],
    base_until: Micros,
    /// When the newest packet that was received was sent.
    sent: Micros,
    /// Beyond the least: of the packet that was reported last, and that on average.
    delay: i64,
    usual: i64,
    /// The longest of this report.
    longest: i64,
    reports: i64,
    reported: Micros,
    /// When the last packet arrived, by our clock with an offset.
    arrived: Micros,
    period: Option<Period>,
    slow: Option<SlowPath>,
}

/// The path carries less than is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlowPath {
    until: Micros,
    /// Bits per second that the bottleneck carried.
    pub(crate) carried: u64,
}

impl SlowPath {
    /// What may be sent, in bits per second, so that the queue drains.
    pub(crate) fn cap(self) -> u64 {
        self.carried / 20 * 17
    }
}

/// Since when the queue has not been empty, and what arrived since.
#[derive(Debug)]
struct Period {
    /// When its first packet was sent, and arrived.
    sent: Micros,
    began: Micros,
    /// Of the packets after the first.
    bytes: u64,
    /// The longest delay.
    most: i64,
    /// The two longest times between arrivals, the longest first.
    gaps: [Micros; 2],
}

impl BottleneckQueue {
    /// A packet was received.
    pub(crate) fn received(&mut self, sent: Micros, arrival: Micros, size: u16) {
        let transit = arrival.cast_signed() - sent.cast_signed();
        if sent.saturating_sub(self.sent) > BASE {
            // The clocks may have drifted apart meanwhile.
            *self = Self { slow: self.slow.take(), ..Self::default() };
        }
        self.sent = self.sent.max(sent);
        if sent >= self.base_until {
            self.base_until = sent + BASE;
            self.base = [None, self.base[0]];
        }
        self.base[0] = Some(self.base[0].map_or(transit, |base| base.min(transit)));
        self.delay = transit - self.base.into_iter().flatten().min().unwrap_or(transit);
        self.longest = self.longest.max(self.delay);
        let gap = arrival.saturating_sub(self.arrived);
        self.arrived = self.arrived.max(arrival);
        match &mut self.period {
            Some(period) if self.delay >= EMPTY && arrival.saturating_sub(period.began) < MAX_PERIOD => {
                period.bytes += u64::from(size);
                period.most = period.most.max(self.delay);
                let [longest, second] = period.gaps;
                period.gaps = if gap > longest { [gap, longest] } else { [longest, second.max(gap)] };
            }
            period => {
                let (sent, began) = (self.sent, self.arrived);
                *period = Some(Period { sent, began, bytes: 0, most: self.delay, gaps: [0; 2] });
            }
        }
    }

    /// A report was lost: what arrived is not known.
    pub(crate) fn report_lost(&mut self) {
        self.period = None;
    }

    /// A report is complete. `allocated`: bits per second that are sent on average. Returns whether the queue grows because
    /// the path carries clearly less: then there is a [cap](Self::cap).
    pub(crate) fn reported(&mut self, now: Micros, allocated: u64) -> bool {
        self.reported = now;
        let grown = GROWN + USUAL * self.usual;
        self.reports = (self.reports + 1).min(REPORTS);
        let longest = std::mem::take(&mut self.longest);
        self.usual += (self.delay - self.usual) / self.reports;
        let Some(period) = &self.period else { return false };
        // Frames are sent in bursts, so a report's last packet may have waited for less than others.
        let grows = longest >= grown && longest >= period.most / 4 * 3 && self.delay >= EMPTY;
        // A bottleneck that served nothing for a while, as a radio does, and then all at once is not slow: its one long
        // gap counts no more than the second.
        let length = self.arrived.saturating_sub(period.began) - (period.gaps[0] - period.gaps[1]);
        if !grows || length < MIN_PERIOD || self.reports < MIN_REPORTS {
            return false;
        }
        // Less than is sent on average, and in more time than these packets were sent in.
        let carried = period.bytes * 8_000_000 / length;
        let is_slow = carried < allocated / 10 * 9 && length / 10 * 9 > self.sent.saturating_sub(period.sent);
        if is_slow {
            self.slow = Some(SlowPath { until: now + HOLD, carried });
        }
        is_slow
    }

    /// Did the packet that was reported last wait for longer than usual? A probe would wait too, and measure little.
    pub(crate) fn is_filled(&self, now: Micros) -> bool {
        self.delay >= EMPTY + self.usual && now < self.reported + OUTDATED
    }

    /// What may be sent, in bits per second, so that a queue that grew drains.
    pub(crate) fn cap(&self) -> Option<u64> {
        self.slow.map(SlowPath::cap)
    }

    /// Ends the cap if it is time to. Returns what it was for.
    pub(crate) fn end_cap(&mut self, now: Micros) -> Option<SlowPath> {
        self.slow.take_if(|slow| slow.until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1000;
    /// Bits per second, all of it sent.
    const ALLOCATED: u64 = 2_000_000;

    /// A packet of 1250 bytes each 5 ms, reported each 50 ms. `delay`: of the packet that is sent at a millisecond.
    /// Returns the first millisecond at which the queue was seen growing.
    fn grows(queue: &mut BottleneckQueue, from: u64, until: u64, delay: impl Fn(u64) -> u64) -> Option<u64> {
        for sent in (from..until).step_by(5) {
            queue.received(sent * MS, (sent + delay(sent)) * MS, 1250);
            if sent % 50 == 45 && queue.reported((sent + delay(sent)) * MS, ALLOCATED) {
                return Some(sent + delay(sent));
            }
        }
        None
    }

    /// 5 ms of each 10 ms more.
    fn half_the_rate(sent: u64) -> u64 {
        20 + sent.saturating_sub(10_000)
    }

    #[test]
    fn a_path_that_became_slower_is_seen_in_the_first_reports() {
        let mut queue = BottleneckQueue::default();
        let seen = grows(&mut queue, 0, 11_000, half_the_rate);
        assert!(seen.is_some_and(|at| (10_050..10_150).contains(&at)), "{seen:?}");
        let cap = queue.cap().unwrap();
        // Half of what is sent, and 15 % less.
        assert!((750_000..900_000).contains(&cap), "{cap}");
        assert!(queue.end_cap(10_300 * MS).is_none());
        let carried = queue.end_cap(11_000 * MS).map(|slow| slow.carried);
        assert!(carried.is_some_and(|carried| (900_000..1_050_000).contains(&carried)));
        assert_eq!(queue.cap(), None);
    }

    #[test]
    fn before_the_usual_delay_is_known_nothing_is_seen() {
        let mut queue = BottleneckQueue::default();
        assert_eq!(grows(&mut queue, 9_500, 10_200, half_the_rate), None);
    }

    #[test]
    fn a_radio_that_pauses_is_no_slow_path() {
        let mut queue = BottleneckQueue::default();
        // For 150 ms of each second nothing arrives, then all at once.
        let pauses = |sent: u64| 20 + 150_u64.saturating_sub(sent % 1000);
        assert_eq!(grows(&mut queue, 0, 30_000, pauses), None);
    }

    #[test]
    fn a_delay_that_jumps_is_no_slow_path() {
        let mut queue = BottleneckQueue::default();
        let longer_route = |sent: u64| if sent < 10_000 { 20 } else { 120 };
        assert_eq!(grows(&mut queue, 0, 30_000, longer_route), None);
        assert!(!queue.is_filled(30_100 * MS));
    }

    #[test]
    fn a_delay_that_varies_is_no_slow_path_when_little_of_what_is_allocated_is_sent() {
        let mut queue = BottleneckQueue::default();
        // A packet of 1250 bytes each 66 ms; one of twenty waits for 60 ms, and the next for 40.
        for number in 0..1_000 {
            let (sent, waits) = (number * 66 * MS, [60 * MS, 40 * MS].get(number as usize % 20).copied());
            let arrival = sent + 20 * MS + waits.unwrap_or(0);
            queue.received(sent, arrival, 1250);
            assert!(!queue.reported(arrival, ALLOCATED), "{number}");
        }
    }

    #[test]
    fn after_a_break_the_usual_delay_is_learnt_anew() {
        let mut queue = BottleneckQueue::default();
        assert_eq!(grows(&mut queue, 0, 10_000, |_| 20), None);
        // The receiver's clock is ahead by 60 ms more.
        assert_eq!(grows(&mut queue, 1_200_000, 1_200_050, |_| 80), None);
        assert!(!queue.is_filled(1_200_130 * MS));
    }

    #[test]
    fn a_queue_that_is_filled_empties_or_is_outdated() {
        let mut queue = BottleneckQueue::default();
        grows(&mut queue, 0, 11_000, half_the_rate);
        let at = queue.reported;
        assert!(queue.is_filled(at));
        assert!(!queue.is_filled(at + OUTDATED));
        queue.received(at, at + 20 * MS, 1250);
        assert!(!queue.is_filled(at));
    }
}
