//! Reception statistics of one stream for receiver reports: loss and jitter (RFC 3550 section 6.4.1,
//! appendix A).

use std::time::Instant;

use systir_rtp::rtcp::ReportBlock;

/// A larger step of extended sequence numbers is not loss: [`systir_rtp::ExtendedSeq`] starts a new sequence
/// more than one cycle above the last one.
const MAX_JUMP: u64 = u16::MAX as u64;

/// Statistics of one stream since its first packet, and since the last report.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reception {
    first: Option<u64>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    transit: Option<u32>,
    /// Sixteen times the jitter, in the codec's clock.
    jitter: u32,
    last_report: Option<(u32, Instant)>,
}

impl Reception {
    /// Records a packet that is not a retransmission. `arrival` is its time of arrival in the codec's clock.
    pub(super) fn packet(&mut self, seq: u64, timestamp: u32, arrival: u32) {
        if self.first.is_some() && seq.saturating_sub(self.highest) > MAX_JUMP {
            // The stream continues with unrelated numbers: counting starts again (RFC 3550 appendix A.1).
            *self = Self { jitter: self.jitter, last_report: self.last_report, ..Self::default() };
        }
        let first = *self.first.get_or_insert(seq);
        if seq < first {
            return;
        }
        self.received += 1;
        if seq < self.highest {
            return;
        }
        self.highest = seq;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let change = (transit.wrapping_sub(before) as i32).unsigned_abs();
            // A larger change is a pause of the stream or a clock jump, not jitter.
            if change < 1 << 24 {
                self.jitter = self.jitter.saturating_add(change).saturating_sub((self.jitter + 8) >> 4);
            }
        }
    }

    /// Records a sender report; the next reports return its NTP time.
    pub(super) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_report = Some(((ntp >> 16) as u32, now));
    }

    /// The report block, and starts a new interval. None before the first packet.
    pub(super) fn report(&mut self, now: Instant, ssrc: u32) -> Option<ReportBlock> {
        let first = self.first?;
        let expected = self.highest - first + 1;
        let expected_now = expected.saturating_sub(self.expected_before);
        let received_now = self.received - self.received_before;
        self.expected_before = expected;
        self.received_before = self.received;
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let (last_sr, delay) = match self.last_report {
            Some((ntp, at)) => {
                let delay = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
                (ntp, u32::try_from(delay).unwrap_or(u32::MAX))
            }
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost: expected.saturating_sub(self.received).min(0x7F_FFFF) as u32,
            extended_seq: self.highest as u32,
            jitter: self.jitter >> 4,
            last_sr,
            delay_since_last_sr: delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn loss_fraction_covers_one_interval() {
        let start = Instant::now();
        let mut reception = Reception::default();
        assert!(reception.report(start, 7).is_none(), "nothing arrived yet");
        for seq in (100..=200).filter(|seq| seq % 4 != 1) {
            reception.packet(seq, 0, 0);
        }
        let block = reception.report(start, 7).unwrap();
        assert_eq!(block.ssrc, 7);
        assert_eq!(block.cumulative_lost, 25);
        assert_eq!(block.fraction_lost, (25 * 256 / 101) as u8);
        assert_eq!(block.extended_seq, 200);
        reception.packet(201, 0, 0);
        assert_eq!(reception.report(start, 7).unwrap().fraction_lost, 0, "a new interval");
    }

    #[test]
    fn a_jump_to_another_sequence_is_not_loss() {
        let start = Instant::now();
        let (mut reception, mut seq) = (Reception::default(), systir_rtp::ExtendedSeq::default());
        let mut arrive = |reception: &mut Reception, number: u16| {
            if let Some(extended) = seq.extend(number) {
                reception.packet(extended, 0, 0);
            }
        };
        (100..200).for_each(|number| arrive(&mut reception, number));
        reception.report(start, 7).unwrap();
        (200..250).for_each(|number| arrive(&mut reception, number));
        // The publisher goes on elsewhere, with the same SSRC.
        (40_000..40_101).filter(|number| *number != 40_050).for_each(|number| arrive(&mut reception, number));
        let block = reception.report(start, 7).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (1, (256 / 100) as u8));
        assert_eq!(block.extended_seq as u16, 40_100);
        (40_101..40_200).for_each(|number| arrive(&mut reception, number));
        let block = reception.report(start, 7).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (1, 0));
    }

    #[test]
    fn sender_report_is_returned_with_the_delay_since() {
        let start = Instant::now();
        let mut reception = Reception::default();
        reception.packet(1, 0, 0);
        reception.sender_report(start, 0x1111_2222_3333_4444);
        let block = reception.report(start + Duration::from_millis(500), 1).unwrap();
        assert_eq!(block.last_sr, 0x2222_3333);
        assert_eq!(block.delay_since_last_sr, 32_768);
    }

    #[test]
    fn only_uneven_arrivals_have_jitter() {
        let mut reception = Reception::default();
        for seq in 0..100_u32 {
            reception.packet(u64::from(seq), seq * 960, seq * 960 + 5);
        }
        assert_eq!(reception.report(Instant::now(), 1).unwrap().jitter, 0);
        for seq in 100..400_u32 {
            reception.packet(u64::from(seq), seq * 960, seq * 960 + (seq % 2) * 160);
        }
        let jitter = reception.report(Instant::now(), 1).unwrap().jitter;
        assert!((140..=160).contains(&jitter), "{jitter}");
    }
}
