//! Which protocol a datagram belongs to, when all share one port (RFC 7983, RFC 5761).

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// First byte 0 to 3.
    Stun,
    /// First byte 20 to 63.
    Dtls,
    /// First byte 128 to 191, and not RTCP.
    Rtp,
    /// First byte 128 to 191, and an RTCP packet type in the second (RFC 5761 section 4).
    Rtcp,
}

/// Says which protocol a datagram belongs to; none is junk.
#[must_use]
pub fn classify(datagram: &[u8]) -> Option<Class> {
    match datagram {
        [0..=3, ..] => Some(Class::Stun),
        [20..=63, ..] => Some(Class::Dtls),
        [128..=191, 192..=223, ..] => Some(Class::Rtcp),
        [128..=191, _, ..] => Some(Class::Rtp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_told_by_its_first_bytes() {
        assert_eq!(classify(&[0, 1]), Some(Class::Stun));
        assert_eq!(classify(&[22, 254]), Some(Class::Dtls));
        assert_eq!(classify(&[0x80, 111]), Some(Class::Rtp));
        assert_eq!(classify(&[0x90, 0x80 | 96]), Some(Class::Rtp));
        assert_eq!(classify(&[0x80, 200]), Some(Class::Rtcp));
        assert_eq!(classify(&[0x81, 205]), Some(Class::Rtcp));
        assert_eq!(classify(&[0xff, 0]), None);
        assert_eq!(classify(&[128]), None);
        assert_eq!(classify(&[]), None);
    }
}
