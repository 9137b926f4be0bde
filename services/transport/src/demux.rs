//! Classifies datagrams by protocol where all protocols share one port (RFC 7983, RFC 5761).

/// The protocol of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// First byte 0 to 3.
    Stun,
    /// First byte 20 to 63.
    Dtls,
    /// First byte 128 to 191, and not RTCP.
    Rtp,
    /// First byte 128 to 191, and an RTCP packet type in the second (RFC 5761 section 4).
    Rtcp,
}

/// The protocol of a datagram by its first bytes; none when they match no protocol.
#[must_use]
pub fn classify(datagram: &[u8]) -> Option<Protocol> {
    match datagram {
        [0..=3, ..] => Some(Protocol::Stun),
        [20..=63, ..] => Some(Protocol::Dtls),
        [128..=191, 192..=223, ..] => Some(Protocol::Rtcp),
        [128..=191, _, ..] => Some(Protocol::Rtp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_name_the_protocol() {
        assert_eq!(classify(&[0, 1]), Some(Protocol::Stun));
        assert_eq!(classify(&[22, 254]), Some(Protocol::Dtls));
        assert_eq!(classify(&[0x80, 111]), Some(Protocol::Rtp));
        assert_eq!(classify(&[0x90, 0x80 | 96]), Some(Protocol::Rtp));
        assert_eq!(classify(&[0x80, 200]), Some(Protocol::Rtcp));
        assert_eq!(classify(&[0x81, 205]), Some(Protocol::Rtcp));
        assert_eq!(classify(&[0xff, 0]), None);
        assert_eq!(classify(&[128]), None);
        assert_eq!(classify(&[]), None);
    }
}
