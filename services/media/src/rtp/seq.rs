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
}

impl ExtendedSeq {
    /// The extended number of a packet, or none for a number far off the run; the second of two far
    /// ones in a row starts a new run (RFC 3550 A.1).
    pub fn extend(&mut self, seq: u16) -> Option<u64> {
        let Some(highest) = self.highest else {
            // One cycle up, so that a packet that overtook the first one still has a number.
            let first = 0x1_0000 | u64::from(seq);
            self.highest = Some(first);
            return Some(first);
        };
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
            let extended = ((highest >> 16) + 2) << 16 | u64::from(seq);
            self.highest = Some(extended);
            self.suspect = None;
            return Some(extended);
        }
        self.suspect = Some(seq.wrapping_add(1));
        None
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
