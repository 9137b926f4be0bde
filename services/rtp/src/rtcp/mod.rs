//! RTCP (RFC 3550 section 6, RFC 4585, 5104): parses and writes the packets that an SFU needs, by the
//! crate `rtcp-types`.

use rtcp_types::{
    Bye, Fir, PayloadFeedback, Pli, ReceiverReport, RtcpPacketParser, SenderReport, TransportFeedback,
};

mod remb;
mod write;

pub(crate) use write::append;
pub use write::{
    OversizedError, write_bye, write_nack, write_pli, write_receiver_report, write_sender_report,
};

/// One packet of a compound packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// Sender report (RFC 3550 section 6.4.1).
    SenderReport {
        /// SSRC of the sender.
        ssrc: u32,
        /// NTP time, 32.32 fixed point.
        ntp: u64,
        /// RTP timestamp of the same instant.
        rtp: u32,
        /// Packets sent.
        packets: u32,
        /// Payload bytes sent.
        octets: u32,
        /// Reports on the streams that it receives.
        blocks: ReportBlocks<'a>,
    },
    /// Receiver report (RFC 3550 section 6.4.2).
    ReceiverReport {
        /// SSRC of the reporter.
        ssrc: u32,
        /// Reports on the streams that it receives.
        blocks: ReportBlocks<'a>,
    },
    /// Generic NACK (RFC 4585 section 6.2.1).
    Nack {
        /// The stream with losses.
        ssrc: u32,
        /// Lost sequence numbers.
        seqs: NackSeqs<'a>,
    },
    /// Picture loss indication (RFC 4585 section 6.3.1): a key frame is needed.
    Pli {
        /// The stream.
        ssrc: u32,
    },
    /// Full intra request (RFC 5104 section 4.3.1): a key frame is needed.
    Fir {
        /// The stream.
        ssrc: u32,
        /// Request number; the same number is a repetition of the request.
        seq: u8,
    },
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Bits per second.
        bitrate: u64,
    },
    /// Transport-wide feedback; [`crate::twcc::Feedback`] parses it.
    TransportCc {
        /// Feedback control information, which follows the two SSRCs.
        fci: &'a [u8],
    },
    /// BYE (RFC 3550 section 6.6): a stream ended.
    Bye {
        /// The stream.
        ssrc: u32,
    },
}

/// One report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: u32,
    /// Fraction of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, 24 bits (two's complement).
    pub cumulative_lost: u32,
    /// Highest sequence number received; the upper 16 bits count cycles.
    pub extended_seq: u32,
    /// Interarrival jitter in ticks of the RTP clock.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0 when there was none.
    pub last_sr: u32,
    /// Time since that sender report, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// Iterator over the blocks of one report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_at_checked(24)?;
        self.0 = rest;
        let block = rtcp_types::ReportBlock::parse(block).ok()?;
        Some(ReportBlock {
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            cumulative_lost: block.cumulative_lost(),
            extended_seq: block.extended_sequence_number(),
            jitter: block.interarrival_jitter(),
            last_sr: block.last_sender_report_timestamp(),
            delay_since_last_sr: block.delay_since_last_sender_report_timestamp(),
        })
    }
}

/// Iterator over the sequence numbers of one NACK, at most 17 for each of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NackSeqs<'a> {
    fci: &'a [u8],
    /// The last number, and the bit mask of the numbers after it.
    current: Option<(u16, u16)>,
}

impl Iterator for NackSeqs<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let Some((last, mask)) = self.current else {
            let ([p0, p1, m0, m1], rest) = self.fci.split_first_chunk::<4>()?;
            self.fci = rest;
            let (pid, mask) = (u16::from_be_bytes([*p0, *p1]), u16::from_be_bytes([*m0, *m1]));
            self.current = (mask != 0).then_some((pid, mask));
            return Some(pid);
        };
        let step = mask.trailing_zeros() + 1;
        let rest = mask.checked_shr(step).unwrap_or(0);
        let seq = last.wrapping_add(step as u16);
        self.current = (rest != 0).then_some((seq, rest));
        Some(seq)
    }
}

/// Iterator over the packets of a compound packet; see [`parse`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
    /// SSRCs of a BYE or entries of a FIR beyond the first.
    more: Option<More<'a>>,
}

#[derive(Debug, Clone, Copy)]
enum More<'a> {
    Bye(&'a [u8]),
    Fir(&'a [u8]),
}

/// Parses a plain compound packet, or a reduced-size one (RFC 5506). Packets of other types and with
/// malformed content are skipped; a wrong version or length ends the iteration, as the start of the next
/// packet is not known.
#[must_use]
pub fn parse(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound, more: None }
}

impl<'a> Iterator for Packets<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<RtcpPacket<'a>> {
        loop {
            if let Some(packet) = self.more() {
                return Some(packet);
            }
            let [first, kind, l0, l1] = *self.rest.first_chunk::<4>()?;
            let len = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
            let (packet, rest) = self.rest.split_at_checked(len).filter(|_| first >> 6 == 2)?;
            self.rest = rest;
            if let Some(packet) = self.parse_one(kind, first & 0x1f, packet) {
                return Some(packet);
            }
        }
    }
}

impl<'a> Packets<'a> {
    fn more(&mut self) -> Option<RtcpPacket<'a>> {
        match self.more.take()? {
            More::Bye(ssrcs) => {
                let (ssrc, rest) = ssrcs.split_first_chunk::<4>()?;
                self.more = Some(More::Bye(rest));
                Some(RtcpPacket::Bye { ssrc: u32::from_be_bytes(*ssrc) })
            }
            More::Fir(entries) => {
                let ([a, b, c, d, seq, ..], rest) = entries.split_first_chunk::<8>()?;
                self.more = Some(More::Fir(rest));
                Some(RtcpPacket::Fir { ssrc: u32::from_be_bytes([*a, *b, *c, *d]), seq: *seq })
            }
        }
    }

    fn parse_one(&mut self, kind: u8, count: u8, packet: &'a [u8]) -> Option<RtcpPacket<'a>> {
        let blocks = |at: usize| {
            let len = 24 * usize::from(count);
            packet.get(at..at + len).map(ReportBlocks)
        };
        match kind {
            200 => {
                let report = SenderReport::parse(packet).ok()?;
                Some(RtcpPacket::SenderReport {
                    ssrc: report.ssrc(),
                    ntp: report.ntp_timestamp(),
                    rtp: report.rtp_timestamp(),
                    packets: report.packet_count(),
                    octets: report.octet_count(),
                    blocks: blocks(28)?,
                })
            }
            201 => {
                let report = ReceiverReport::parse(packet).ok()?;
                Some(RtcpPacket::ReceiverReport { ssrc: report.ssrc(), blocks: blocks(8)? })
            }
            203 => {
                Bye::parse(packet).ok()?;
                self.more = packet.get(4..4 + 4 * usize::from(count)).map(More::Bye);
                self.more()
            }
            205 => {
                let feedback = TransportFeedback::parse(packet).ok()?;
                let fci = fci(packet)?;
                match count {
                    1 => Some(RtcpPacket::Nack {
                        ssrc: feedback.media_ssrc(),
                        seqs: NackSeqs { fci, current: None },
                    }),
                    15 => Some(RtcpPacket::TransportCc { fci }),
                    _ => None,
                }
            }
            206 => {
                let feedback = PayloadFeedback::parse(packet).ok()?;
                match count {
                    1 => feedback
                        .parse_fci::<Pli<'_>>()
                        .ok()
                        .map(|_| RtcpPacket::Pli { ssrc: feedback.media_ssrc() }),
                    4 => {
                        feedback.parse_fci::<Fir<'_>>().ok()?;
                        self.more = fci(packet).map(More::Fir);
                        self.more()
                    }
                    15 => remb::parse(fci(packet)?).map(|bitrate| RtcpPacket::Remb { bitrate }),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The feedback control information of a feedback packet, without padding.
fn fci(packet: &[u8]) -> Option<&[u8]> {
    let padding = match packet {
        [first, .., last] if first & 0x20 != 0 => usize::from(*last),
        _ => 0,
    };
    packet.get(12..packet.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn written_packets_read_back() {
        let block = ReportBlock {
            ssrc: 9,
            fraction_lost: 3,
            cumulative_lost: 77,
            extended_seq: 0x1_0005,
            jitter: 12,
            last_sr: 4,
            delay_since_last_sr: 5,
        };
        let mut out = Vec::new();
        write_sender_report(&mut out, 1, 0x0102_0304_0506_0708, 42, 10, 1000, "cn").unwrap();
        write_receiver_report(&mut out, 1, &[block, ReportBlock { ssrc: 10, ..block }], "cn").unwrap();
        write_nack(&mut out, 1, 5, [65_535, 0, 3, 16, 40]).unwrap();
        write_pli(&mut out, 1, 6).unwrap();
        write_bye(&mut out, 7).unwrap();
        let packets: Vec<_> = parse(&out).collect();
        let [sr, rr, nack, pli, bye] = &packets[..] else { panic!("{packets:?}") };
        assert!(matches!(
            sr,
            RtcpPacket::SenderReport {
                ssrc: 1,
                ntp: 0x0102_0304_0506_0708,
                rtp: 42,
                packets: 10,
                octets: 1000,
                ..
            }
        ));
        let RtcpPacket::ReceiverReport { ssrc: 1, blocks } = rr else { panic!("{rr:?}") };
        assert_eq!(blocks.clone().collect::<Vec<_>>(), [block, ReportBlock { ssrc: 10, ..block }]);
        let RtcpPacket::Nack { ssrc: 5, seqs } = nack else { panic!("{nack:?}") };
        let mut seqs: Vec<_> = seqs.clone().collect();
        seqs.sort_unstable();
        assert_eq!(seqs, [0, 3, 16, 40, 65_535]);
        assert_eq!(*pli, RtcpPacket::Pli { ssrc: 6 });
        assert_eq!(*bye, RtcpPacket::Bye { ssrc: 7 });
    }

    #[test]
    fn nack_entry_names_up_to_seventeen_packets() {
        let seqs = NackSeqs { fci: &[0xff, 0xfe, 0xff, 0xff, 0, 20, 0x80, 1], current: None };
        let expected: Vec<u16> = (0..17).map(|n| 0xfffe_u16.wrapping_add(n)).chain([20, 21, 36]).collect();
        assert_eq!(seqs.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn remb_and_fir_of_chrome_are_parsed() {
        let remb = [
            0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0b, 0xff, 0xff, 0, 0, 0, 9,
        ];
        assert_eq!(parse(&remb).collect::<Vec<_>>(), [RtcpPacket::Remb { bitrate: 0x3_ffff << 2 }]);
        let fir = [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 3, 0, 0, 0];
        assert_eq!(parse(&fir).collect::<Vec<_>>(), [RtcpPacket::Fir { ssrc: 9, seq: 3 }]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&bytes).count() <= bytes.len());
        }

        #[test]
        fn arbitrary_content_after_a_valid_header_is_parsed_without_panic(
            kind in 200_u8..207, first in 0x80_u8..0xc0,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            bytes.resize(bytes.len() / 4 * 4, 0);
            let mut packet = vec![first, kind, 0, (bytes.len() / 4) as u8];
            packet.extend_from_slice(&bytes);
            for packet in parse(&packet) {
                match packet {
                    RtcpPacket::Nack { seqs, .. } => prop_assert!(seqs.count() < 1000),
                    RtcpPacket::SenderReport { blocks, .. } | RtcpPacket::ReceiverReport { blocks, .. } => {
                        prop_assert!(blocks.count() < 32);
                    }
                    RtcpPacket::TransportCc { fci } => {
                        if let Some(feedback) = crate::twcc::Feedback::parse(fci) {
                            prop_assert!(feedback.packets().count() <= 65_535);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
