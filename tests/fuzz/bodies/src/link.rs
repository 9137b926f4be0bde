//! Input from other nodes and from the registry.

use rustls_pki_types::CertificateDer;
use systir_assignment::RoomId;
use systir_cascade::frame::{Frame, Reassembly, write_packet};
use systir_identity::{HandshakeRole, LeafValidity, NodeHandshake, SpiffeId, TrustBundle, TrustDomain};
use systir_version::VersionRange;

use crate::reader::Reader;

/// Datagrams of a link, and reassembly of packets that were split into two, in any order.
pub fn frame(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let mut reassembly = Reassembly::default();
    while !rest.is_empty() {
        match Frame::parse(rest.piece()) {
            Some(Frame::Part { id, second, body }) => {
                if let Some(whole) = reassembly.join(id, second, body) {
                    let _ = Frame::parse(&whole);
                }
            }
            Some(Frame::Packet { flow, packet }) => {
                let mut written = Default::default();
                write_packet(&mut written, flow, packet);
                assert_eq!(Frame::parse(&written), Some(Frame::Packet { flow, packet }));
            }
            Some(Frame::Heartbeat | Frame::Message(_)) | None => {}
        }
    }
}

/// Updates of a room's state, from a node that may write only its own participants.
pub fn room_update(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let updates = std::iter::from_fn(|| (!rest.is_empty()).then(|| rest.piece()));
    systir_relay::fuzz::room_updates(updates);
}

/// Messages of a session and of signalling, and the claims of a participant that a gateway sends.
pub fn messages(bytes: &[u8]) {
    systir_cascade::fuzz::messages(bytes);
    let _ = serde_json::from_slice::<systir_livekit::token::Grants>(bytes);
}

/// Calls between nodes and their answers: seats, grants, refusals.
pub fn calls(bytes: &[u8]) {
    systir_relay::fuzz::calls(bytes);
}

/// The versions that a node or a record states.
pub fn version(bytes: &[u8]) {
    if let Some(first) = bytes.first_chunk()
        && let Some(range) = VersionRange::from_bytes(*first)
    {
        assert_eq!(range.to_bytes(), *first);
        agree(range);
    }
    if let Ok(range) = serde_json::from_slice::<VersionRange>(bytes) {
        let again = serde_json::to_vec(&range).unwrap_or_default();
        assert_eq!(serde_json::from_slice(&again).ok(), Some(range));
        agree(range);
    }
}

fn agree(range: VersionRange) {
    assert!(range.oldest() <= range.newest());
    match VersionRange::OWN.agree(range, "sto-1") {
        Ok(version) => assert!(VersionRange::OWN.contains(version) && range.contains(version)),
        Err(refused) => assert!(refused.to_string().contains("docs/upgrade.md")),
    }
}

/// The roots of another trust domain, as PEM.
pub fn trust_roots(bytes: &[u8]) {
    let (Ok(pem), Ok(domain)) = (std::str::from_utf8(bytes), TrustDomain::new("nordu.net")) else { return };
    match TrustBundle::new().with(domain, pem) {
        Ok(bundle) => assert_eq!(bundle.domains().count(), 1),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The tag of a room: as another node sends it, and as whoever holds the room key can make it.
pub fn room_tag(bytes: &[u8]) {
    systir_room_tag::seal::fuzz(bytes);
}

/// The request that binds a QUIC connection to a link.
pub fn bind_request(bytes: &[u8]) {
    systir_cascade::fuzz::bind_request(bytes);
}

/// The certificate of a peer, as TLS passes it on: DER, before anything verified it.
pub fn certificate(bytes: &[u8]) {
    let Ok(me) = "spiffe://nordu.net/relay/cph-1".parse::<SpiffeId>() else { unreachable!("a valid id") };
    let chain = [CertificateDer::from(bytes)];
    let handshake = NodeHandshake::new(HandshakeRole::Listener, &me, &chain, |_, _| Ok::<(), &str>(()));
    if let Ok(handshake) = handshake {
        assert!(handshake.peer().as_str().starts_with("spiffe://"));
    }
    if let Ok(pem) = std::str::from_utf8(bytes) {
        let _ = LeafValidity::of_pem(pem);
    }
}

/// An etcd record under any key.
pub fn record(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let key = rest.piece();
    systir_registry::fuzz::record(key, rest.0);
}

/// Room keys: the key of a parsed room parses as the same room.
pub fn room_key(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(room) = RoomId::from_key(text) {
            assert_eq!(RoomId::from_key(&room.key()), Some(room));
        }
        // A tag has no other characters than base64 for URLs has.
        let room = RoomId::new(text, "tag-of_a-room");
        assert_eq!(RoomId::from_key(&room.key()), Some(room));
    }
}

/// SPIFFE ids and trust domains.
pub fn spiffe(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(id) = text.parse::<SpiffeId>() {
            assert_eq!(id.as_str(), text);
        }
        let _ = TrustDomain::new(text);
    }
}
