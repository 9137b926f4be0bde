//! Counts the packets that NACKs request (RFC 4585, section 6.2.1). Workers send and answer NACKs;
//! a link only counts them.

use systir_rtp::rtcp::{RtcpPacket, parse};

/// Packets that a compound RTCP packet requests; 0 for anything else.
pub(crate) fn requested_packets(compound: &[u8]) -> u64 {
    let nacks = parse(compound).filter_map(|packet| match packet {
        RtcpPacket::Nack { seqs, .. } => Some(seqs.count() as u64),
        _ => None,
    });
    nacks.sum()
}

#[cfg(test)]
mod tests {
    use super::requested_packets;

    #[test]
    fn each_requested_packet_is_counted() {
        let nack = [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0, 1, 0, 0x80, 0x03];
        assert_eq!(requested_packets(&nack), 1 + 1 + 3);
        let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
        assert_eq!(requested_packets(&[&report[..], &nack[..]].concat()), 5, "in a compound packet");
        assert_eq!(requested_packets(&report), 0);
        // PLI and transport-wide feedback are not NACKs.
        assert_eq!(requested_packets(&[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]), 0);
        assert_eq!(requested_packets(&[0x8f, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0]), 0);
    }

    #[test]
    fn a_truncated_compound_counts_its_whole_packets() {
        let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0];
        for end in 0..nack.len() {
            assert_eq!(requested_packets(&nack[..end]), 0);
        }
        assert_eq!(requested_packets(&[&nack[..], &nack[..9]].concat()), 1);
    }
}
