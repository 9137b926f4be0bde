//! Messages of the Data Channel Establishment Protocol (RFC 8832): OPEN and ACK.

const ACK: u8 = 0x02;
const OPEN: u8 = 0x03;
const UNORDERED: u8 = 0x80;
const HEADER: usize = 12;

/// Reliability of a channel (RFC 8832 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reliability {
    Reliable,
    Retransmits(u32),
    LifetimeMs(u32),
}

/// A DCEP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DcepMessage<'a> {
    Ack,
    Open { ordered: bool, reliability: Reliability, label: &'a str },
}

impl<'a> DcepMessage<'a> {
    /// Parses a message; none when it is malformed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.first() == Some(&ACK) {
            return Some(Self::Ack);
        }
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let [kind, channel, _, _, p0, p1, p2, p3, l0, l1, q0, q1] = *header else { return None };
        if kind != OPEN {
            return None;
        }
        let parameter = u32::from_be_bytes([p0, p1, p2, p3]);
        let reliability = match channel & !UNORDERED {
            0 => Reliability::Reliable,
            1 => Reliability::Retransmits(parameter),
            2 => Reliability::LifetimeMs(parameter),
            _ => return None,
        };
        let (label, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        rest.get(..usize::from(u16::from_be_bytes([q0, q1])))?;
        let label = std::str::from_utf8(label).ok()?;
        Some(Self::Open { ordered: channel & UNORDERED == 0, reliability, label })
    }

    /// The encoded message; a label longer than 65535 bytes is truncated.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ack => vec![ACK],
            Self::Open { ordered, reliability, label } => {
                let (kind, parameter) = match *reliability {
                    Reliability::Reliable => (0, 0),
                    Reliability::Retransmits(count) => (1, count),
                    Reliability::LifetimeMs(ms) => (2, ms),
                };
                let label = &label.as_bytes()[..label.floor_char_boundary(usize::from(u16::MAX))];
                let mut out = Vec::with_capacity(HEADER + label.len());
                out.extend_from_slice(&[OPEN, if *ordered { kind } else { kind | UNORDERED }, 0, 0]);
                out.extend_from_slice(&parameter.to_be_bytes());
                out.extend_from_slice(&(label.len() as u16).to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(label);
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn written_messages_read_back(label in ".{0,40}", ordered: bool, kind in 0..3, parameter: u32) {
            let reliability = match kind {
                0 => Reliability::Reliable,
                1 => Reliability::Retransmits(parameter),
                _ => Reliability::LifetimeMs(parameter),
            };
            let message = DcepMessage::Open { ordered, reliability, label: &label };
            let bytes = message.to_bytes();
            prop_assert_eq!(DcepMessage::parse(&bytes), Some(message));
            for len in 1..bytes.len() {
                prop_assert_eq!(DcepMessage::parse(&bytes[..len]), None);
            }
        }

        #[test]
        fn malformed_messages_are_rejected_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(DcepMessage::Open { label, .. }) = DcepMessage::parse(&bytes) {
                prop_assert!(bytes.len() >= HEADER + label.len());
            }
        }
    }
}
