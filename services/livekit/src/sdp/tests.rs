use std::collections::HashMap;
use std::path::PathBuf;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use systir_rtp::packet::{Codec, Kind, Layer};

use super::*;
use systir_media_control::{CaptureSource, ReceiveSection, TrackKey};

const FINGERPRINT: [u8; 32] = [0xAB; 32];

fn ice() -> IceCredentials {
    IceCredentials { ufrag: "1aB2c3D4".into(), pwd: "0123456789abcdefABCDEF".into() }
}

fn candidates() -> Vec<IceCandidate> {
    vec![
        IceCandidate { address: "192.0.2.10:7882".parse().unwrap(), protocol: CandidateProtocol::Udp },
        IceCandidate { address: "[2001:db8::10]:7882".parse().unwrap(), protocol: CandidateProtocol::Udp },
        IceCandidate { address: "192.0.2.10:7881".parse().unwrap(), protocol: CandidateProtocol::Tcp },
    ]
}

pub(super) fn with_host<T>(f: impl FnOnce(LocalTransport<'_>) -> T) -> T {
    f(LocalTransport { ice: &ice(), fingerprint: &FINGERPRINT, candidates: &candidates() })
}

pub(super) fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    std::fs::read_to_string(path).unwrap()
}

pub(super) fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "{name}");
}

const ORIGIN: Origin = Origin { session: 42, version: 1 };

pub(super) fn intake_of(mids: &[&str], codec: Option<Codec>) -> HashMap<String, ReceiveOptions> {
    let options = |index: usize| ReceiveOptions {
        track: Some(TrackKey(index as u64)),
        codec,
        red: false,
        stereo: false,
        dtx: true,
    };
    mids.iter().enumerate().map(|(index, mid)| ((*mid).to_owned(), options(index))).collect()
}

pub(super) fn answer(offer: &Offer, options: &HashMap<String, ReceiveOptions>) -> Answer {
    with_host(|host| offer.answer(host, ORIGIN, |section| options.get(&section.mid).copied()))
}

pub(super) fn section_of<'a>(answer: &'a Answer, mid: &str) -> &'a ReceiveSection {
    answer.receive.iter().find(|section| section.mid == mid).unwrap()
}

pub(super) fn cids(offer: &Offer) -> Vec<&str> {
    offer.sending_sections().map(|section| section.track.as_deref().unwrap()).collect()
}

#[test]
fn offer_of_chrome_is_read() {
    let offer = Offer::parse(&golden("offer-chrome.sdp")).unwrap();
    assert_eq!(offer.remote().ice.ufrag, "7Xr+");
    assert_eq!(offer.remote().fingerprint[..2], [0x9A, 0x0B]);
    assert!(offer.remote().client_is_active);
    assert_eq!(cids(&offer), ["7d2b1c5e-mic", "0a9b8c7d-cam"]);
    let answer = answer(&offer, &intake_of(&["1", "2"], Some(Codec::Vp8)));
    let video = section_of(&answer, "2");
    let pts: Vec<_> = video.codecs.iter().map(|one| (one.codec, one.pt, one.rtx_pt)).collect();
    assert_eq!(
        pts,
        [
            (Codec::Vp8, 96, Some(97)),
            (Codec::H264, 109, Some(114)),
            (Codec::Av1, 45, Some(46)),
            (Codec::Vp9, 98, Some(99)),
        ]
    );
    assert_eq!(video.rids, [("q".into(), Layer(0)), ("h".into(), Layer(1)), ("f".into(), Layer(2))]);
    assert_eq!(video.extensions.rid, Some(10));
    assert_eq!(video.extensions.repaired_rid, Some(11));
    assert_eq!(video.extensions.dependency, Some(12));
    assert_eq!(video.extensions.orientation, Some(13));
    let audio = section_of(&answer, "1");
    assert_eq!(audio.extensions.audio_level, Some(1));
    assert_eq!(audio.ssrcs.first().map(|one| one.ssrc), Some(3_570_614_608));
    compare("answer-chrome.sdp", &answer.sdp);
}

#[test]
fn offer_of_firefox_is_read() {
    let offer = Offer::parse(&golden("offer-firefox.sdp")).unwrap();
    assert_eq!(
        cids(&offer),
        ["{0d4f2b1a-5a55-4e0c-9a4e-61b8a0d7a001}", "{e5c1e7a0-77aa-4f43-9d0e-1b2a3c4d5e6f}"]
    );
    let answer = answer(&offer, &intake_of(&["1", "2"], Some(Codec::H264)));
    let first = section_of(&answer, "2").codecs[0];
    assert_eq!(
        (first.codec, first.pt, first.rtx_pt),
        (Codec::H264, 126, Some(127)),
        "the track's codec is first"
    );
    assert_eq!(section_of(&answer, "2").extensions.playout_delay, Some(6), "an id with a direction is read");
    compare("answer-firefox.sdp", &answer.sdp);
}

#[test]
fn offer_of_safari_is_read() {
    let offer = Offer::parse(&golden("offer-safari.sdp")).unwrap();
    let answer = answer(&offer, &intake_of(&["1", "2"], None));
    let video = section_of(&answer, "2");
    assert_eq!(video.codecs[0].pt, 98, "high profile and H.265 are not accepted");
    assert_eq!((video.ssrcs[0].ssrc, video.ssrcs[0].rtx_ssrc), (1_204_338_110, Some(1_943_337_720)));
    assert_eq!(video.ssrcs.len(), 1);
    compare("answer-safari.sdp", &answer.sdp);
}

#[test]
fn offer_of_pion_is_read() {
    let offer = Offer::parse(&golden("offer-pion.sdp")).unwrap();
    assert_eq!(cids(&offer), ["go-mic", "go-cam"]);
    compare("answer-pion.sdp", &answer(&offer, &intake_of(&["1", "2"], Some(Codec::H264))).sdp);
}

#[test]
fn cid_of_the_native_sdk_is_read_after_the_dash() {
    let offer = Offer::parse(&golden("offer-libwebrtc.sdp")).unwrap();
    assert_eq!(cids(&offer), ["TR_local_mic_1", "TR_local_cam_1"]);
    let answer = answer(&offer, &intake_of(&["1", "2"], Some(Codec::Vp8)));
    assert_eq!(section_of(&answer, "2").codecs[0].rtx_pt, None);
    assert_eq!(section_of(&answer, "2").rids.len(), 3);
    compare("answer-libwebrtc.sdp", &answer.sdp);
}

#[test]
fn line_without_a_track_is_inactive_and_not_received() {
    let offer = Offer::parse(&golden("offer-chrome.sdp")).unwrap();
    let answer = answer(&offer, &intake_of(&["1"], None));
    assert_eq!(answer.receive.len(), 1);
    assert_eq!(answer.sdp.matches("a=inactive").count(), 1);
    assert_eq!(answer.sdp.matches("a=recvonly").count(), 1);
    assert!(!answer.sdp.contains("a=simulcast"));
}

#[test]
fn red_is_accepted_only_when_allowed_and_comes_first() {
    let offer = Offer::parse(&golden("offer-chrome.sdp")).unwrap();
    let mut options = intake_of(&["1"], Some(Codec::Opus));
    assert!(!answer(&offer, &options).sdp.contains("red/48000"));
    options.get_mut("1").unwrap().red = true;
    let with = answer(&offer, &options);
    assert_eq!(section_of(&with, "1").codecs[0].codec, Codec::Red);
    assert!(with.sdp.contains("a=fmtp:63 111/111"));
}

#[test]
fn opus_parameters_follow_the_track() {
    let offer = Offer::parse(&golden("offer-chrome.sdp")).unwrap();
    let mut options = intake_of(&["1"], None);
    assert!(answer(&offer, &options).sdp.contains("useinbandfec=1;usedtx=1\r\n"));
    let one = options.get_mut("1").unwrap();
    one.dtx = false;
    one.stereo = true;
    let text = answer(&offer, &options).sdp;
    assert!(text.contains("useinbandfec=1;stereo=1;") && !text.contains("usedtx"));
}

#[test]
fn stopped_and_unsupported_lines_are_rejected() {
    let text = golden("offer-chrome.sdp")
        .replace("m=video 9 ", "m=video 0 ")
        .replace("BUNDLE 0 1 2", "BUNDLE 0 1")
        .replace("m=audio 9 UDP/TLS/RTP/SAVPF", "m=text 9 UDP/TLS/RTP/SAVPF");
    let offer = Offer::parse(&text).unwrap();
    assert_eq!(offer.sending_sections().count(), 0);
    let answer = answer(&offer, &intake_of(&["1", "2"], None));
    assert!(answer.receive.is_empty());
    assert!(answer.sdp.contains("m=video 0 ") && answer.sdp.contains("m=text 0 "));
    assert!(answer.sdp.contains("a=group:BUNDLE 0\r\n"));
}

#[test]
fn line_without_a_supported_codec_is_rejected() {
    let text = golden("offer-libwebrtc.sdp").replace("VP8/90000", "H265/90000");
    let answer = answer(&Offer::parse(&text).unwrap(), &intake_of(&["1", "2"], None));
    assert!(answer.sdp.contains("m=video 0 "));
    assert_eq!(answer.receive.len(), 1);
}

#[test]
fn offers_without_a_transport_or_with_duplicate_mids_are_refused() {
    let good = golden("offer-chrome.sdp");
    let lacks = |from: &str, to: &str| Offer::parse(&good.replace(from, to)).unwrap_err();
    assert!(matches!(lacks("a=ice-pwd", "a=ice-pw"), SdpError::Lacks(_)));
    assert!(matches!(lacks("sha-256", "sha-1"), SdpError::Lacks(_)));
    assert!(matches!(lacks("a=ice-ufrag:7Xr+", "a=ice-ufrag:7X\""), SdpError::Lacks(_)));
    assert_eq!(lacks("a=mid:1", "a=mid:2"), SdpError::DuplicateMid);
    assert!(matches!(Offer::parse("hello"), Err(SdpError::Grammar(_))));
    let long = format!("{good}{}", "a=x:y\r\n".repeat(MAX_OFFER_BYTES / 7));
    assert!(matches!(Offer::parse(&long), Err(SdpError::TooLong { .. })));
    let many = format!("{good}{}", "m=audio 0 X 0\r\n".repeat(600));
    assert!(matches!(Offer::parse(&many), Err(SdpError::TooManySections { sections: 603 })));
}

/// An offer with these lines in its m-line of video.
fn offer_with(payload_types: &str, lines: &str) -> Offer {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefABCDEF\r\n\
         a=fingerprint:sha-256 {}\r\nm=video 9 UDP/TLS/RTP/SAVPF {payload_types}\r\na=mid:0\r\n{lines}",
        ["AB"; 32].join(":")
    );
    Offer::parse(&text).unwrap()
}

#[test]
fn feedback_for_all_payload_types_is_kept_once_and_only_if_it_is_supported() {
    let payload_types: Vec<String> = (0..=255).map(|pt| pt.to_string()).collect();
    let lines = "a=rtcp-fb:* x\r\na=rtcp-fb:* nack pli\r\n".repeat(128);
    let offer = offer_with(&payload_types.join(" "), &lines);
    let codecs = &offer.sections()[0].codecs;
    assert_eq!(codecs.len(), 256);
    assert!(codecs.iter().all(|codec| codec.feedback == ["nack pli"]));
}

#[test]
fn an_attribute_that_is_too_long_is_not_read_and_the_others_are() {
    let long = ";".repeat(400_000);
    let lines = format!(
        "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 {long}\r\na=fmtp:97 apt=96\r\na=rid:q send\r\n\
         a=rid:h send\r\na=simulcast:send {}\r\na=simulcast:send h;q\r\n",
        "x;".repeat(50_000)
    );
    let offer = offer_with("96 97", &lines);
    let section = &offer.sections()[0];
    assert_eq!(section.rids, ["h", "q"]);
    assert_eq!(section.codecs[1].fmtp, "apt=96");
    assert_eq!(section.receive_codecs(None, false)[0].rtx_pt, Some(97));
}

#[test]
fn a_bundle_has_no_more_lines_than_an_offer_may_have() {
    let text = golden("offer-chrome.sdp");
    let bundled = |before: usize| {
        let mids: Vec<String> = (0..before).map(|mid| format!("x{mid}")).collect();
        let text = text.replace("a=group:BUNDLE", &format!("a=group:BUNDLE {}", mids.join(" ")));
        Offer::parse(&text).unwrap().sending_sections().count()
    };
    assert_eq!(bundled(1), bundled(0));
    assert_eq!(bundled(50_000), 0);
}

fn wanted(track: u64, codec: Codec) -> OfferedTrack {
    let letter = if codec.kind() == Kind::Audio { "AM" } else { "VC" };
    let sid = format!("TR_{letter}{track}");
    let source = CaptureSource::Camera;
    OfferedTrack { track: TrackKey(track), stream: format!("PA_ada|{sid}"), sid, codec, source }
}

pub(super) fn subscriber(tracks: &[(u64, Codec)]) -> (Subscriber, StdRng) {
    let mut rng = StdRng::from_seed([7; 32]);
    let mut subscriber = Subscriber::new(42);
    for (track, codec) in tracks {
        assert!(subscriber.add(wanted(*track, *codec), &mut rng));
    }
    (subscriber, rng)
}

/// The answer of a client with every codec, which rejects the m-lines in `rejected`.
fn answer_of_client(offer: &str, rejected: &[&str]) -> String {
    let description = description::Description::parse(offer, 1 << 20).unwrap();
    let mut text = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    for section in &description.sections {
        let port = if section.rejected || rejected.contains(&section.mid.as_str()) { 0 } else { 9 };
        text += &format!("m={} {port} {} {}\r\n", section.media, section.proto, section.fmt);
        text += &format!("a=mid:{}\r\na=setup:active\r\na=ice-ufrag:abcd\r\n", section.mid);
        text += "a=ice-pwd:0123456789012345678901\r\na=recvonly\r\n";
        text += &format!("a=fingerprint:sha-256 {}\r\n", ["0F"; 32].join(":"));
    }
    text
}

#[test]
fn a_red_track_is_accepted_with_the_payload_type_of_plain_opus() {
    let (mut subscriber, _) = subscriber(&[(1, Codec::Red), (2, Codec::Opus)]);
    let offer = with_host(|host| subscriber.offer(host));
    let accepted = subscriber.answer(&answer_of_client(&offer.sdp, &[])).unwrap().accepted;
    let payload_types: Vec<_> = accepted.iter().map(|one| (one.pt, one.opus_pt)).collect();
    assert_eq!(payload_types, [(63, Some(111)), (111, None)]);
}

#[test]
fn first_offer_has_the_data_channel_even_in_an_empty_room() {
    let (mut subscriber, _) = subscriber(&[]);
    let offer = with_host(|host| subscriber.offer(host));
    assert!(offer.sdp.contains("m=application 9 UDP/DTLS/SCTP webrtc-datachannel"));
    assert!(offer.sdp.contains("a=group:BUNDLE 0\r\n"));
    assert!(offer.tracks.is_empty());
    assert!(subscriber.answer(&answer_of_client(&offer.sdp, &[])).unwrap().accepted.is_empty());
}

#[test]
fn answer_of_chrome_accepts_and_refuses_tracks() {
    let (mut subscriber, _) = subscriber(&[(1, Codec::Opus), (2, Codec::Vp8), (3, Codec::H264)]);
    let offer = with_host(|host| subscriber.offer(host));
    compare("subscriber-offer.sdp", &offer.sdp);
    assert_eq!(offer.tracks.get("2").map(String::as_str), Some("TR_VC2"));
    let answered = subscriber.answer(&golden("subscriber-chrome-answer.sdp")).unwrap();
    assert!(answered.remote.client_is_active);
    let accepted: Vec<_> = answered.accepted.iter().map(|one| (one.track.0, one.pt, one.rtx_pt)).collect();
    assert_eq!(accepted, [(1, 111, None), (2, 96, Some(97))]);
    assert!(answered.accepted[1].rtx_ssrc.is_some() && answered.accepted[0].rtx_ssrc.is_none());
    assert_eq!(answered.refused, [wanted(3, Codec::H264)]);
    let again = with_host(|host| subscriber.offer(host));
    assert!(again.sdp.contains("m=video 0 "), "a rejected line is not used again");
    assert!(!again.tracks.contains_key("3"));
}

#[test]
fn answer_accepts_a_track_once() {
    let (mut subscriber, mut rng) = subscriber(&[(1, Codec::Opus)]);
    let first = with_host(|host| subscriber.offer(host)).sdp;
    subscriber.add(wanted(2, Codec::Vp9), &mut rng);
    assert_eq!(
        subscriber.answer(&answer_of_client(&first, &[])).unwrap().accepted.len(),
        1,
        "track 2 was not offered yet"
    );
    let second = with_host(|host| subscriber.offer(host)).sdp;
    let accepted = subscriber.answer(&answer_of_client(&second, &[])).unwrap().accepted;
    assert_eq!(accepted.iter().map(|one| one.track.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn answer_to_another_offer_is_refused() {
    let (mut one, _) = subscriber(&[(1, Codec::Opus)]);
    let (mut two, _) = subscriber(&[(1, Codec::Opus), (2, Codec::Vp8)]);
    let first = with_host(|host| one.offer(host)).sdp;
    with_host(|host| two.offer(host));
    assert_eq!(two.answer(&answer_of_client(&first, &[])).unwrap_err(), SdpError::NotOurOffer);
}

#[test]
fn free_lines_are_used_again_only_when_many() {
    let tracks: Vec<_> = (1..=20).map(|track| (track, Codec::Vp8)).collect();
    let (mut subscriber, mut rng) = subscriber(&tracks);
    with_host(|host| subscriber.offer(host));
    for track in 1..=16 {
        assert!(subscriber.remove(TrackKey(track)));
    }
    subscriber.add(wanted(100, Codec::Vp8), &mut rng);
    let offer = with_host(|host| subscriber.offer(host));
    assert_eq!(offer.tracks.get("21").map(String::as_str), Some("TR_VC100"), "appended");
    assert!(subscriber.remove(TrackKey(17)));
    subscriber.add(wanted(101, Codec::H264), &mut rng);
    let offer = with_host(|host| subscriber.offer(host));
    assert_eq!(offer.tracks.get("1").map(String::as_str), Some("TR_VC101"), "used again");
    subscriber.add(wanted(102, Codec::Opus), &mut rng);
    let offer = with_host(|host| subscriber.offer(host));
    assert_eq!(offer.tracks.get("22").map(String::as_str), Some("TR_AM102"), "never for another kind");
}

#[test]
fn track_removed_before_any_offer_leaves_no_line() {
    let (mut subscriber, _) = subscriber(&[(1, Codec::Opus), (2, Codec::Vp8)]);
    assert!(subscriber.remove(TrackKey(2)));
    assert!(!subscriber.remove(TrackKey(2)));
    assert_eq!(with_host(|host| subscriber.offer(host)).sdp.matches("m=").count(), 2);
}

#[test]
fn h264_profiles_are_ranked() {
    let codec = |fmtp: &str| codecs::OfferedCodec {
        name: "h264".into(),
        clock: 90_000,
        fmtp: fmtp.into(),
        ..Default::default()
    };
    let rank = |profile: &str| codec(&format!("packetization-mode=1;profile-level-id={profile}")).canonical();
    assert_eq!(rank("42e01f"), Some((Codec::H264, 0)));
    assert_eq!(rank("42C034"), Some((Codec::H264, 0)));
    assert_eq!(rank("42001f"), Some((Codec::H264, 1)));
    assert_eq!(rank("640c1f"), None);
    assert_eq!(rank("4d001f"), None);
    assert_eq!(rank("42"), None);
    assert_eq!(codec("profile-level-id=42e01f").canonical(), None, "packetization mode 0");
}

#[test]
fn canonical_payload_types_are_unique() {
    let mut numbers: Vec<u8> = Codec::ALL.into_iter().map(|codec| codec as u8).collect();
    numbers.extend(Codec::ALL.into_iter().filter_map(codecs::rtx_payload_type));
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count);
    assert_eq!(codecs::from_mime("video/VP8"), Some(Codec::Vp8));
    assert_eq!(codecs::from_mime("h264"), Some(Codec::H264));
    assert_eq!(codecs::from_mime("video/h265"), None);
}

/// A client's description with some lines removed, repeated, swapped or changed.
fn mutated_description() -> impl Strategy<Value = String> {
    let names = ["offer-chrome.sdp", "offer-firefox.sdp", "offer-pion.sdp", "subscriber-chrome-answer.sdp"];
    let edits = proptest::collection::vec((any::<u16>(), any::<u16>(), 0_u8..4, "[ -~]{0,12}"), 0..12);
    (proptest::sample::select(names.to_vec()), edits).prop_map(|(name, edits)| {
        let mut lines: Vec<String> = golden(name).lines().map(str::to_owned).collect();
        for (at, to, how, text) in edits {
            let (at, to) = (usize::from(at) % lines.len(), usize::from(to) % lines.len());
            match how {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                1 => lines.insert(to, lines[at].clone()),
                2 => lines.swap(at, to),
                _ => {
                    let cut = usize::from(text.len() as u8) % (lines[at].len() + 1);
                    let keep = lines[at].char_indices().nth(cut).map_or(lines[at].len(), |(index, _)| index);
                    lines[at] = format!("{}{text}", &lines[at][..keep]);
                }
            }
        }
        lines.join("\r\n") + "\r\n"
    })
}

fn parse_and_answer(text: &str) {
    if let Ok(offer) = Offer::parse(text) {
        let mut options = HashMap::new();
        for (index, section) in offer.sending_sections().enumerate() {
            let one = ReceiveOptions {
                track: Some(TrackKey(index as u64)),
                codec: None,
                red: true,
                stereo: true,
                dtx: false,
            };
            options.insert(section.mid.clone(), one);
        }
        let answer = answer(&offer, &options);
        let ours = description::Description::parse(&answer.sdp, 1 << 20).unwrap();
        assert_eq!(ours.sections.len(), offer.sections().len(), "an answer has its offer's m-lines");
        assert!(answer.receive.iter().all(|section| !section.codecs.is_empty()));
    }
    let (mut subscriber, _) = subscriber(&[(1, Codec::Opus), (2, Codec::Vp8), (3, Codec::H264)]);
    with_host(|host| subscriber.offer(host));
    let _ = subscriber.answer(text);
    with_host(|host| subscriber.offer(host));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,400}") {
        parse_and_answer(&text);
    }

    #[test]
    fn no_sdp_lines_make_the_parser_panic(body in proptest::collection::vec("[vostcmabkir]=[ -~]{0,40}", 0..30)) {
        let text = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}\r\n", body.join("\r\n"));
        parse_and_answer(&text);
    }

    #[test]
    fn no_mutated_description_makes_us_panic_or_answer_wrongly(text in mutated_description()) {
        parse_and_answer(&text);
    }

    #[test]
    fn subscriber_handles_any_order_of_events(steps in proptest::collection::vec((0_u8..4, 1_u64..12), 1..60)) {
        let (mut subscriber, mut rng) = subscriber(&[]);
        let mut accepted = std::collections::BTreeSet::new();
        let mut offered = None;
        for (step, track) in steps {
            let codec = if track % 2 == 0 { Codec::Vp8 } else { Codec::Opus };
            match step {
                0 => { subscriber.add(wanted(track, codec), &mut rng); }
                1 => { subscriber.remove(TrackKey(track)); accepted.remove(&track); }
                2 => {
                    if offered.is_none() {
                        offered = Some(with_host(|host| subscriber.offer(host)));
                    }
                }
                _ => {
                    let Some(offer): Option<SubscriberOffer> = offered.take() else { continue };
                    let rejected = track.to_string();
                    let answered = subscriber.answer(&answer_of_client(&offer.sdp, &[&rejected])).unwrap();
                    for one in answered.accepted {
                        prop_assert!(accepted.insert(one.track.0), "a track is accepted once");
                        prop_assert!(offer.tracks.contains_key(&one.mid));
                    }
                    for one in answered.refused {
                        accepted.remove(&one.track.0);
                        prop_assert!(!subscriber.contains(one.track));
                    }
                }
            }
            prop_assert!(accepted.iter().all(|track| subscriber.contains(TrackKey(*track))));
        }
    }
}
