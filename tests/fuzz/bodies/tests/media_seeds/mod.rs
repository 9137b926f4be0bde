//! Seeds of media: RTP, RTCP, SRTP, SCTP, links.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use systir_cascade::flow::{FlowId, Parity};
use systir_cascade::frame::{split, write_packet};
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Packet};
use systir_rtp::rtcp::{
    ReportBlock, write_bye, write_nack, write_pli, write_receiver_report, write_sender_report,
};
use systir_rtp::twcc::TwccRecorder;
use systir_rtp::{ExtensionIds, HeaderFields, write_header, write_link_packet};

use super::{Seed, piece};

const VP8_KEY_FRAME: [u8; 16] = [0x90, 0x80, 1, 0x10, 0x02, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0xe0, 1, 7, 8, 9];
/// With the ids of `systir_worker::fuzz`.
const IDS: ExtensionIds = ExtensionIds {
    audio_level: Some(1),
    capture_time: Some(2),
    orientation: Some(13),
    dependency: Some(12),
    playout_delay: Some(5),
};

fn packet(payload_type: u8, seq: u16, ssrc: u32, extra: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let fields = HeaderFields { payload_type, marker: true, seq, timestamp: 90_000, ssrc };
    let ext = match payload_type {
        111 => {
            Extensions { audio_level: Some(AudioLevel { level: 30, voice: true }), ..Extensions::default() }
        }
        35 => Extensions { dependency: Some(&[0xc0, 0, 1, 0x80]), ..Extensions::default() },
        _ => Extensions {
            orientation: Some(1),
            playout_delay: Some([0, 0, 10]),
            capture_time: Some(&[1; 16]),
            ..Extensions::default()
        },
    };
    let mut out = Vec::new();
    write_header(&mut out, &fields, &IDS, &ext, extra);
    out.extend_from_slice(payload);
    out
}

fn audio() -> Vec<u8> {
    packet(111, 7, 0x51, &[(4, b"0"), (3, &[0, 9])], &[0x78; 40])
}

fn layer(rid: &[u8], seq: u16, ssrc: u32) -> Vec<u8> {
    packet(96, seq, ssrc, &[(4, b"1"), (10, rid), (3, &[0, 10])], &VP8_KEY_FRAME)
}

fn retransmission() -> Vec<u8> {
    let payload = [&[0, 8], VP8_KEY_FRAME.as_slice()].concat();
    packet(97, 3, 0x62, &[(4, b"1"), (11, b"h")], &payload)
}

fn reports() -> Vec<(&'static str, Vec<u8>)> {
    let block = ReportBlock {
        ssrc: 0x61,
        fraction_lost: 12,
        cumulative_lost: 5,
        extended_seq: 70_000,
        ..ReportBlock::default()
    };
    let made = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let now = Instant::now();
    let arrivals = made(&|out| {
        let mut recorder = TwccRecorder::new(now);
        for seq in [3, 4, 5, 9, 10, 11, 40] {
            recorder.record(now + Duration::from_millis(u64::from(seq) * 7), seq, 0x61);
        }
        recorder.write(now + Duration::from_secs(1), 1, out);
    });
    vec![
        (
            "sender-report",
            made(&|out| write_sender_report(out, 0x51, 1 << 40, 48_000, 90, 9_000, "cname").unwrap()),
        ),
        ("receiver-report", made(&|out| write_receiver_report(out, 1, &[block, block], "cname").unwrap())),
        ("nack", made(&|out| write_nack(out, 1, 0x61, [7, 8, 20, 200]).unwrap())),
        ("pli", made(&|out| write_pli(out, 1, 0x61).unwrap())),
        ("bye", made(&|out| write_bye(out, 0x61).unwrap())),
        ("arrivals", arrivals),
    ]
}

fn rtp() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("audio", audio()),
        ("simulcast", layer(b"h", 8, 0x61)),
        ("retransmission", retransmission()),
        ("av1", packet(35, 9, 0x71, &[(4, b"3")], &[0x18, 0x0a, 0x0b, 0, 0, 0])),
    ]
}

/// SRTP: the profile, then plain packets that the peer seals, with and without a change, and a datagram without keys.
fn srtp(profile: u8) -> Vec<u8> {
    let mut seed = vec![profile];
    for (change, packet) in [(0, audio()), (3, layer(b"q", 1, 0x61)), (1, audio())] {
        seed.extend([2, change, 0, 5]);
        seed.extend(piece(&packet));
    }
    for (_, report) in reports().iter().take(3) {
        seed.extend([1, 0, 0, 0]);
        seed.extend(piece(report));
    }
    seed.push(0);
    seed.extend(piece(&audio()));
    seed
}

/// Steps of three bytes: what happens, the address, the priority.
fn ice() -> Vec<(&'static str, Vec<u8>)> {
    const CHECK: u8 = 4;
    const NOMINATES: u8 = 12;
    vec![
        ("joins", vec![CHECK, 1, 30, 2, 0, 0, NOMINATES, 1, 30, 0, 80, 0, 2, 0, 0]),
        (
            "forged",
            vec![NOMINATES, 1, 30, 2, 0, 0, NOMINATES, 9, 40, NOMINATES, 9, 40, 0, 20, 0, NOMINATES, 1, 30],
        ),
        (
            "late-answers",
            vec![NOMINATES, 1, 10, NOMINATES, 2, 30, NOMINATES | 16, 1, 20, 2, 2, 0, 2, 1, 0, 2, 0, 0],
        ),
        ("restarts", vec![NOMINATES, 1, 30, 2, 0, 0, 1, 0, 5, CHECK, 2, 10, 2, 0, 0, NOMINATES, 2, 10]),
        (
            "answers-no-more",
            vec![NOMINATES, 1, 30, 2, 0, 0, 0, 255, 0, NOMINATES, 1, 30, 0, 255, 0, 0, 255, 0],
        ),
    ]
}

/// One chunk of SCTP (RFC 9260 section 3.2).
fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).expect("a short chunk");
    let mut chunk = vec![kind, flags];
    chunk.extend(length.to_be_bytes());
    chunk.extend_from_slice(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

/// DATA: TSNs count from the peer's first one, and its association used two for the channel.
fn data(tsn: u32, stream: u16, seq: u16, ppid: u32, payload: &[u8]) -> Vec<u8> {
    let fields =
        [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &seq.to_be_bytes(), &ppid.to_be_bytes(), payload];
    chunk(0, 3, &fields.concat())
}

fn established_sctp() -> Vec<(&'static str, Vec<u8>)> {
    let sent = |chunks: &[Vec<u8>]| {
        let one = |chunk: &Vec<u8>| [&[4, 0], piece(chunk).as_slice()].concat();
        chunks.iter().map(one).collect::<Vec<_>>().concat()
    };
    let open = [&[3, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0], b"other".as_slice()].concat();
    let numbers =
        |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>();
    let reset = [&[0, 13, 0, 18], numbers(&[1, 0, 3]).as_slice(), &[0, 0, 0, 0]].concat();
    let messages = [vec![1, 0], piece(b"from the peer"), vec![2, 0], piece(b"an answer"), vec![3, 0, 0, 50]];
    vec![
        ("messages", messages.concat()),
        (
            "channel",
            sent(&[data(1, 2, 0, 50, &open), data(2, 2, 1, 53, b"text"), data(4, 2, 3, 51, b"later")]),
        ),
        ("forward", sent(&[data(3, 0, 5, 53, b"after a gap"), chunk(192, 0, &numbers(&[2, 4]))])),
        ("acknowledge", sent(&[chunk(3, 0, &numbers(&[0, 100_000, 0x0001_0001, 0x0002_0003, 9]))])),
        ("reset", sent(&[chunk(130, 0, &reset)])),
        (
            "heartbeat",
            sent(&[chunk(4, 0, &[0, 1, 0, 8, 1, 2, 3, 4]), chunk(5, 0, &[0, 1, 0, 8, 1, 2, 3, 4])]),
        ),
        ("shutdown", sent(&[chunk(7, 0, &numbers(&[0])), chunk(14, 0, &[])])),
        ("abort", sent(&[chunk(6, 0, &[0, 12, 0, 4])])),
        (
            "bundle",
            sent(&[
                [data(1, 0, 0, 53, b"one"), data(2, 0, 1, 53, b"two"), chunk(4, 0, &[0, 1, 0, 4])].concat()
            ]),
        ),
    ]
}

fn ingress() -> Vec<(&'static str, Vec<u8>)> {
    let arrives = |packet: &[u8]| [&[7], piece(packet).as_slice()].concat();
    let simulcast = [layer(b"q", 1, 0x60), layer(b"h", 8, 0x61), layer(b"f", 4, 0x63), retransmission()];
    let by_ssrc = [packet(125, 1, 0x1001, &[], &[0x65, 1, 2]), packet(107, 1, 0x2001, &[], &[0, 1, 0x65, 1])];
    let all = |packets: &[Vec<u8>]| packets.iter().map(|packet| arrives(packet)).collect::<Vec<_>>().concat();
    vec![
        ("audio", all(&[audio(), packet(63, 8, 0x51, &[], &[0x6f, 0, 0, 4, 0x6f, 1, 2, 3, 4, 5])])),
        ("simulcast", all(&simulcast)),
        ("by-ssrc", all(&by_ssrc)),
        (
            "other-codec",
            [&[1, 0, 1, 3], all(&[packet(35, 1, 0x71, &[(4, b"3")], &[0x18, 1])]).as_slice()].concat(),
        ),
        (
            "described-again",
            [all(&simulcast), vec![0, 200, 1, 0, 2, 1, 5, 2, 1, 0x82, 1], all(&simulcast)].concat(),
        ),
        ("reports", [all(&simulcast), vec![3, 0, 0, 0, 0x61, 1, 1, 0, 50]].concat()),
    ]
}

fn link_packets() -> Vec<(&'static str, Vec<u8>)> {
    let written = |codec, ext: Extensions<'static>, payload: &'static [u8]| {
        let packet = Packet { codec, seq: 70_000, timestamp: 90_000, marker: true, ext, payload };
        let mut out = Vec::new();
        write_link_packet(&packet, 9, &mut out);
        out
    };
    let level = Some(AudioLevel { level: 20, voice: false });
    vec![
        (
            "opus",
            written(Codec::Opus, Extensions { audio_level: level, ..Extensions::default() }, &[0x78; 30]),
        ),
        (
            "vp8",
            written(
                Codec::Vp8,
                Extensions { capture_time: Some(&[3; 8]), ..Extensions::default() },
                &VP8_KEY_FRAME,
            ),
        ),
        (
            "av1",
            written(
                Codec::Av1,
                Extensions { dependency: Some(&[0xc0, 0, 1]), ..Extensions::default() },
                &[0x18, 1],
            ),
        ),
    ]
}

/// Several frames in a row, as the link gets them.
fn frames() -> Vec<u8> {
    let mut out = Vec::new();
    for (_, packet) in link_packets() {
        let mut frame = BytesMut::new();
        write_packet(&mut frame, FlowId::new(Parity::Greater, 1, 70).expect("a flow"), &packet);
        let parts = split(&frame, 5, 60).expect("two parts");
        out.extend(parts.iter().rev().flat_map(|part| piece(part)));
        out.extend(piece(&frame));
    }
    out
}

pub(super) fn all() -> Vec<Seed> {
    let named = |target: &'static str, seeds: Vec<(&'static str, Vec<u8>)>| {
        seeds.into_iter().map(move |(name, bytes)| (target, name.to_owned(), bytes)).collect::<Vec<_>>()
    };
    let profiles =
        ["gcm-128", "gcm-256", "sha1"].into_iter().zip(0..).map(|(name, number)| (name, srtp(number)));
    [
        named("srtp", profiles.collect()),
        named("ice", ice()),
        named("rtp_header", rtp()),
        named("rtcp", reports()),
        named("established_sctp", established_sctp()),
        named("ingress", ingress()),
        named("link_packet", link_packets()),
        named("frame", vec![("all", frames())]),
    ]
    .concat()
}
