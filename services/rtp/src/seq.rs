//! Extends 16-bit sequence numbers to 64 bits (after RFC 3550 appendix A.1).

/// How far ahead of the highest number a packet may be without starting a new sequence.
const MAX_DROPOUT: u16 = 3000;
/// How far behind the highest number a packet may be without starting a new sequence.
const MAX_MISORDER: u16 = 1000;

/// Extends the sequence numbers of one stream. Extended numbers only grow: a stream that restarts
/// continues above all earlier numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtendedSeq {
    highest: Option<u64>,
    /// The number that would confirm a restart of the stream.
    expected_after_jump: Option<u16>,
    restarted: bool,
}

impl ExtendedSeq {
    /// The extended number of a packet; none for a number that is far from the sequence. Two such numbers
    /// in a row start a new sequence (RFC 3550 appendix A.1).
    pub fn extend(&mut self, seq: u16) -> Option<u64> {
        let Some(highest) = self.highest else {
            // One cycle up: packets sent before the first received one get numbers too.
            let first = 0x1_0000 | u64::from(seq);
            self.highest = Some(first);
            self.restarted = false;
            return Some(first);
        };
        if std::mem::take(&mut self.restarted) {
            return Some(self.start_sequence(highest, seq));
        }
        let ahead = seq.wrapping_sub(highest as u16);
        if ahead < MAX_DROPOUT {
            let extended = highest + u64::from(ahead);
            self.highest = Some(extended);
            self.expected_after_jump = None;
            return Some(extended);
        }
        let behind = (highest as u16).wrapping_sub(seq);
        if behind <= MAX_MISORDER {
            return highest.checked_sub(u64::from(behind));
        }
        if self.expected_after_jump == Some(seq) {
            return Some(self.start_sequence(highest, seq));
        }
        self.expected_after_jump = Some(seq.wrapping_add(1));
        None
    }

    /// The next number starts a new sequence, whatever it is: the stream has another source.
    pub fn restart(&mut self) {
        self.restarted = true;
    }

    fn start_sequence(&mut self, highest: u64, seq: u16) -> u64 {
        let extended = ((highest >> 16) + 2) << 16 | u64::from(seq);
        self.highest = Some(extended);
        self.expected_after_jump = None;
        extended
    }

    /// The highest number so far.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The extended number of a packet sent earlier (for a retransmission or a NACK): the one nearest to
    /// the highest number. Does not change the state.
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
    fn another_source_starts_a_new_sequence_at_once() {
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
    fn numbers_continue_across_the_wrap_and_late_packets_get_lower_ones() {
        let mut seq = ExtendedSeq::default();
        let first = seq.extend(65_534).unwrap();
        assert_eq!(seq.extend(1), Some(first + 3));
        assert_eq!(seq.extend(65_535), Some(first + 1));
        assert_eq!(seq.highest(), Some(first + 3));
        assert_eq!(seq.nearest(65_530), Some(first - 4));
    }

    #[test]
    fn stray_number_is_refused_and_a_restart_continues_above() {
        let mut seq = ExtendedSeq::default();
        let first = seq.extend(20_000).unwrap();
        assert_eq!(seq.extend(50_000), None);
        assert_eq!(seq.extend(20_001), Some(first + 1));
        assert_eq!(seq.extend(7), None);
        let restarted = seq.extend(8).unwrap();
        assert!(restarted > first + 0x1_0000);
        assert_eq!(restarted as u16, 8);
    }

    proptest! {
        #[test]
        fn low_bits_are_kept_and_the_highest_never_decreases(seqs in proptest::collection::vec(any::<u16>(), 0..200)) {
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
        fn loss_and_reordering_do_not_change_the_numbers(
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
