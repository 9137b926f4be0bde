use crate::gcc::Micros;

/// Reference times are in units of 64 ms, and 24 bits long.
const REFERENCE_US: i64 = 64_000;
const REFERENCE_BITS: u32 = 24;
/// Deltas are in units of 250 us.
const DELTA_US: i64 = 250;
/// How far an arrival may be before and after the time of its feedback. Beyond that the receiver's clock
/// jumped, or the feedback is wrong.
const MAX_BEFORE: i64 = 8_000_000;
const MAX_AFTER: i64 = 2_000_000;

/// Converts arrival times from the receiver's clock to ours. The offset is arbitrary: only differences
/// between arrivals mean something.
#[derive(Debug, Default)]
pub(crate) struct ArrivalClock {
    /// The last reference time, unwrapped.
    reference: Option<i64>,
    offset: i64,
}

/// Arrival times of one feedback packet.
#[derive(Debug)]
pub(crate) struct Arrivals {
    now: i64,
    at: i64,
    /// Is the offset another one than before?
    pub(crate) is_anew: bool,
}

impl ArrivalClock {
    /// Begins a feedback packet that was received at `now`.
    pub(crate) fn begin(&mut self, now: Micros, reference: u32) -> Arrivals {
        let now = i64::try_from(now).unwrap_or(i64::MAX / 2);
        let reference = i64::from(reference);
        let unwrapped = match self.reference {
            None => reference,
            Some(last) => {
                // The difference as a signed number of 24 bits.
                let step = ((reference - last) as i32) << (32 - REFERENCE_BITS) >> (32 - REFERENCE_BITS);
                last + i64::from(step)
            }
        };
        let time = unwrapped * REFERENCE_US;
        if self.reference.is_some() && plausible(now, time + self.offset) {
            self.reference = Some(unwrapped);
            return Arrivals { now, at: time + self.offset, is_anew: false };
        }
        // Begun anew from 24 bits: a receiver could drive the unwrapped time to any height.
        self.reference = Some(reference);
        self.offset = now - reference * REFERENCE_US;
        Arrivals { now, at: now, is_anew: true }
    }
}

impl Arrivals {
    /// The arrival of the next received packet; none if that cannot be.
    pub(crate) fn next(&mut self, delta: i16) -> Option<Micros> {
        self.at += i64::from(delta) * DELTA_US;
        if plausible(self.now, self.at) { Micros::try_from(self.at).ok() } else { None }
    }
}

fn plausible(now: i64, at: i64) -> bool {
    (now - MAX_BEFORE..=now + MAX_AFTER).contains(&at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn arrivals_keep_their_distances_when_the_reference_time_wraps() {
        let mut clock = ArrivalClock::default();
        let mut arrivals = clock.begin(100 * SECOND, 0xff_ffff);
        assert_eq!(arrivals.next(4), Some(100 * SECOND + 1000));
        assert_eq!(arrivals.next(-4), Some(100 * SECOND));
        let mut arrivals = clock.begin(100 * SECOND + 200_000, 1);
        assert_eq!(arrivals.next(0), Some(100 * SECOND + 128_000));
        // Feedback that comes late.
        let mut arrivals = clock.begin(100 * SECOND + 210_000, 0);
        assert_eq!(arrivals.next(0), Some(100 * SECOND + 64_000));
    }

    #[test]
    fn a_clock_that_jumps_is_followed() {
        let mut clock = ArrivalClock::default();
        clock.begin(100 * SECOND, 1000);
        let mut arrivals = clock.begin(101 * SECOND, 90_000);
        assert_eq!(arrivals.next(0), Some(101 * SECOND));
    }

    #[test]
    fn impossible_arrivals_are_left_out() {
        let mut clock = ArrivalClock::default();
        let mut arrivals = clock.begin(100 * SECOND, 1000);
        assert_eq!(arrivals.next(i16::MAX), None);
        assert_eq!(arrivals.next(-i16::MAX), Some(100 * SECOND));
        assert!(arrivals.next(i16::MIN).is_none());
    }
}
