use proptest::prelude::*;
use systir_forwarding::Core;
use systir_rtp::packet::{Kind, LayerSet};
use systir_rtp::{ExtensionIds, HeaderFields, write_header};

use super::*;
use systir_media_control::ReceiveSsrc;

const MID: u8 = 4;
const RID: u8 = 10;
const REPAIRED: u8 = 11;

fn section(mid: &str, track: u64, rids: &[&str]) -> ReceiveSection {
    ReceiveSection {
        mid: mid.into(),
        track: Some(TrackKey(track)),
        codecs: vec![ReceiveCodec { pt: 96, codec: Codec::Vp8, rtx_pt: Some(97), nack: true }],
        extensions: ReceiveExtensions {
            mid: Some(MID),
            rid: Some(RID),
            repaired_rid: Some(REPAIRED),
            ..ReceiveExtensions::default()
        },
        rids: rids.iter().zip(0..).map(|(rid, layer)| ((*rid).to_owned(), Layer(layer))).collect(),
        ssrcs: Vec::new(),
    }
}

struct Fixture {
    ingress: Ingress,
    tracks: Vec<TrackId>,
    now: Instant,
}

impl Fixture {
    fn new(sections: Vec<ReceiveSection>) -> Self {
        let mut core = Core::new(1);
        let now = Instant::now();
        let mut add = || core.add_track(1, Kind::Video, Codec::Vp8, LayerSet(7));
        let tracks: Vec<_> = (0..3).map(|_| add()).collect();
        let mut fixture = Self { ingress: Ingress::new(now), tracks, now };
        fixture.describe(sections);
        fixture
    }

    fn describe(&mut self, sections: Vec<ReceiveSection>) {
        let tracks = self.tracks.clone();
        self.ingress.describe(self.now, sections, |key| {
            Some(TrackRef { id: *tracks.get(key.0 as usize)?, codec: Codec::Vp8 })
        });
    }

    fn accept(&mut self, packet: &[u8]) -> Result<(TrackId, Layer, u16), Refused> {
        let accepted = self.ingress.accept(self.now, packet, |_, _| {})?;
        Ok((accepted.track, accepted.layer, accepted.packet.seq as u16))
    }
}

fn packet(ssrc: u32, payload_type: u8, seq: u16, extra: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let fields = HeaderFields { payload_type, marker: false, seq, timestamp: 1, ssrc };
    write_header(&mut bytes, &fields, &ExtensionIds::default(), &Extensions::default(), extra);
    bytes.extend_from_slice(&[0, 5, 1, 2, 3]);
    bytes
}

#[test]
fn layer_is_found_by_mid_and_rid_and_then_by_ssrc() {
    let mut fixture = Fixture::new(vec![section("0", 0, &["q", "h"]), section("1", 1, &["q", "h"])]);
    let track = fixture.tracks[1];
    assert_eq!(fixture.accept(&packet(7, 96, 1, &[])), Err(Refused::Unmatched), "two sections use 96");
    let named = packet(7, 96, 1, &[(MID, b"1"), (RID, b"h")]);
    assert_eq!(fixture.accept(&named), Ok((track, Layer(1), 1)));
    assert_eq!(fixture.accept(&packet(7, 96, 2, &[])), Ok((track, Layer(1), 2)));
    assert_eq!(fixture.ingress.ssrc(track, Layer(1)), Some(7));
    let unknown = packet(8, 96, 1, &[(MID, b"1"), (RID, b"x")]);
    assert_eq!(fixture.accept(&unknown), Err(Refused::Unmatched), "an unknown rid");
}

#[test]
fn retransmission_gets_its_original_number() {
    let mut fixture = Fixture::new(vec![section("0", 0, &["q", "h"])]);
    let rtx = packet(9, 97, 40_000, &[(MID, b"0"), (REPAIRED, b"h")]);
    assert_eq!(fixture.accept(&rtx), Err(Refused::NothingToForward), "the layer has no packets yet");
    fixture.accept(&packet(7, 96, 6, &[(MID, b"0"), (RID, b"h")])).unwrap();
    assert_eq!(fixture.accept(&rtx), Ok((fixture.tracks[0], Layer(1), 5)));
    let accepted = fixture.ingress.accept(fixture.now, &rtx, |_, _| {}).unwrap();
    assert_eq!(accepted.packet.payload, [1, 2, 3]);
}

#[test]
fn stream_announced_by_ssrc_needs_no_extension() {
    let mut announced = section("0", 2, &[]);
    announced.ssrcs = vec![ReceiveSsrc { ssrc: 7, rtx_ssrc: Some(8), layer: Layer(0) }];
    let mut fixture = Fixture::new(vec![announced]);
    assert_eq!(fixture.ingress.ssrc(fixture.tracks[2], Layer(0)), Some(7));
    assert_eq!(fixture.accept(&packet(7, 96, 6, &[])), Ok((fixture.tracks[2], Layer(0), 6)));
    assert_eq!(fixture.accept(&packet(8, 97, 1, &[])), Ok((fixture.tracks[2], Layer(0), 5)));
}

#[test]
fn single_section_is_found_by_its_payload_type() {
    let mut fixture = Fixture::new(vec![section("0", 0, &[])]);
    assert_eq!(fixture.accept(&packet(7, 96, 6, &[])), Ok((fixture.tracks[0], Layer(0), 6)));
    assert_eq!(fixture.accept(&packet(7, 100, 7, &[])), Err(Refused::Unmatched));
}

#[test]
fn new_description_keeps_remaining_sections_and_removes_others() {
    let (first, second) = (section("0", 0, &["q"]), section("1", 1, &["q"]));
    let mut fixture = Fixture::new(vec![first.clone(), second.clone()]);
    fixture.accept(&packet(7, 96, 6, &[(MID, b"0"), (RID, b"q")])).unwrap();
    fixture.accept(&packet(8, 96, 6, &[(MID, b"1"), (RID, b"q")])).unwrap();
    fixture.describe(vec![second, section("2", 2, &["q"])]);
    assert_eq!(fixture.accept(&packet(8, 96, 7, &[])), Ok((fixture.tracks[1], Layer(0), 7)));
    assert_eq!(fixture.accept(&packet(7, 96, 7, &[])), Err(Refused::Unmatched));
    let moved = packet(7, 96, 7, &[(MID, b"2"), (RID, b"q")]);
    assert_eq!(fixture.accept(&moved), Ok((fixture.tracks[2], Layer(0), 7)));
    fixture.ingress.track_removed(fixture.tracks[2]);
    assert_eq!(fixture.accept(&moved), Err(Refused::Unmatched));
}

#[test]
fn rids_take_precedence_over_the_order_of_ssrcs() {
    let mut firefox = section("0", 0, &["q", "h", "f"]);
    let announced = |ssrc, layer| ReceiveSsrc { ssrc, rtx_ssrc: Some(ssrc + 100), layer: Layer(layer) };
    firefox.ssrcs = vec![announced(1, 0), announced(2, 1), announced(3, 2)];
    let mut fixture = Fixture::new(vec![firefox]);
    let track = fixture.tracks[0];
    assert_eq!(fixture.accept(&packet(1, 96, 9, &[(RID, b"f")])), Ok((track, Layer(2), 9)));
    assert_eq!(fixture.ingress.ssrc(track, Layer(2)), Some(1));
    assert_eq!(fixture.accept(&packet(1, 96, 10, &[])), Ok((track, Layer(2), 10)));
    assert_eq!(fixture.accept(&packet(101, 97, 1, &[])), Ok((track, Layer(2), 5)), "its RTX stream follows");
    assert_eq!(fixture.accept(&packet(2, 96, 4, &[])), Ok((track, Layer(1), 4)), "as announced");
}

#[test]
fn replaced_stream_returns_only_once_the_new_one_is_idle() {
    let mut fixture = Fixture::new(vec![section("0", 0, &[])]);
    let track = fixture.tracks[0];
    let named = |ssrc, seq| packet(ssrc, 96, seq, &[(MID, b"0")]);
    fixture.accept(&named(7, 10)).unwrap();
    let first = fixture.ingress.accept(fixture.now, &named(7, 11), |_, _| {}).unwrap().packet.seq;
    let second = fixture.ingress.accept(fixture.now, &named(8, 40_000), |_, _| {}).unwrap().packet.seq;
    assert!(second > first, "the track's numbers continue");
    assert_eq!(fixture.ingress.ssrc(track, Layer(0)), Some(8));
    assert_eq!(fixture.accept(&named(7, 12)), Err(Refused::NothingToForward), "the new stream is not idle");
    fixture.now += STREAM_IDLE;
    assert_eq!(fixture.accept(&named(7, 14)), Ok((track, Layer(0), 14)));
}

#[test]
fn new_ssrc_of_a_track_continues_its_numbers() {
    let described = |ssrc| {
        let mut section = section("0", 0, &[]);
        section.ssrcs = vec![ReceiveSsrc { ssrc, rtx_ssrc: None, layer: Layer(0) }];
        section
    };
    let mut fixture = Fixture::new(vec![described(7)]);
    let seq = |fixture: &mut Fixture, packet: &[u8]| {
        fixture.ingress.accept(fixture.now, packet, |_, _| {}).map(|accepted| accepted.packet.seq)
    };
    let first = seq(&mut fixture, &packet(7, 96, 50_000, &[])).unwrap();
    fixture.describe(vec![described(8)]);
    assert_eq!(
        seq(&mut fixture, &packet(7, 96, 50_001, &[])),
        Err(Refused::NothingToForward),
        "the replaced stream"
    );
    assert!(seq(&mut fixture, &packet(8, 96, 10, &[])).unwrap() > first);
}

#[test]
fn another_codec_is_reported_at_intervals_and_not_for_retransmissions() {
    let mut both = section("0", 0, &[]);
    both.codecs.push(ReceiveCodec { pt: 102, codec: Codec::H264, rtx_pt: Some(103), nack: true });
    let mut fixture = Fixture::new(vec![both]);
    let track = fixture.tracks[0];
    let other = |report| Err(Refused::OtherCodec { track, codec: Codec::H264, report });
    assert_eq!(fixture.accept(&packet(9, 103, 1, &[])), Err(Refused::NothingToForward));
    assert_eq!(fixture.accept(&packet(7, 102, 1, &[])), other(true));
    assert_eq!(fixture.accept(&packet(7, 102, 2, &[])), other(false));
    fixture.now += CODEC_REPORT_INTERVAL;
    assert_eq!(fixture.accept(&packet(7, 102, 3, &[])), other(true));
    assert_eq!(fixture.accept(&packet(7, 120, 4, &[])), Err(Refused::Unmatched));
    assert_eq!(fixture.accept(&packet(7, 96, 4, &[])), Ok((track, Layer(0), 4)));
}

#[test]
fn number_of_streams_is_bounded() {
    let mut fixture = Fixture::new(vec![section("0", 0, &["q"])]);
    let rtx = |ssrc| packet(ssrc, 97, 1, &[(MID, b"0"), (REPAIRED, b"q")]);
    for ssrc in 0..MAX_STREAMS as u32 {
        assert_ne!(fixture.accept(&rtx(ssrc)), Err(Refused::TooManyStreams));
    }
    assert_eq!(fixture.accept(&rtx(1_000_000)), Err(Refused::TooManyStreams));
}

proptest! {
    #[test]
    fn arbitrary_packets_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), valid: bool) {
        let mut fixture = Fixture::new(vec![section("0", 0, &["q", "h"]), section("1", 1, &[])]);
        if valid && bytes.len() > 1 {
            bytes[0] = 0x90;
            bytes[1] = 96 + bytes[1] % 2;
        }
        let _ = fixture.accept(&bytes);
    }
}
