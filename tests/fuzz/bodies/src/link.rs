//! Input from other nodes and from the registry.

use systir_assignment::RoomId;
use systir_cascade::frame::{Frame, Reassembly, write_packet};
use systir_identity::{SpiffeId, TrustDomain};

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
