//! The estimate for a receiver without transport-wide feedback, from the loss in its receiver reports, as in
//! draft-ietf-rmcat-gcc-02 section 6, and its own estimate (REMB).
//!
//! Nothing says how much more the path carries, and nothing is probed. So the estimate rises slowly, and not above
//! what is useful: a higher one would be no limit when loss begins.

use crate::gcc::Micros;

/// What is reported for so long, and about so many packets, is judged together.
const INTERVAL: Micros = 1_000_000;
const MIN_PACKETS: u64 = 20;
/// Less loss is ignored, more is congestion.
const LOW_LOSS: f64 = 0.02;
const HIGH_LOSS: f64 = 0.10;
/// The estimate rises by this factor per interval.
const RISE: f64 = 1.08;
/// The same while the receiver's own estimate, which reacts to delay, allows more.
const RISE_BELOW_REMB: f64 = 1.5;
/// RFC draft-alvestrand-rmcat-remb: a receiver repeats its estimate at least this often while it holds.
const REMB_AGE: Micros = 5_000_000;

/// The estimate of one connection.
#[derive(Debug)]
pub(crate) struct ReportedLoss {
    /// Bits per second.
    estimate: u64,
    min: u64,
    max: u64,
    /// The receiver's own estimate, and when it came.
    remb: Option<(Micros, u64)>,
    lost: u64,
    packets: u64,
    judged: Micros,
}

impl ReportedLoss {
    /// Begins with `start` bits per second, and stays between `min` and `max`.
    pub(crate) fn new(now: Micros, start: u64, min: u64, max: u64) -> Self {
        Self { estimate: start.clamp(min, max), min, max, remb: None, lost: 0, packets: 0, judged: now }
    }

    /// Bits per second, without `audio`, which the receiver's own estimate includes. Its loss says nothing about audio.
    pub(crate) fn estimate(&self, audio: u64) -> u64 {
        let cap = |remb: u64| remb.saturating_sub(audio).max(self.min);
        self.remb.map_or(self.estimate, |(_, remb)| self.estimate.min(cap(remb)))
    }

    /// What could be used at most, bits per second.
    pub(crate) fn set_useful(&mut self, useful: u64) {
        self.max = useful.max(self.min);
    }

    /// A block of a receiver report covers so many packets, of which so many were lost.
    pub(crate) fn report(&mut self, lost: u64, packets: u64) {
        self.lost += lost.min(packets);
        self.packets += packets;
    }

    /// The receiver's own estimate.
    pub(crate) fn remb(&mut self, now: Micros, bitrate: u64) {
        self.remb = Some((now, bitrate));
    }

    /// Judges the reports of the last interval, if it has passed.
    pub(crate) fn process(&mut self, now: Micros) {
        if self.remb.is_some_and(|(at, _)| now.saturating_sub(at) > REMB_AGE) {
            self.remb = None;
        }
        let few = (1..MIN_PACKETS).contains(&self.packets);
        if now.saturating_sub(self.judged) < INTERVAL || few {
            return;
        }
        self.judged = now;
        // Without packets there was nothing to lose: else video that is paused would stay so.
        let loss = self.lost as f64 / self.packets.max(1) as f64;
        (self.lost, self.packets) = (0, 0);
        if loss > HIGH_LOSS {
            self.estimate = (self.estimate.min(self.max) as f64 * (1.0 - loss / 2.0)) as u64;
        } else if loss < LOW_LOSS && self.estimate < self.max {
            let rise =
                if self.remb.is_some_and(|(_, remb)| remb > self.estimate) { RISE_BELOW_REMB } else { RISE };
            self.estimate = ((self.estimate as f64 * rise) as u64).min(self.max);
        }
        self.estimate = self.estimate.max(self.min);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    /// One report per second for so long. Returns the estimate at the end.
    fn run(estimate: &mut ReportedLoss, now: &mut Micros, seconds: u64, lost: u64, packets: u64) -> u64 {
        for _ in 0..seconds {
            *now += SECOND;
            estimate.report(lost, packets);
            estimate.process(*now);
        }
        estimate.estimate(0)
    }

    fn new() -> (ReportedLoss, Micros) {
        let mut estimate = ReportedLoss::new(0, 2_000_000, 30_000, 50_000_000);
        estimate.set_useful(2_500_000);
        (estimate, 0)
    }

    #[test]
    fn much_loss_lowers_the_estimate_and_little_raises_it_up_to_what_is_useful() {
        let (mut estimate, mut now) = new();
        assert_eq!(run(&mut estimate, &mut now, 1, 20, 100), 1_800_000);
        assert_eq!(run(&mut estimate, &mut now, 3, 5, 100), 1_800_000, "neither much nor little");
        assert_eq!(run(&mut estimate, &mut now, 1, 1, 100), 1_944_000);
        assert_eq!(run(&mut estimate, &mut now, 60, 0, 100), 2_500_000);
    }

    #[test]
    fn what_was_more_than_useful_is_no_start_for_a_fall() {
        let (mut estimate, mut now) = new();
        estimate.set_useful(600_000);
        assert_eq!(run(&mut estimate, &mut now, 1, 20, 100), 540_000);
    }

    #[test]
    fn a_lost_packet_of_few_is_not_judged_alone() {
        let (mut estimate, mut now) = new();
        assert_eq!(run(&mut estimate, &mut now, 2, 1, 5), 2_000_000);
        assert!(run(&mut estimate, &mut now, 3, 1, 5) < 2_000_000);
    }

    #[test]
    fn the_receivers_own_estimate_is_a_cap_while_it_is_fresh() {
        let (mut estimate, mut now) = new();
        estimate.remb(now, 100_000);
        assert_eq!(estimate.estimate(0), 100_000);
        assert_eq!(estimate.estimate(64_000), 36_000, "it includes audio");
        assert_eq!(estimate.estimate(90_000), 30_000);
        run(&mut estimate, &mut now, 4, 0, 100);
        assert_eq!(estimate.estimate(0), 100_000);
        run(&mut estimate, &mut now, 4, 0, 100);
        assert!(estimate.estimate(0) >= 2_000_000);
    }

    #[test]
    fn below_the_receivers_own_estimate_it_rises_faster() {
        let (mut estimate, mut now) = new();
        let low = run(&mut estimate, &mut now, 20, 50, 100);
        estimate.remb(now, 2_000_000);
        let with_remb = run(&mut estimate, &mut now, 4, 0, 100);
        assert!(with_remb > low * 4, "{low} {with_remb}");
    }

    #[test]
    fn video_that_was_paused_is_tried_again() {
        let (mut estimate, mut now) = new();
        let low = run(&mut estimate, &mut now, 30, 60, 100);
        assert!(low < 80_000);
        assert!(run(&mut estimate, &mut now, 30, 0, 0) > 150_000);
    }
}
