//! The VP8 payload descriptor (RFC 7741 section 4.2).

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The first byte: X, N, S and the partition index.
    first: u8,
    /// The extension byte (I, L, T, K); 0 without one.
    flags: u8,
    /// Length in bytes.
    len: u8,
    /// PictureID as sent, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Does the PictureID have only 7 bits?
    pub narrow: bool,
    /// TL0PICIDX, when the L bit is set.
    pub tl0: Option<u8>,
    /// The byte with TID, Y and KEYIDX, when the T or K bit is set.
    tid_key: u8,
}

/// Length of the longest descriptor, bytes.
pub const MAX_LEN: usize = 6;

impl Descriptor {
    /// Parses the descriptor at the start of a payload. None when no byte of the payload follows it.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let mut descriptor =
            Self { first, flags: 0, len: 1, picture_id: None, narrow: false, tl0: None, tid_key: 0 };
        if first & 0x80 != 0 {
            descriptor.flags = bytes.next()?;
            descriptor.len += 1;
            if descriptor.flags & 0x80 != 0 {
                let high = bytes.next()?;
                descriptor.len += 1;
                descriptor.narrow = high & 0x80 == 0;
                descriptor.picture_id = Some(if descriptor.narrow {
                    u16::from(high)
                } else {
                    descriptor.len += 1;
                    u16::from(high & 0x7F) << 8 | u16::from(bytes.next()?)
                });
            }
            if descriptor.flags & 0x40 != 0 {
                descriptor.tl0 = Some(bytes.next()?);
                descriptor.len += 1;
            }
            if descriptor.flags & 0x30 != 0 {
                descriptor.tid_key = bytes.next()?;
                descriptor.len += 1;
            }
        }
        bytes.next().map(|_| descriptor)
    }

    /// Length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Has the descriptor none of the fields that are rewritten?
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.flags & 0xD0 == 0
    }

    /// KEYIDX (5 bits), when the K bit is set.
    #[must_use]
    pub fn key_index(&self) -> Option<u8> {
        (self.flags & 0x10 != 0).then_some(self.tid_key & 0x1F)
    }

    /// The temporal layer (TID), when the T bit is set.
    #[must_use]
    pub fn temporal_layer(&self) -> Option<u8> {
        (self.flags & 0x20 != 0).then_some(self.tid_key >> 6)
    }

    /// Does the frame depend on the lowest temporal layer only (Y bit)? Then its temporal layer may start here.
    #[must_use]
    pub fn is_layer_sync(&self) -> bool {
        self.flags & 0x20 != 0 && self.tid_key & 0x20 != 0
    }

    /// Is this the first packet of a frame (S bit, partition 0)?
    #[must_use]
    pub fn begins_frame(&self) -> bool {
        self.first & 0x17 == 0x10
    }

    /// Does this packet start a key frame? LiveKit's end-to-end encryption leaves the first byte of the
    /// frame, with the P bit, unencrypted.
    #[must_use]
    pub fn begins_key_frame(&self, payload: &[u8]) -> bool {
        self.begins_frame() && payload.get(self.len()).is_some_and(|byte| byte & 1 == 0)
    }

    /// Writes the descriptor with other numbers; a number that the descriptor lacks is not added. The
    /// PictureID is always written in 15 bits. Returns the length in bytes.
    #[must_use]
    pub fn write(&self, picture_id: u16, tl0: u8, key_index: u8, out: &mut [u8; MAX_LEN]) -> usize {
        let tid_key =
            if self.flags & 0x10 == 0 { self.tid_key } else { self.tid_key & 0xE0 | key_index & 0x1F };
        let fields = [
            (true, self.first),
            (self.first & 0x80 != 0, self.flags),
            (self.flags & 0x80 != 0, 0x80 | (picture_id >> 8) as u8),
            (self.flags & 0x80 != 0, picture_id as u8),
            (self.flags & 0x40 != 0, tl0),
            (self.flags & 0x30 != 0, tid_key),
        ];
        let mut len = 0;
        for (present, byte) in fields {
            if present && let Some(slot) = out.get_mut(len) {
                *slot = byte;
                len += 1;
            }
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_descriptor_of_a_key_frame_is_parsed() {
        let payload = [0x90, 0xF0, 0x81, 0x02, 7, 0x63, 0x00, 1];
        let descriptor = Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.len(), 6);
        assert_eq!(descriptor.picture_id, Some(0x102));
        assert_eq!(descriptor.tl0, Some(7));
        assert_eq!(descriptor.key_index(), Some(3));
        assert_eq!((descriptor.temporal_layer(), descriptor.is_layer_sync()), (Some(1), true));
        assert!(descriptor.begins_key_frame(&payload));
    }

    #[test]
    fn later_partitions_and_delta_frames_start_no_key_frame() {
        for payload in [[0x11, 0x00], [0x00, 0x00], [0x10, 0x01]] {
            assert!(!Descriptor::parse(&payload).unwrap().begins_key_frame(&payload));
        }
    }

    #[test]
    fn a_7_bit_picture_id_is_written_in_15_bits() {
        let descriptor = Descriptor::parse(&[0x90, 0x80, 0x05, 0xAA]).unwrap();
        let mut out = [0; MAX_LEN];
        let len = descriptor.write(0x1234, 0, 0, &mut out);
        assert_eq!(out[..len], [0x90, 0x80, 0x92, 0x34]);
    }

    proptest! {
        #[test]
        fn a_parsed_descriptor_is_shorter_than_its_payload(
            payload in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            if let Some(descriptor) = Descriptor::parse(&payload) {
                prop_assert!(descriptor.len() < payload.len());
                let _ = descriptor.begins_key_frame(&payload);
            }
        }

        #[test]
        fn a_written_descriptor_parses_to_the_same_numbers(
            payload in proptest::collection::vec(any::<u8>(), 7..12), id in 0..0x8000u16, tl0: u8, key in 0..32u8,
        ) {
            let descriptor = Descriptor::parse(&payload).unwrap();
            let mut out = [0; MAX_LEN];
            let len = descriptor.write(id, tl0, key, &mut out);
            let mut written = out[..len].to_vec();
            written.push(0);
            let again = Descriptor::parse(&written).unwrap();
            prop_assert_eq!(again.len(), len);
            prop_assert_eq!(again.picture_id, descriptor.picture_id.map(|_| id));
            prop_assert_eq!(again.tl0, descriptor.tl0.map(|_| tl0));
            prop_assert_eq!(again.key_index(), descriptor.key_index().map(|_| key));
            prop_assert_eq!(again.first, descriptor.first);
        }
    }
}
