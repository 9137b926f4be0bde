//! Input from clients: datagrams, session descriptions, tokens, signalling, data messages.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use livekit_protocol as proto;
use systir_livekit::sdp::{
    CandidateProtocol, IceCandidate, LocalTransport, Offer, OfferedTrack, Origin, ReceiveOptions, Subscriber,
};
use systir_livekit::token::{Grants, verify, verify_join};
use systir_livekit::{
    Limits, MediaDescription, MediaEvent, Output, RemoteParticipant, RemoteTrack, ServerFacts, Session,
    SessionConfig, route_data,
};
use systir_media_control::{
    CaptureSource, IceCredentials, KeyAllocator, ParticipantKey, RoomNumber, Side, TrackKey,
};
use systir_rtp::packet::Codec;

use crate::claims;
use crate::reader::Reader;

const CODECS: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];

fn ice(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.into(), pwd: "0123456789abcdefABCDEF".into() }
}

fn candidates() -> Vec<IceCandidate> {
    vec![IceCandidate { address: ([192, 0, 2, 10], 7882).into(), protocol: CandidateProtocol::Udp }]
}

/// Demultiplexing of a datagram by its first bytes, and the username of a STUN check.
pub fn demux(bytes: &[u8]) {
    systir_worker::fuzz::demux(bytes);
}

/// Frames on an ICE-TCP stream (RFC 4571).
pub fn tcp_frames(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    systir_worker::fuzz::tcp_frames(std::iter::from_fn(|| (!rest.is_empty()).then(|| rest.piece())));
}

/// What a trusted proxy sends before the client's bytes.
pub fn proxy_header(bytes: &[u8]) {
    systir_relay::fuzz::proxy_header(bytes);
}

/// The bodies of requests over HTTP: a guest's, and those of drains.
pub fn api_bodies(bytes: &[u8]) {
    systir_relay::fuzz::api_bodies(bytes);
}

/// The query of a request to join.
pub fn query(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        systir_gateway::fuzz::query(text);
    }
}

/// A client's offer and the answer to it.
pub fn offer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(offer) = Offer::parse(text) else { return };
    let (ice, candidates) = (ice("ourPub01"), candidates());
    let host = LocalTransport { ice: &ice, fingerprint: &[1; 32], candidates: &candidates };
    let options = ReceiveOptions {
        track: Some(TrackKey(1)),
        codec: Some(Codec::Vp8),
        red: true,
        stereo: true,
        dtx: true,
    };
    let answer = offer.answer(host, Origin { session: 1, version: 1 }, |_| Some(options));
    assert!(answer.sdp.starts_with("v=0\r\n"));
    assert!(answer.receive.len() <= offer.sections().len());
}

/// A client's answer to an offer of one track of each codec.
pub fn answer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut subscriber = Subscriber::new(1);
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    for (key, codec) in (1..).zip(CODECS) {
        let sid = format!("TR_{key}");
        let (stream, source) = (format!("PA_bob|{sid}"), CaptureSource::Camera);
        let wanted = OfferedTrack { track: TrackKey(key), stream, sid, codec, source };
        subscriber.add(wanted, &mut random);
    }
    let (ice, candidates) = (ice("ourSub01"), candidates());
    subscriber.offer(LocalTransport { ice: &ice, fingerprint: &[1; 32], candidates: &candidates });
    if let Ok(answered) = subscriber.answer(text) {
        assert!(answered.accepted.len() + answered.refused.len() <= CODECS.len());
    }
}

/// A token; or what the institution asks of its tokens, and the claims of a token that is signed with its key.
pub fn token(bytes: &[u8]) {
    if let Some((choices, signed)) = bytes.split_first()
        && claims::CHOICES.contains(choices)
    {
        return claims::check(*choices, signed);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (ring, now) = (claims::ring(0), claims::now());
    let _ = verify(&ring, text, now);
    if let Ok(grants) = verify_join(&ring, text, now) {
        assert_eq!(grants.institution, "ku.dk");
    }
}

fn grants() -> Grants {
    Grants { name: "Ada".to_owned(), can_update_own_metadata: true, ..Grants::new("ku.dk", "seminar", "ada") }
}

fn bob() -> RemoteParticipant {
    let tracks = (100_u64..).zip(CODECS).map(|(key, codec)| RemoteTrack {
        sid: format!("TR_{key}").into(),
        key: TrackKey(key),
        codec,
    });
    let tracks: Vec<_> = tracks.collect();
    let info =
        |track: &RemoteTrack| proto::TrackInfo { sid: String::from(&*track.sid), ..Default::default() };
    RemoteParticipant {
        info: proto::ParticipantInfo {
            sid: "PA_bob".into(),
            identity: "bob".into(),
            state: proto::participant_info::State::Active as i32,
            version: 1,
            tracks: tracks.iter().map(info).collect(),
            ..Default::default()
        },
        tracks,
    }
}

fn session(now: Instant) -> Session {
    Session::new(SessionConfig {
        participant: ParticipantKey(1),
        sid: "PA_ada".into(),
        room_key: RoomNumber(1),
        room: proto::Room { sid: "RM_1".into(), name: "seminar".into(), ..Default::default() },
        grants: grants(),
        client: proto::ClientInfo::default(),
        server: ServerFacts {
            version: ServerFacts::VERSION.into(),
            region: "cph".into(),
            node_id: "cph-1".into(),
        },
        encrypted_only: false,
        media: MediaDescription {
            candidates: candidates(),
            fingerprint: [1; 32],
            publisher: ice("ourPub01"),
            subscriber: ice("ourSub01"),
        },
        ice_servers: Vec::new(),
        auto_subscribe: true,
        codecs: CODECS.to_vec(),
        red: false,
        attributes: vec![("systir.node".into(), "cph-1".into())],
        version: 0,
        others: vec![Arc::new(bob())],
        limits: Limits::default(),
        keys: Arc::new(KeyAllocator::new()),
        seed: [3; 32],
        wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        now,
    })
}

/// A session that gets any requests, as protobuf or JSON, in any order and at any time. The number of
/// messages that it sends in return for one input is bounded.
pub fn signal(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut session = session(now);
    let mut rest = Reader(bytes);
    while !rest.is_empty() && !session.is_ended() {
        let (kind, pause) = (rest.byte(), rest.byte());
        now += Duration::from_millis(u64::from(pause) * 40);
        match kind % 4 {
            0 => session.media_event(MediaEvent::Connected(Side::Subscriber), now),
            1 => {
                if let Ok(text) = std::str::from_utf8(rest.piece())
                    && let Some(request) = systir_gateway::fuzz::request_in_text(text)
                {
                    session.handle(request, now);
                }
            }
            _ => {
                if let Some(request) = systir_gateway::fuzz::request_in_bytes(rest.piece()) {
                    session.handle(request, now);
                }
            }
        }
        session.tick(now);
        let outputs = std::iter::from_fn(|| session.poll_output());
        let sent = outputs.filter(|output| matches!(output, Output::Signal(_))).count();
        assert!(sent <= 64, "{sent} messages in return for one");
    }
}

/// A message on a data channel.
pub fn data(bytes: &[u8]) {
    if let Ok(routed) = route_data(&grants(), "PA_ada", bytes) {
        assert!(routed.packet.len() <= bytes.len() + 128);
    }
}
