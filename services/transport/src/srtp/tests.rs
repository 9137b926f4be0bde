use proptest::prelude::*;

use super::*;

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().filter_map(|byte| char::from(byte).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::Aes128Gcm, SrtpProfile::Aes256Gcm, SrtpProfile::Aes128CmSha1];

fn pair(profile: SrtpProfile) -> (Srtp, Srtp) {
    let material: Vec<u8> = (0..88).collect();
    (Srtp::new(profile, &material, true).unwrap(), Srtp::new(profile, &material, false).unwrap())
}

fn rtp(ssrc: u32, seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 111];
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn sender(profile: SrtpProfile, key: &str, salt: &str) -> (SrtpSender, SrtpReceiver) {
    let keys = || Keys::derive(profile, &hex(key), &hex(salt)).unwrap();
    (SrtpSender::new(keys()), SrtpReceiver::new(keys()))
}

const PLAIN_RTP: &str = "800f1234decafbadcafebabeabababababababababababababababab";
const PLAIN_RTCP: &str = "81c8000bcafebabeabababababababababababababababab";

fn seals_as(profile: SrtpProfile, key: &str, salt: &str, rtp: &str, rtcp: &str) {
    let (mut sender, mut receiver) = sender(profile, key, salt);
    let mut out = hex(PLAIN_RTP);
    sender.seal_rtp(&mut out, 0).unwrap();
    assert_eq!(out, hex(rtp));
    assert_eq!(receiver.open_rtp(&mut out).unwrap(), hex(PLAIN_RTP));
    let mut out = hex(PLAIN_RTCP);
    sender.seal_rtcp(&mut out, 0).unwrap();
    assert_eq!(out, hex(rtcp));
    assert_eq!(receiver.open_rtcp(&mut out).unwrap(), hex(PLAIN_RTCP));
}

/// Reference packets of libsrtp's test driver.
#[test]
fn sha1_profile_matches_libsrtp() {
    seals_as(
        SrtpProfile::Aes128CmSha1,
        "e1f97a0d3e018be0d64fa32c06de4139",
        "0ec675ad498afeebb6960b3aabe6",
        "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
        "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
    );
}

/// Reference packets of libsrtp's test driver.
#[test]
fn gcm_profile_matches_libsrtp() {
    seals_as(
        SrtpProfile::Aes128Gcm,
        "000102030405060708090a0b0c0d0e0f",
        "a0a1a2a3a4a5a6a7a8a9aaab",
        "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
        "81c8000bcafebabec98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e80000001",
    );
}

#[test]
fn sealed_packets_open_across_a_rollover() {
    for profile in PROFILES {
        let (mut a, mut b) = pair(profile);
        for seq in (65_500..=65_535_u16).chain(0..40) {
            let plain = rtp(7, seq, b"some payload");
            // The packet may start anywhere in the buffer.
            let mut out = vec![1, 2, 3];
            out.extend_from_slice(&plain);
            a.sender.seal_rtp(&mut out, 3).unwrap();
            assert_eq!(out[..3], [1, 2, 3]);
            assert_eq!(b.receiver.open_rtp(&mut out[3..]).unwrap(), plain, "{profile:?} {seq}");
        }
    }
}

#[test]
fn replayed_and_forged_packets_are_refused() {
    for profile in PROFILES {
        let (mut a, mut b) = pair(profile);
        let mut sealed = rtp(7, 1, b"x");
        a.sender.seal_rtp(&mut sealed, 0).unwrap();
        let mut forged = sealed.clone();
        forged[12] ^= 1;
        assert_eq!(b.receiver.open_rtp(&mut forged), Err(OpenError::Forged));
        b.receiver.open_rtp(&mut sealed.clone()).unwrap();
        assert_eq!(b.receiver.open_rtp(&mut sealed), Err(OpenError::Replayed));

        let mut sealed = hex(PLAIN_RTCP);
        a.sender.seal_rtcp(&mut sealed, 0).unwrap();
        let mut forged = sealed.clone();
        forged[9] ^= 1;
        assert_eq!(b.receiver.open_rtcp(&mut forged), Err(OpenError::Forged));
        b.receiver.open_rtcp(&mut sealed.clone()).unwrap();
        assert_eq!(b.receiver.open_rtcp(&mut sealed), Err(OpenError::Replayed));
    }
}

#[test]
fn sequence_number_is_never_sealed_twice() {
    let (mut a, _) = pair(SrtpProfile::Aes128Gcm);
    a.sender.seal_rtp(&mut rtp(7, 10, b"x"), 0).unwrap();
    a.sender.seal_rtp(&mut rtp(7, 12, b"x"), 0).unwrap();
    a.sender.seal_rtp(&mut rtp(7, 11, b"late but new"), 0).unwrap();
    assert_eq!(a.sender.seal_rtp(&mut rtp(7, 12, b"y"), 0), Err(SealError::Repeated));
    a.sender.seal_rtp(&mut rtp(8, 12, b"another stream"), 0).unwrap();
}

#[test]
fn number_of_ssrcs_is_bounded() {
    let (mut a, mut b) = pair(SrtpProfile::Aes128Gcm);
    for ssrc in 0..MAX_RECEIVED as u32 {
        let mut sealed = rtp(ssrc, 1, b"x");
        a.sender.seal_rtp(&mut sealed, 0).unwrap();
        b.receiver.open_rtp(&mut sealed).unwrap();
    }
    let mut sealed = rtp(u32::MAX, 1, b"x");
    a.sender.seal_rtp(&mut sealed, 0).unwrap();
    assert_eq!(b.receiver.open_rtp(&mut sealed), Err(OpenError::TooManySsrcs));
}

#[test]
fn csrcs_and_extensions_are_not_encrypted() {
    for profile in PROFILES {
        let (mut a, mut b) = pair(profile);
        let mut plain = rtp(7, 1, &[]);
        plain[0] |= 0x12;
        plain.extend_from_slice(&[1; 8]);
        plain.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x10, 5, 0, 0]);
        plain.extend_from_slice(b"payload");
        let mut sealed = plain.clone();
        a.sender.seal_rtp(&mut sealed, 0).unwrap();
        assert_eq!(sealed[..28], plain[..28]);
        assert_ne!(sealed[28..35], plain[28..35]);
        assert_eq!(b.receiver.open_rtp(&mut sealed).unwrap(), plain);
    }
}

proptest! {
    #[test]
    fn malformed_packets_are_refused_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0x80_u8..0xc0) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        for profile in PROFILES {
            let (mut a, mut b) = pair(profile);
            prop_assert!(b.receiver.open_rtp(&mut bytes.clone()).is_err());
            prop_assert!(b.receiver.open_rtcp(&mut bytes.clone()).is_err());
            let _ = a.sender.seal_rtp(&mut bytes.clone(), 0);
            let _ = a.sender.seal_rtcp(&mut bytes.clone(), 0);
            prop_assert!(a.sender.seal_rtp(&mut bytes.clone(), 1000).is_err());
        }
    }
}

#[test]
fn only_an_identical_packet_is_sealed_again() {
    for profile in PROFILES {
        let (mut ours, mut theirs) = pair(profile);
        let mut first = Vec::new();
        for seq in 65_500..65_536_u32 + 20 {
            let mut out = rtp(7, seq as u16, b"audio");
            ours.sender.seal_rtp_resendable(&mut out, 0).unwrap();
            first.push(out);
        }
        // Across the wrap of the sequence number, and before the newest packet.
        for (position, seq) in [(0, 65_500_u16), (35, 65_535), (36, 0), (55, 19)] {
            let mut resent = vec![1, 2, 3];
            resent.extend(rtp(7, seq, b"audio"));
            ours.sender.reseal_rtp(&mut resent, 3).unwrap();
            assert_eq!(resent[3..], first[position]);
            assert_eq!(theirs.receiver.open_rtp(&mut resent[3..]).unwrap(), rtp(7, seq, b"audio"));
        }
        let mut refused = |packet: Vec<u8>| {
            let mut out = packet;
            assert_eq!(ours.sender.reseal_rtp(&mut out, 0), Err(SealError::Repeated));
            assert!(out.is_empty(), "no packet is left in the buffer");
        };
        refused(rtp(7, 5, b"other"));
        let mut marked = rtp(7, 5, b"audio");
        marked[1] |= 0x80;
        refused(marked);
    }
}

#[test]
fn windows_of_ended_streams_are_freed() {
    let (mut ours, _) = pair(SrtpProfile::Aes128Gcm);
    for ssrc in 0..1000 {
        for seq in 0..3 {
            ours.sender.seal_rtp_resendable(&mut rtp(ssrc, seq, b"audio"), 0).unwrap();
        }
        ours.sender.end_stream(ssrc);
    }
    assert!(ours.sender.streams.is_empty() && ours.sender.places.is_empty());
}

#[test]
fn an_ended_stream_that_starts_again_uses_no_index_twice() {
    for profile in PROFILES {
        let (mut ours, mut theirs) = pair(profile);
        // Beyond a wrap of the sequence number, so that the rollover counter must be kept too.
        for seq in 65_530..65_541_u32 {
            let mut sealed = rtp(7, seq as u16, b"x");
            ours.sender.seal_rtp(&mut sealed, 0).unwrap();
            theirs.receiver.open_rtp(&mut sealed).unwrap();
        }
        ours.sender.end_stream(7);
        for seq in [4, 3, 0, 65_535, 65_000] {
            assert_eq!(ours.sender.seal_rtp(&mut rtp(7, seq, b"y"), 0), Err(SealError::Repeated), "{seq}");
        }
        let mut sealed = rtp(7, 5, b"y");
        ours.sender.seal_rtp(&mut sealed, 0).unwrap();
        theirs.receiver.open_rtp(&mut sealed).unwrap();
        assert_eq!(ours.sender.seal_rtp(&mut rtp(7, 5, b"z"), 0), Err(SealError::Repeated));
    }
}

#[test]
fn number_of_sent_ssrcs_is_bounded_ended_ones_included() {
    let (mut ours, _) = pair(SrtpProfile::Aes128Gcm);
    for ssrc in 0..MAX_SENT as u32 {
        ours.sender.seal_rtp(&mut rtp(ssrc, 1, b"x"), 0).unwrap();
        ours.sender.end_stream(ssrc);
    }
    assert_eq!(ours.sender.seal_rtp(&mut rtp(u32::MAX, 1, b"x"), 0), Err(SealError::Exhausted));
    ours.sender.seal_rtp(&mut rtp(0, 2, b"known"), 0).unwrap();
}

#[test]
fn only_recent_resendable_packets_can_be_sealed_again() {
    let (mut ours, _) = pair(SrtpProfile::Aes128Gcm);
    ours.sender.seal_rtp(&mut rtp(7, 1, b"audio"), 0).unwrap();
    assert_eq!(ours.sender.reseal_rtp(&mut rtp(7, 1, b"audio"), 0), Err(SealError::Repeated));
    for seq in 0..100 {
        ours.sender.seal_rtp_resendable(&mut rtp(8, seq, b"audio"), 0).unwrap();
    }
    assert_eq!(ours.sender.reseal_rtp(&mut rtp(8, 35, b"audio"), 0), Err(SealError::Repeated), "too old");
    assert!(ours.sender.reseal_rtp(&mut rtp(8, 36, b"audio"), 0).is_ok());
    assert_eq!(
        ours.sender.reseal_rtp(&mut rtp(8, 100, b"audio"), 0),
        Err(SealError::Repeated),
        "not sealed yet"
    );
}
