//! The RTP header (RFC 3550 section 5.1) with its extensions (RFC 8285).

use thiserror::Error;

/// Why bytes are not a valid RTP packet. The caller drops them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RtpError {
    /// Fewer bytes than the header requires.
    #[error("RTP packet ends within its header; drop it")]
    Truncated,
    /// The version is not 2.
    #[error("RTP version is {0}, not 2; drop the packet")]
    Version(u8),
    /// More padding than payload.
    #[error("RTP padding is longer than the payload; drop the packet")]
    Padding,
    /// On a link: not a canonical payload type.
    #[error("payload type {0} is not canonical; drop the packet")]
    PayloadType(u8),
}

/// A parsed RTP packet that borrows from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp in the codec's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing sources, four bytes each.
    pub csrcs: &'a [u8],
    /// The 16 bits that define the form of the extensions; 0 without extensions.
    pub profile: u16,
    /// The extension elements, raw.
    pub extension: &'a [u8],
    /// Bytes before the payload.
    pub header_len: usize,
    /// The payload without padding; empty in a packet of padding only.
    pub payload: &'a [u8],
    /// Bytes of padding, including its length byte.
    pub padding: u8,
}

impl<'a> RtpHeader<'a> {
    /// Parses a whole decrypted packet; SRTP encrypts the padding too.
    ///
    /// # Errors
    /// [`RtpError`] when the bytes are not an RTP packet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        let (fixed, rest) = bytes.split_first_chunk::<12>().ok_or(RtpError::Truncated)?;
        let [b0, b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if b0 >> 6 != 2 {
            return Err(RtpError::Version(b0 >> 6));
        }
        let csrc_len = usize::from(b0 & 0x0F) * 4;
        let (csrcs, rest) = rest.split_at_checked(csrc_len).ok_or(RtpError::Truncated)?;
        let (profile, extension, rest) = if b0 & 0x10 == 0 {
            (0, &rest[..0], rest)
        } else {
            let (&[p0, p1, l0, l1], rest) = rest.split_first_chunk::<4>().ok_or(RtpError::Truncated)?;
            let len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            let (extension, rest) = rest.split_at_checked(len).ok_or(RtpError::Truncated)?;
            (u16::from_be_bytes([p0, p1]), extension, rest)
        };
        let header_len = bytes.len() - rest.len();
        let (payload, padding) = if b0 & 0x20 == 0 {
            (rest, 0)
        } else {
            let padding = *rest.last().ok_or(RtpError::Padding)?;
            let end = rest.len().checked_sub(usize::from(padding)).ok_or(RtpError::Padding)?;
            if padding == 0 {
                return Err(RtpError::Padding);
            }
            (&rest[..end], padding)
        };
        Ok(Self {
            marker: b1 & 0x80 != 0,
            payload_type: b1 & 0x7F,
            seq: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            csrcs,
            profile,
            extension,
            header_len,
            payload,
            padding,
        })
    }

    /// The extension elements in order: id and value. An unknown form yields none; a malformed element
    /// ends the iteration.
    #[must_use]
    pub fn extensions(&self) -> ExtensionIter<'a> {
        let form = match self.profile {
            0xBEDE => Form::OneByte,
            profile if profile >> 4 == 0x100 => Form::TwoByte,
            _ => return ExtensionIter { form: Form::OneByte, rest: &[] },
        };
        ExtensionIter { form, rest: self.extension }
    }
}

#[derive(Debug, Clone, Copy)]
enum Form {
    OneByte,
    TwoByte,
}

/// Iterator over header extension elements.
#[derive(Debug, Clone, Copy)]
pub struct ExtensionIter<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> Iterator for ExtensionIter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            self.rest = rest;
            if first == 0 {
                // A byte of padding.
                continue;
            }
            let (id, len) = match self.form {
                Form::OneByte if first >> 4 == 15 => {
                    // Id 15 is reserved: the rest is ignored (RFC 8285 section 4.2).
                    self.rest = &[];
                    return None;
                }
                Form::OneByte => (first >> 4, usize::from(first & 0x0F) + 1),
                Form::TwoByte => {
                    let (&len, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    (first, usize::from(len))
                }
            };
            let Some((value, rest)) = self.rest.split_at_checked(len) else {
                self.rest = &[];
                return None;
            };
            self.rest = rest;
            if id != 0 {
                return Some((id, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{AudioLevel, Extensions};
    use crate::{ExtensionIds, HeaderFields, write_header};
    use proptest::prelude::*;

    #[test]
    fn padding_and_contributing_sources_are_removed() {
        let mut bytes = vec![0xB1, 0xEF, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 1, 2, 3, 4];
        bytes.extend([0xBE, 0xDE, 0, 2, 0x10, 0x85, 0, 0x21, 1, 2, 0xF0, 9]);
        bytes.extend([42, 0, 0, 3]);
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!((header.payload_type, header.marker, header.seq), (111, true, 5));
        assert_eq!((header.csrcs, header.payload, header.padding), (&[1, 2, 3, 4][..], &[42][..], 3));
        assert_eq!(header.header_len, 28);
        let extensions: Vec<_> = header.extensions().collect();
        assert_eq!(extensions, [(1, &[0x85][..]), (2, &[1, 2][..])]);
    }

    #[test]
    fn invalid_packets_are_refused_with_the_reason() {
        let mut bytes = [0u8; 12];
        assert_eq!(RtpHeader::parse(&bytes), Err(RtpError::Version(0)));
        bytes[0] = 0x8F;
        assert_eq!(RtpHeader::parse(&bytes), Err(RtpError::Truncated));
        bytes[0] = 0xA0;
        assert_eq!(RtpHeader::parse(&bytes), Err(RtpError::Padding));
        assert_eq!(RtpHeader::parse(&bytes[..11]), Err(RtpError::Truncated));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), form: bool) {
            let mut bytes = bytes;
            if let [first, _, _, _, _, _, _, _, _, _, _, _, p0, p1, _, l1, ..] = bytes.as_mut_slice() {
                // Random bytes rarely pass the version check; these reach the extensions.
                *first = 0x90 | *first & 0x20;
                (*p0, *p1) = if form { (0xBE, 0xDE) } else { (0x10, *p1 & 0x0F) };
                *l1 &= 0x0F;
            }
            if let Ok(header) = RtpHeader::parse(&bytes) {
                prop_assert_eq!(header.header_len + header.payload.len() + usize::from(header.padding), bytes.len());
                let total: usize = header.extensions().map(|(_, value)| value.len()).sum();
                prop_assert!(total <= header.extension.len());
            }
        }

        #[test]
        fn written_headers_read_back(
            payload_type in 0..128u8, marker: bool, seq: u16, timestamp: u32, ssrc: u32,
            mid in proptest::collection::vec(any::<u8>(), 0..20), id in 1..=255u8, level in 0..128u8,
            dependency in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40)),
        ) {
            let fields = HeaderFields { payload_type, marker, seq, timestamp, ssrc };
            let ids = ExtensionIds { audio_level: Some(3), dependency: Some(5), ..ExtensionIds::default() };
            let ext = Extensions {
                audio_level: Some(AudioLevel { level, voice: marker }),
                dependency: dependency.as_deref(),
                orientation: Some(1),
                ..Extensions::default()
            };
            let mut bytes = Vec::new();
            write_header(&mut bytes, &fields, &ids, &ext, &[(id, &mid)]);
            bytes.push(1);
            let header = RtpHeader::parse(&bytes).unwrap();
            prop_assert_eq!(
                (header.payload_type, header.marker, header.seq, header.timestamp, header.ssrc),
                (payload_type, marker, seq, timestamp, ssrc)
            );
            let mut expected = vec![(id, mid.clone()), (3, vec![u8::from(marker) << 7 | level])];
            expected.extend(dependency.map(|bytes| (5, bytes)));
            let read: Vec<_> = header.extensions().map(|(id, value)| (id, value.to_vec())).collect();
            prop_assert_eq!(read, expected);
            prop_assert_eq!(header.payload, [1]);
        }
    }
}
