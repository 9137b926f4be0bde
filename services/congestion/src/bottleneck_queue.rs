//! The queue of the path's bottleneck, as the receiver's reports show it.
//!
//! Google congestion control finds congestion by a trend over many packets, about 250 ms after a path became slower.
//! Until then the sender fills the queue, and audio waits in it. But as long as a queue is not empty, its bottleneck is
//! busy (the "busy period" of queueing theory), and what arrives meanwhile is what it carries. If that is clearly less
//! than what is sent, the first reports show it.

use crate::gcc::Micros;

/// A packet that waited for no longer found the queue empty, as far as clocks and bursts let us tell.
const EMPTY: i64 = 15_000;
/// A queue has grown when packets wait for this much longer than an empty one's, beside what is usual on this path.
const GROWN: i64 = 35_000;
/// Parts of the usual delay that a grown queue has at least, beside that.
const USUAL: i64 = 2;
/// Shorter busy periods are too short to measure a rate.
const MIN_PERIOD: Micros = 60_000;
/// Longer ones are begun anew: what was carried before says less about now.
const MAX_PERIOD: Micros = 2_000_000;
/// The least delay of the last one or two of these is that of an empty queue: clocks drift, and routes change.
const BASE: Micros = 5_000_000;
/// Reports over which the usual delay is averaged; before as many have come, it is not known.
const REPORTS: i64 = 32;
const MIN_REPORTS: i64 = 24;
/// The cap holds for this long after the queue was last seen growing. The estimator has seen it by then, or not enough
/// of it.
const HOLD: Micros = 500_000;
/// What was last reported is outdated after that.
const OUTDATED: Micros = 300_000;

/// What the reports show of the bottleneck's queue.
#[derive(Debug, Default)]
pub(crate) struct BottleneckQueue {
    /// The least transit time of this and of the last span of [`BASE`]; the clocks' offset is arbitrary.
    base: [Option<i64>; 2],
    base_until: Micros,
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
    /// Until when, and bits per second that the bottleneck carried.
    slow: Option<(Micros, u64)>,
}

/// Since when the queue has not been empty, and what arrived since.
#[derive(Debug)]
struct Period {
    began: Micros,
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
                *period = Some(Period { began: self.arrived, bytes: 0, most: self.delay, gaps: [0; 2] });
            }
        }
    }

    /// A report is complete. `sending`: bits per second. Returns whether the queue grows because the path carries clearly
    /// less: then there is a [cap](Self::cap).
    pub(crate) fn reported(&mut self, now: Micros, sending: u64) -> bool {
        self.reported = now;
        let grown = GROWN + USUAL * self.usual;
        self.reports = (self.reports + 1).min(REPORTS);
        let longest = std::mem::take(&mut self.longest);
        self.usual += (self.delay - self.usual) / self.reports;
        let Some(period) = &self.period else { return false };
        // A bottleneck that served nothing for a while, as a radio does, and then all at once is not slow: its one long
        // gap does not count, and its queue shrinks. Frames are sent in bursts, so a report's last packet may have waited
        // for less than others.
        let grows = longest >= grown && longest >= period.most / 4 * 3 && self.delay >= EMPTY;
        let length = self.arrived.saturating_sub(period.began) - (period.gaps[0] - period.gaps[1]);
        if !grows || length < MIN_PERIOD || self.reports < MIN_REPORTS {
            return false;
        }
        let carried = period.bytes * 8_000_000 / length;
        let is_slow = carried < sending / 10 * 9;
        if is_slow {
            self.slow = Some((now + HOLD, carried));
        }
        is_slow
    }

    /// Did the packet that was reported last wait for longer than usual? A probe would wait too, and measure nothing.
    pub(crate) fn is_filled(&self, now: Micros) -> bool {
        self.delay >= EMPTY + self.usual && now < self.reported + OUTDATED
    }

    /// What may be sent, in bits per second, so that a queue that grew drains.
    pub(crate) fn cap(&self) -> Option<u64> {
        self.slow.map(|(_, carried)| carried / 20 * 17)
    }

    /// Ends the cap if it is time to. Returns what the bottleneck carried, in bits per second.
    pub(crate) fn end_cap(&mut self, now: Micros) -> Option<u64> {
        self.slow.take_if(|(until, _)| *until <= now).map(|(_, carried)| carried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1000;
    /// Bits per second.
    const SENDING: u64 = 2_000_000;

    /// A packet of 1250 bytes each 5 ms, reported each 50 ms. `delay`: of the packet that is sent at a millisecond.
    /// Returns the first millisecond at which the queue was seen growing.
    fn grows(queue: &mut BottleneckQueue, from: u64, until: u64, delay: impl Fn(u64) -> u64) -> Option<u64> {
        for sent in (from..until).step_by(5) {
            queue.received(sent * MS, (sent + delay(sent)) * MS, 1250);
            if sent % 50 == 45 && queue.reported((sent + delay(sent)) * MS, SENDING) {
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
        assert_eq!(queue.end_cap(10_300 * MS), None);
        assert!(queue.end_cap(11_000 * MS).is_some_and(|carried| (900_000..1_050_000).contains(&carried)));
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
