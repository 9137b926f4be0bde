//! The VP9 payload descriptor (RFC 9628 section 4.2).

/// Does this packet start a key frame of the lowest spatial layer? None when the payload ends within the
/// first fields of the descriptor.
#[must_use]
pub fn begins_key_frame(payload: &[u8]) -> Option<bool> {
    let mut bytes = payload.iter().copied();
    let first = bytes.next()?;
    if first & 0x80 != 0 && bytes.next()? & 0x80 != 0 {
        bytes.next()?;
    }
    let spatial = if first & 0x20 != 0 { (bytes.next()? >> 1) & 0x07 } else { 0 };
    // P clear: not predicted from another picture. B set: a frame starts here.
    Some(first & 0x48 == 0x08 && spatial == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_first_packet_of_the_lowest_spatial_layer_starts_a_key_frame() {
        assert_eq!(begins_key_frame(&[0xA8, 0x81, 0x02, 0x00, 0]), Some(true));
        assert_eq!(begins_key_frame(&[0xA8, 0x81, 0x02, 0x02, 0]), Some(false));
        assert_eq!(begins_key_frame(&[0xA0, 0x81, 0x02, 0x00, 0]), Some(false));
        assert_eq!(begins_key_frame(&[0xE8, 0x81, 0x02, 0x00, 0]), Some(false));
        assert_eq!(begins_key_frame(&[0x08]), Some(true));
        assert_eq!(begins_key_frame(&[0xA8, 0x81]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_do_not_panic(payload in proptest::collection::vec(any::<u8>(), 0..8)) {
            let _ = begins_key_frame(&payload);
        }
    }
}
