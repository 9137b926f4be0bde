//! H.264 NAL unit headers (RFC 6184 section 5): single units, STAP-A, FU-A.

use super::key_frame::Start;

const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Does a key frame begin in this payload? Parameter sets come before the picture that they are for,
/// so they are the beginning when there are any.
#[must_use]
pub fn start(payload: &[u8]) -> Start {
    let Some((&first, rest)) = payload.split_first() else { return Start::No };
    match first & 0x1F {
        STAP_A => aggregate(rest),
        FU_A => match rest.first() {
            Some(header) if header & 0x80 != 0 => unit(header & 0x1F),
            _ => Start::No,
        },
        kind => unit(kind),
    }
}

fn unit(kind: u8) -> Start {
    match kind {
        SPS => Start::Key,
        IDR => Start::Idr,
        _ => Start::No,
    }
}

fn aggregate(mut rest: &[u8]) -> Start {
    let mut found = Start::No;
    while let Some((size, tail)) = rest.split_first_chunk::<2>() {
        let Some((nal, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*size))) else { break };
        rest = tail;
        match nal.first().map(|header| unit(header & 0x1F)) {
            Some(Start::Key) => return Start::Key,
            Some(Start::Idr) => found = Start::Idr,
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
    fn key_frames_are_found_in_every_packing() {
        assert_eq!(start(&[0x67, 1]), Start::Key);
        assert_eq!(start(&[0x65, 1]), Start::Idr);
        assert_eq!(start(&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68]), Start::Key);
        assert_eq!(start(&[0x78, 0, 1, 0x06, 0, 1, 0x65]), Start::Idr);
        assert_eq!(start(&[0x7C, 0x85, 1]), Start::Idr);
        assert_eq!(start(&[0x7C, 0x05, 1]), Start::No);
        assert_eq!(start(&[0x61, 1]), Start::No);
        assert_eq!(start(&[0x78, 0, 9, 0x67]), Start::No);
    }

    proptest! {
        #[test]
        fn any_payload_is_read(payload in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = start(&payload);
        }
    }
}
