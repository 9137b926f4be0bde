//! Input on a media socket: STUN, DTLS, SCTP, RTCP.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use systir_rtp::rtcp::{RtcpPacket, parse};
use systir_rtp::twcc::Feedback;
use systir_transport::fuzz::{DtlsStep, IceStep, SctpStep, SrtpPair};
use systir_transport::{Certificate, IceCredentials, Remote, SrtpProfile, Transport, TransportConfig};

use crate::reader::Reader;

#[expect(clippy::expect_used, reason = "without randomness there is nothing to fuzz")]
static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(|| Certificate::generate().expect("randomness"));
#[expect(clippy::expect_used, reason = "without randomness there is nothing to fuzz")]
static PEER_CERTIFICATE: LazyLock<Certificate> =
    LazyLock::new(|| Certificate::generate().expect("randomness"));

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.into(), pwd: "0123456789abcdefghijkl".into() }
}

fn remote() -> Remote {
    Remote { ice: credentials("them"), fingerprint: [0; 32], client_is_active: true }
}

fn transport(now: Instant) -> Transport {
    let config = TransportConfig {
        local: credentials("ours"),
        certificate: CERTIFICATE.clone(),
        candidates: vec![address(1)],
        mtu: 1200,
    };
    Transport::new(config, now)
}

fn drain(transport: &mut Transport) {
    let mut out = Vec::new();
    while transport.poll_transmit(&mut out).is_some() {
        out.clear();
    }
    while transport.poll_event().is_some() {}
}

/// Compound RTCP and transport-wide feedback.
pub fn rtcp(bytes: &[u8]) {
    for packet in parse(bytes) {
        match packet {
            RtcpPacket::Nack { seqs, .. } => assert!(seqs.count() <= 17 * bytes.len()),
            RtcpPacket::SenderReport { blocks, .. } | RtcpPacket::ReceiverReport { blocks, .. } => {
                assert!(blocks.count() < 32);
            }
            RtcpPacket::TransportCc { fci } => {
                if let Some(feedback) = Feedback::parse(fci) {
                    assert!(feedback.packets().count() <= 65_535);
                }
            }
            _ => {}
        }
    }
}

/// Data channel establishment.
pub fn dcep(bytes: &[u8]) {
    systir_transport::fuzz::dcep(bytes);
}

/// An SCTP association that gets any chunks, in packets with a valid checksum.
pub fn sctp(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let packets = std::iter::from_fn(|| (!rest.is_empty()).then(|| rest.piece().to_vec()));
    systir_transport::fuzz::sctp(packets);
}

/// An SCTP association that is up: a peer that may be any client sends any chunks.
pub fn established_sctp(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let steps = std::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let (kind, number) = (rest.byte(), rest.byte());
        Some(match kind % 8 {
            0 => SctpStep::Wait(Duration::from_millis(u64::from(number) * 20)),
            1 => SctpStep::Message(rest.piece()),
            2 => SctpStep::Answer(rest.piece()),
            3 => SctpStep::Open(if number % 2 == 0 { "_lossy" } else { "systir" }),
            _ => SctpStep::Chunks(rest.piece()),
        })
    });
    // The time that one input can take is bounded.
    systir_transport::fuzz::established_sctp(steps.take(200));
}

/// ICE with a peer that knows the passwords, and forges addresses.
pub fn ice(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let steps = std::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let (kind, from, priority) = (rest.byte(), rest.byte(), rest.byte());
        Some(match kind % 8 {
            0 => IceStep::Wait(Duration::from_millis(u64::from(from) * 60)),
            1 => IceStep::Restart(priority),
            2..4 => IceStep::Answer(from),
            _ => IceStep::Check { from, to: kind >> 4, priority, nominates: kind & 8 != 0 },
        })
    });
    systir_transport::fuzz::ice(steps);
}

/// SRTP and SRTCP of a peer whose keys we have. Datagrams arrive as they are, or sealed by the peer and changed on the way.
pub fn srtp(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let profile = match rest.byte() % 3 {
        0 => SrtpProfile::Aes128Gcm,
        1 => SrtpProfile::Aes256Gcm,
        _ => SrtpProfile::Aes128CmSha1,
    };
    let Some(mut pair) = SrtpPair::new(profile) else { unreachable!("the keys are long enough") };
    while !rest.is_empty() {
        let kind = rest.byte();
        if kind % 4 == 0 {
            pair.open(rest.piece());
            continue;
        }
        let (change, place) = (rest.byte(), usize::from(rest.number()));
        pair.pass(rest.piece(), kind % 2 == 1, |sealed| change_datagram(sealed, change, place));
    }
}

/// What a network or an attacker does with a datagram.
fn change_datagram(datagram: &mut Vec<u8>, change: u8, place: usize) {
    match change % 4 {
        0 => {}
        1 => datagram.truncate(place),
        2 => datagram.extend(std::iter::repeat_n(change, place % 32)),
        _ => {
            if let Some(byte) = place.checked_rem(datagram.len()).and_then(|place| datagram.get_mut(place)) {
                *byte ^= change | 1;
            }
        }
    }
}

/// A DTLS handshake and what follows, with a peer whose datagrams are lost, changed and forged on the way.
pub fn dtls(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let choices = rest.byte();
    let announced = if choices & 1 == 0 { PEER_CERTIFICATE.fingerprint() } else { [0; 32] };
    let steps = std::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let (kind, number) = (rest.byte(), rest.byte());
        Some(match kind % 16 {
            0 => DtlsStep::Datagram(rest.piece()),
            1 => DtlsStep::Twice,
            2 => DtlsStep::Later,
            3 => DtlsStep::Lost,
            4 => DtlsStep::Data(rest.piece()),
            5 => DtlsStep::Wait(Duration::from_millis(u64::from(number) * 20)),
            6..10 => DtlsStep::Changed(change_datagram, number, usize::from(rest.number())),
            _ => DtlsStep::Next,
        })
    });
    // The time that one input can take is bounded.
    systir_transport::fuzz::dtls(
        &CERTIFICATE,
        &PEER_CERTIFICATE,
        announced,
        choices & 2 != 0,
        steps.take(64),
    );
}

/// A transport that has the peer's description and receives any datagrams.
pub fn datagrams(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut transport = transport(now);
    transport.set_remote(now, remote());
    let mut rest = Reader(bytes);
    while !rest.is_empty() {
        let datagram = rest.piece();
        transport.handle(now, address(2), address(1), datagram);
        let _ = transport.open_rtp(&mut datagram.to_vec());
        let _ = transport.open_rtcp(&mut datagram.to_vec());
        now += Duration::from_millis(20);
        transport.handle_timeout(now);
        drain(&mut transport);
    }
}

/// STUN checks and DTLS handshakes that arrive before the peer's description, from several addresses.
pub fn early_datagrams(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut transport = transport(now);
    let mut rest = Reader(bytes);
    let description_at = rest.byte();
    for step in 0..=u8::MAX {
        if step == description_at {
            transport.set_remote(now, remote());
        }
        if rest.is_empty() {
            break;
        }
        let from = address(u16::from(rest.byte() % 8) + 2);
        transport.handle(now, from, address(1), rest.piece());
        now += Duration::from_millis(20);
        transport.handle_timeout(now);
        drain(&mut transport);
    }
    transport.set_remote(now, remote());
    drain(&mut transport);
}
