//! Descriptions that real clients sent to a relay, byte for byte: livekit-client in Chromium 156 and
//! in Firefox 153, the Go SDK (pion), and the native SDK (libwebrtc). Each client offers a microphone and a
//! camera, and answers our offer of those of another participant.

use systir_rtp::packet::{Codec, Layer};

use super::tests::{answer, cids, compare, golden, intake_of, section_of, subscriber, with_host};
use super::*;

/// Checks a client's offer and its tracks on these m-lines, and compares our answer with the golden file.
fn answer_to_offer(client: &str, mids: &[&str], cids_in_order: &[&str]) -> Answer {
    let offer = Offer::parse(&golden(&format!("captured/{client}-offer.sdp"))).unwrap();
    assert!(offer.remote().client_is_active, "{client} connects to us");
    assert_eq!(cids(&offer), cids_in_order);
    let sending: Vec<_> = offer.sending_sections().map(|section| section.mid.as_str()).collect();
    assert_eq!(sending, mids);
    let answer = answer(&offer, &intake_of(mids, None));
    compare(&format!("captured/{client}-our-answer.sdp"), &answer.sdp);
    answer
}

fn codecs(answer: &Answer, mid: &str) -> Vec<(Codec, u8, Option<u8>)> {
    section_of(answer, mid).codecs.iter().map(|one| (one.codec, one.pt, one.rtx_pt)).collect()
}

/// All clients also offer G.711 with its static payload types.
fn audio_codecs(opus: u8) -> [(Codec, u8, Option<u8>); 3] {
    [(Codec::Opus, opus, None), (Codec::Pcmu, 0, None), (Codec::Pcma, 8, None)]
}

fn three_rids() -> Vec<(String, Layer)> {
    vec![("q".into(), Layer(0)), ("h".into(), Layer(1)), ("f".into(), Layer(2))]
}

#[test]
fn chromium_offers_microphone_and_camera() {
    let answer = answer_to_offer(
        "chromium",
        &["1", "2"],
        &["992824f9-3815-492b-adcb-7348d8c68f33", "ed0c4e38-8a49-4aeb-9017-cceda49d4edd"],
    );
    assert_eq!(codecs(&answer, "1"), audio_codecs(111));
    let audio = section_of(&answer, "1");
    assert_eq!((audio.extensions.mid, audio.extensions.audio_level), (Some(4), Some(1)));
    assert_eq!(audio.ssrcs.iter().map(|one| one.ssrc).collect::<Vec<_>>(), [2_343_632_841]);
    let camera = section_of(&answer, "2");
    assert_eq!(
        codecs(&answer, "2"),
        [
            (Codec::Vp8, 96, Some(97)),
            (Codec::H264, 108, Some(109)),
            (Codec::Av1, 45, Some(46)),
            (Codec::Vp9, 98, Some(99))
        ]
    );
    assert_eq!(camera.rids, three_rids());
    assert_eq!(
        (camera.extensions.mid, camera.extensions.rid, camera.extensions.repaired_rid),
        (Some(4), Some(10), Some(11))
    );
    assert_eq!((camera.extensions.dependency, camera.extensions.orientation), (Some(12), Some(13)));
    assert!(camera.ssrcs.is_empty(), "its layers are identified by rid only");
}

#[test]
fn firefox_offers_microphone_and_camera() {
    let answer = answer_to_offer(
        "firefox",
        &["1", "2"],
        &["{ea146da1-6f7d-4692-81d4-30b8404b1423}", "{0bf1e85c-d06b-4a5d-bc5b-aef4bc7b7444}"],
    );
    assert_eq!(codecs(&answer, "1"), audio_codecs(109));
    let camera = section_of(&answer, "2");
    assert_eq!(
        codecs(&answer, "2"),
        [(Codec::Vp8, 120, Some(124)), (Codec::Vp9, 121, Some(125)), (Codec::Av1, 99, Some(100))]
    );
    assert_eq!(camera.rids, three_rids());
    assert_eq!(
        (camera.extensions.mid, camera.extensions.rid, camera.extensions.repaired_rid),
        (Some(3), Some(9), Some(10)),
        "an id with a direction is read"
    );
}

#[test]
fn pion_offers_microphone_and_camera() {
    let answer = answer_to_offer("pion", &["1", "2"], &["TR_rvknuyrjM5o4", "simulcast-cam"]);
    let audio = section_of(&answer, "1");
    assert_eq!(codecs(&answer, "1"), audio_codecs(111));
    assert_eq!(audio.extensions.mid, None, "the SSRC alone identifies the track");
    assert_eq!(audio.ssrcs.iter().map(|one| one.ssrc).collect::<Vec<_>>(), [1_591_671_091]);
    let camera = section_of(&answer, "2");
    assert_eq!(codecs(&answer, "2")[0], (Codec::Vp8, 96, Some(97)));
    assert_eq!(camera.rids, three_rids());
    assert_eq!((camera.extensions.mid, camera.extensions.rid), (Some(2), Some(3)));
    assert_eq!(camera.extensions.repaired_rid, None);
}

#[test]
fn native_sdk_offers_camera_and_microphone_after_receive_only_lines() {
    let answer = answer_to_offer(
        "libwebrtc",
        &["14", "15"],
        &["f12b99f5-539b-4c2b-9c51-8a6a75940abb", "e619dc39-9c82-4bba-87ec-c700b58a2cf1"],
    );
    assert_eq!(codecs(&answer, "14"), [(Codec::Vp8, 96, None)], "it offers no retransmissions");
    let camera = section_of(&answer, "14");
    assert!(camera.rids.is_empty());
    assert_eq!(camera.ssrcs.iter().map(|one| one.ssrc).collect::<Vec<_>>(), [2_799_953_692]);
    assert_eq!(codecs(&answer, "15"), audio_codecs(111));
    assert_eq!(section_of(&answer, "15").ssrcs[0].ssrc, 4_072_353_121);
}

#[test]
fn every_client_accepts_audio_and_video_as_offered() {
    let two = &[(1, Codec::Opus), (2, Codec::Vp8)][..];
    let four = &[(1, Codec::Opus), (2, Codec::Opus), (3, Codec::Vp8), (4, Codec::Vp8)][..];
    // pion insists on being the DTLS server when it answers.
    for (client, tracks, is_active) in
        [("chromium", two, true), ("firefox", two, true), ("libwebrtc", two, true), ("pion", four, false)]
    {
        let (mut subscriber, _) = subscriber(tracks);
        with_host(|host| subscriber.offer(host));
        let text = golden(&format!("captured/{client}-subscriber-answer.sdp"));
        let answered = subscriber.answer(&text).unwrap();
        assert_eq!(answered.remote.client_is_active, is_active, "{client}");
        assert!(answered.refused.is_empty(), "{client}: {:?}", answered.refused);
        let accepted = answered.accepted.iter().map(|one| (one.track.0, one.pt, one.rtx_pt));
        let wanted = tracks.iter().map(|(track, codec)| match codec {
            Codec::Opus => (*track, 111, None),
            _ => (*track, 96, Some(97)),
        });
        assert_eq!(accepted.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{client}");
    }
}
