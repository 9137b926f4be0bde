//! H.264 NAL unit headers (RFC 6184 section 5): single NAL units, STAP-A, FU-A.

use super::key_frame::KeyFrameStart;

const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Does a key frame start in this payload? Parameter sets precede the picture that they apply to, so a
/// sequence parameter set counts as the start.
#[must_use]
pub fn key_frame_start(payload: &[u8]) -> KeyFrameStart {
    let Some((&first, rest)) = payload.split_first() else { return KeyFrameStart::No };
    match first & 0x1F {
        STAP_A => aggregate(rest),
        FU_A => match rest.first() {
            Some(header) if header & 0x80 != 0 => unit(header & 0x1F),
            _ => KeyFrameStart::No,
        },
        kind => unit(kind),
    }
}

fn unit(kind: u8) -> KeyFrameStart {
    match kind {
        SPS => KeyFrameStart::Yes,
        IDR => KeyFrameStart::Idr,
        _ => KeyFrameStart::No,
    }
}

fn aggregate(mut rest: &[u8]) -> KeyFrameStart {
    let mut found = KeyFrameStart::No;
    while let Some((size, tail)) = rest.split_first_chunk::<2>() {
        let Some((nal, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*size))) else { break };
        rest = tail;
        match nal.first().map(|header| unit(header & 0x1F)) {
            Some(KeyFrameStart::Yes) => return KeyFrameStart::Yes,
            Some(KeyFrameStart::Idr) => found = KeyFrameStart::Idr,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_frames_are_found_in_every_packetization() {
        assert_eq!(key_frame_start(&[0x67, 1]), KeyFrameStart::Yes);
        assert_eq!(key_frame_start(&[0x65, 1]), KeyFrameStart::Idr);
        assert_eq!(key_frame_start(&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68]), KeyFrameStart::Yes);
        assert_eq!(key_frame_start(&[0x78, 0, 1, 0x06, 0, 1, 0x65]), KeyFrameStart::Idr);
        assert_eq!(key_frame_start(&[0x7C, 0x85, 1]), KeyFrameStart::Idr);
        assert_eq!(key_frame_start(&[0x7C, 0x05, 1]), KeyFrameStart::No);
        assert_eq!(key_frame_start(&[0x61, 1]), KeyFrameStart::No);
        assert_eq!(key_frame_start(&[0x78, 0, 9, 0x67]), KeyFrameStart::No);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_do_not_panic(payload in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = key_frame_start(&payload);
        }
    }
}
