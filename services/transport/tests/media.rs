//! SRTP against str0m, an independent implementation.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Pair, Setup};
use str0m::{
    Event,
    media::MediaKind,
    rtp::{ExtensionValues, RtpWrite},
};
use systir_rtp::rtcp::{self, RtcpPacket};
use systir_rtp::twcc::TwccRecorder;
use systir_transport::{OpenError, SealError};

fn rtp(ssrc: u32, seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 111];
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&(u32::from(seq) * 960).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn with_audio(pair: &mut Pair) {
    let mut api = pair.rtc.direct_api();
    api.declare_media("aud".into(), MediaKind::Audio);
    api.expect_stream_rx(42.into(), None, "aud".into(), None);
    api.declare_stream_tx(77.into(), None, "aud".into(), None);
}

fn write(pair: &mut Pair, seq: u64, payload: &[u8]) {
    let now = pair.now;
    let mut api = pair.rtc.direct_api();
    let stream = api.stream_tx(&77.into()).unwrap();
    let packet = RtpWrite::new(111.into(), seq.into(), (seq * 960) as u32, now, payload.to_vec());
    stream.write_rtp(packet.ext_vals(ExtensionValues::default()));
}

#[test]
fn media_passes_in_both_directions_across_a_rollover() {
    for client_is_active in [true, false] {
        let mut pair = Pair::connected(&Setup { client_is_active });
        with_audio(&mut pair);
        pair.step(Duration::from_millis(10));
        for n in 0..100_u16 {
            let mut out = rtp(42, 65_500_u16.wrapping_add(n), &[n as u8; 100]);
            pair.transport.seal_rtp(&mut out, 0).unwrap();
            pair.deliver(&out);
            write(&mut pair, 65_500 + u64::from(n), &[n as u8; 50]);
            pair.step(Duration::from_millis(20));
        }
        let got: Vec<_> = pair
            .client_events
            .iter()
            .filter_map(|event| match event {
                Event::RtpPacket(packet) => Some(packet.payload.to_vec()),
                _ => None,
            })
            .collect();
        assert_eq!(got, (0..100).map(|n| vec![n; 100]).collect::<Vec<_>>());
        let ours: Vec<_> = pair.rtp.iter().map(|packet| packet[packet.len() - 50..].to_vec()).collect();
        assert_eq!(ours, (0..100).map(|n| vec![n; 50]).collect::<Vec<_>>());
    }
}

#[test]
fn replayed_packet_of_the_client_is_refused() {
    let mut pair = Pair::connected(&Setup::default());
    with_audio(&mut pair);
    pair.step(Duration::from_millis(10));
    write(&mut pair, 1, b"once");
    pair.run_until("a packet of the client", |pair| !pair.rtp.is_empty());
    let mut replay = pair.sealed.iter().find(|packet| packet[1] == 111).unwrap().clone();
    assert_eq!(pair.transport.open_rtp(&mut replay), Err(OpenError::Replayed));
}

#[test]
fn rtcp_passes_in_both_directions() {
    let mut pair = Pair::connected(&Setup::default());
    with_audio(&mut pair);
    pair.step(Duration::from_millis(10));
    for seq in 0..300 {
        write(&mut pair, seq, b"media");
        pair.step(Duration::from_millis(20));
    }
    let from_client: Vec<_> = pair.rtcp.iter().flat_map(|packet| rtcp::parse(packet)).collect();
    assert!(
        from_client.iter().any(|packet| matches!(packet, RtcpPacket::SenderReport { ssrc: 77, .. })),
        "{from_client:?}"
    );
    let mut out = Vec::new();
    rtcp::write_receiver_report(&mut out, 1, &[], "systir").unwrap();
    rtcp::write_pli(&mut out, 1, 77).unwrap();
    pair.transport.seal_rtcp(&mut out, 0).unwrap();
    pair.deliver(&out);
    pair.run_until("a key frame request", |pair| {
        pair.client_events.iter().any(|event| matches!(event, Event::KeyframeRequest(_)))
    });
}

#[test]
fn bandwidth_estimate_of_the_client_follows_our_transport_wide_feedback() {
    let setup = Setup::default();
    let mut pair = Pair::with_rtc(&setup, |config| config.enable_bwe(Some(str0m::bwe::Bitrate::kbps(300))));
    pair.describe_client(&setup);
    pair.run_until("connected", |pair| pair.is_connected() && pair.rtc.is_connected());
    let mut api = pair.rtc.direct_api();
    api.declare_media("vid".into(), MediaKind::Video);
    api.declare_stream_tx(88.into(), None, "vid".into(), None);
    pair.rtc.bwe().set_bitrate(str0m::bwe::Bitrate::mbps(1), str0m::bwe::Bitrate::mbps(3));
    let mut recorder = TwccRecorder::new(pair.now);
    let mut seq = 0;
    pair.run_until("an estimate above the start", |pair| {
        let now = pair.now;
        let mut api = pair.rtc.direct_api();
        let stream = api.stream_tx(&88.into()).unwrap();
        seq += 1;
        let packet = RtpWrite::new(96.into(), seq.into(), seq as u32 * 900, now, vec![0; 1000]);
        stream.write_rtp(packet);
        for packet in std::mem::take(&mut pair.rtp) {
            if let Some(number) = transport_cc(&packet) {
                recorder.record(now, number, 88);
            }
        }
        let mut out = Vec::new();
        while recorder.write(now, 1, &mut out) {
            pair.transport.seal_rtcp(&mut out, 0).unwrap();
            pair.deliver(&out);
            out.clear();
        }
        pair.client_events.iter().any(|event| {
            matches!(event, Event::EgressBitrateEstimate(str0m::bwe::BweKind::Twcc { estimate, .. })
                if estimate.as_f64() > 400_000.0)
        })
    });
}

/// The transport-wide number in a one-byte-form extension 3, str0m's default id.
fn transport_cc(packet: &[u8]) -> Option<u16> {
    if packet[0] & 0x10 == 0 || packet[12..14] != [0xbe, 0xde] {
        return None;
    }
    let words = usize::from(u16::from_be_bytes([packet[14], packet[15]]));
    let mut ext = &packet[16..16 + 4 * words];
    while let [first, rest @ ..] = ext {
        let (id, len) = (first >> 4, usize::from(first & 15) + 1);
        if id == 0 {
            ext = rest;
            continue;
        }
        if id == 3 {
            return Some(u16::from_be_bytes([rest[0], rest[1]]));
        }
        ext = &rest[len..];
    }
    None
}

#[test]
fn nothing_is_sealed_or_opened_without_keys() {
    let mut pair = Pair::new(&Setup::default());
    let mut packet = rtp(42, 1, b"x");
    assert_eq!(pair.transport.seal_rtp(&mut packet, 0), Err(SealError::NotConnected));
    assert_eq!(pair.transport.open_rtp(&mut packet), Err(OpenError::NotConnected));
    assert_eq!(pair.transport.open_rtcp(&mut packet), Err(OpenError::NotConnected));
    let mut pair = Pair::connected(&Setup::default());
    pair.transport.close(pair.now);
    assert_eq!(pair.transport.seal_rtp(&mut packet, 0), Err(SealError::NotConnected));
}
