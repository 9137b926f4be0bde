//! 16-bit sequence numbers made 64-bit (after RFC 3550 appendix A.1).

/// How far a number may be ahead of the highest one and still belong to the same run.
const MAX_DROPOUT: u16 = 3000;
/// How far a number may be behind the highest one and still belong to the same run.
const MAX_MISORDER: u16 = 1000;

/// Extends the sequence numbers of one stream. Numbers only ever grow: a stream that starts anew
/// goes on in the next cycle of 2^16.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtendedSeq {
    highest: Option<u64>,
    suspect: Option<u16>,
    restarted: bool,
}

impl ExtendedSeq {
    /// The extended number of a packet, or none for a number far off the run; the second of two far
    /// ones in a row starts a new run (RFC 3550 A.1).
    pub fn extend(&mut self, seq: u16) -> Option<u64> {
        let Some(highest) = self.highest else {
            // One cycle up, so that a packet that overtook the first one still has a number.
            let first = 0x1_0000 | u64::from(seq);
            self.highest = Some(first);
            self.restarted = false;
            return Some(first);
        };
        if std::mem::take(&mut self.restarted) {
            return Some(self.next_run(highest, seq));
        }
        let ahead = seq.wrapping_sub(highest as u16);
        if ahead < MAX_DROPOUT {
            let extended = highest + u64::from(ahead);
            self.highest = Some(extended);
            self.suspect = None;
            return Some(extended);
        }
        let behind = (highest as u16).wrapping_sub(seq);
        if behind <= MAX_MISORDER {
            return highest.checked_sub(u64::from(behind));
        }
        if self.suspect == Some(seq) {
            return Some(self.next_run(highest, seq));
        }
        self.suspect = Some(seq.wrapping_add(1));
        None
    }

    /// The next number begins a new run, wherever it is: another source brings the stream.
    pub fn restart(&mut self) {
        self.restarted = true;
    }

    fn next_run(&mut self, highest: u64, seq: u16) -> u64 {
        let extended = ((highest >> 16) + 2) << 16 | u64::from(seq);
        self.highest = Some(extended);
        self.suspect = None;
        extended
    }

    /// The highest number so far.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The extended number of a packet that was sent earlier (a retransmission, a NACK): the nearest
    /// one to the highest number. Changes nothing.
    #[must_use]
    pub fn nearest(&self, seq: u16) -> Option<u64> {
        let highest = self.highest?;
        let distance = seq.wrapping_sub(highest as u16) as i16;
        highest.checked_add_signed(i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn another_source_goes_on_in_a_run_of_its_own_at_once() {
        let mut seq = ExtendedSeq::default();
        seq.restart();
        let first = seq.extend(10).unwrap();
        for near in [11, 9, 40_000] {
            seq.restart();
            let next = seq.extend(near).unwrap();
            assert!(next > first + 0xFFFF, "{near}");
            assert_eq!(seq.extend(near + 1), Some(next + 1));
        }
    }

    #[test]
    fn numbers_go_on_over_the_wrap_and_late_ones_go_back() {
        let mut seq = ExtendedSeq::default();
        let first = seq.extend(65_534).unwrap();
        assert_eq!(seq.extend(1), Some(first + 3));
        assert_eq!(seq.extend(65_535), Some(first + 1));
        assert_eq!(seq.highest(), Some(first + 3));
        assert_eq!(seq.nearest(65_530), Some(first - 4));
    }

    #[test]
    fn stray_number_is_refused_and_a_new_beginning_is_ahead_of_all() {
        let mut seq = ExtendedSeq::default();
        let first = seq.extend(20_000).unwrap();
        assert_eq!(seq.extend(50_000), None);
        assert_eq!(seq.extend(20_001), Some(first + 1));
        assert_eq!(seq.extend(7), None);
        let anew = seq.extend(8).unwrap();
        assert!(anew > first + 0x1_0000);
        assert_eq!(anew as u16, 8);
    }

    proptest! {
        #[test]
        fn low_bits_stay_and_the_highest_never_falls(seqs in proptest::collection::vec(any::<u16>(), 0..200)) {
            let mut extender = ExtendedSeq::default();
            let mut highest = 0;
            for seq in seqs {
                if let Some(extended) = extender.extend(seq) {
                    prop_assert_eq!(extended as u16, seq);
                }
                prop_assert!(extender.highest().unwrap() >= highest);
                highest = extender.highest().unwrap();
            }
        }

        #[test]
        fn a_stream_with_loss_and_reordering_keeps_its_numbers(
            start: u16, steps in proptest::collection::vec((0..2900u64, 0..900u64), 1..100),
        ) {
            let mut extender = ExtendedSeq::default();
            let base = extender.extend(start).unwrap();
            let mut highest = 0u64;
            for (ahead, behind) in steps {
                highest += ahead;
                prop_assert_eq!(extender.extend(start.wrapping_add(highest as u16)), Some(base + highest));
                let late = highest.saturating_sub(behind);
                prop_assert_eq!(extender.extend(start.wrapping_add(late as u16)), Some(base + late));
            }
        }
    }
}
