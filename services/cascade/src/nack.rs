//! Packets asked for again (RFC 4585, section 6.2.1), counted on their way over a link. The workers
//! ask and answer; a link only reads along.

use systir_rtp::rtcp::{Packet, parse};

/// How many packets a compound RTCP packet asks for; none when it is something else.
pub(crate) fn requested_packets(compound: &[u8]) -> u64 {
    let nacks = parse(compound).filter_map(|packet| match packet {
        Packet::Nack { seqs, .. } => Some(seqs.count() as u64),
        _ => None,
    });
    nacks.sum()
}

#[cfg(test)]
mod tests {
    use super::requested_packets;

    #[test]
    fn each_packet_that_is_asked_for_is_counted() {
        let nack = [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0, 1, 0, 0x80, 0x03];
        assert_eq!(requested_packets(&nack), 1 + 1 + 3);
        let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
        assert_eq!(requested_packets(&[&report[..], &nack[..]].concat()), 5, "in a compound");
        assert_eq!(requested_packets(&report), 0);
        // A picture-loss indication is none, nor is a transport-wide report.
        assert_eq!(requested_packets(&[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]), 0);
        assert_eq!(requested_packets(&[0x8f, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0]), 0);
    }

    #[test]
    fn what_is_cut_off_counts_as_far_as_it_goes() {
        let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0];
        for end in 0..nack.len() {
            assert_eq!(requested_packets(&nack[..end]), 0);
        }
        assert_eq!(requested_packets(&[&nack[..], &nack[..9]].concat()), 1);
    }
}
