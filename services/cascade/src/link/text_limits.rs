//! Limits of the texts of a peer that this node keeps, sends back or logs. A message may have 16 MiB, and a peer may send many.

use prost::Message as _;
use systir_documents::MAX_NOTE_BYTES;
use systir_proto::cluster::v1::OpenRoom;
use systir_rtp::packet::Layer;

use crate::event::RoomBody;

/// Bytes of a room key, at most.
const MAX_KEY_BYTES: usize = 1024;
/// Bytes of a track sid, at most: clients are shown none that is longer.
const MAX_SID_BYTES: usize = 64;
/// Bytes of an assignment message, at most: the grant, and the nodes that carry the room.
const MAX_ASSIGNMENT_BYTES: usize = MAX_NOTE_BYTES + (64 << 10);
/// Bytes of a sentence or the id of a rule, at most.
const MAX_REASON_BYTES: usize = 4096;
/// Rules of a refusal, at most.
const MAX_RULES: usize = 64;

/// Can it be the key of a room?
pub(super) fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_KEY_BYTES
}

/// Can it be a layer of a track?
pub(super) fn is_layer(track_sid: &str, layer: u32) -> bool {
    track_sid.len() <= MAX_SID_BYTES && layer < Layer::MAX as u32
}

/// Is the grant of a request as long as a grant may be?
pub(super) fn has_short_grant(open: &OpenRoom) -> bool {
    open.grant.len() <= MAX_NOTE_BYTES
}

/// Is what a message names as long as it may be? What only waits to be read counts in the queue of its room.
pub(super) fn is_short(body: &RoomBody) -> bool {
    match body {
        RoomBody::Subscribe(wanted) => is_layer(&wanted.track_sid, wanted.layer),
        RoomBody::Unsubscribe(wanted) => wanted.track_sid.len() <= MAX_SID_BYTES,
        RoomBody::KeyFrame(wanted) => wanted.track_sid.len() <= MAX_SID_BYTES,
        RoomBody::Assignment(assignment) => assignment.encoded_len() <= MAX_ASSIGNMENT_BYTES,
        _ => true,
    }
}

/// A peer's reason, as it is passed on and logged.
pub(super) fn reason(given: String) -> String {
    if given.len() <= MAX_REASON_BYTES { given } else { "its reason is too long to be shown".to_owned() }
}

/// The rules that a peer names, as they are passed on and logged.
pub(super) fn rules(given: Vec<String>) -> Vec<String> {
    given.into_iter().take(MAX_RULES).map(reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use systir_proto::cluster::v1::{CarryingNode, KeyFrame, RoomAssignment, Subscribe, Unsubscribe};

    #[test]
    fn a_message_about_a_track_names_one_that_can_exist() {
        let about = |track_sid: &str, layer| {
            let track_sid = || track_sid.to_owned();
            [
                RoomBody::Subscribe(Subscribe { track_sid: track_sid(), layer, flow: 32 }),
                RoomBody::Unsubscribe(Unsubscribe { track_sid: track_sid(), layer }),
                RoomBody::KeyFrame(KeyFrame { track_sid: track_sid(), layer }),
            ]
        };
        let longest = "x".repeat(MAX_SID_BYTES);
        for sid in ["TR_VC0123456789", &longest] {
            assert!((0..Layer::MAX as u32).all(|layer| about(sid, layer).iter().all(is_short)));
        }
        assert!(!about(&format!("{longest}x"), 0).iter().any(is_short));
        let [subscribe, ..] = about("TR_VC0123456789", Layer::MAX as u32);
        assert!(!is_short(&subscribe), "what a subscription names is kept");
    }

    #[test]
    fn an_assignment_is_as_long_as_a_grant_may_be() {
        let assignment = |grant: usize, node: usize| {
            let carrying = CarryingNode { node: "x".repeat(node), since_ms: u64::MAX };
            let spill = vec![carrying; 64];
            let created_ms = u64::MAX;
            RoomBody::Assignment(RoomAssignment { grant: "x".repeat(grant), spill, created_ms })
        };
        assert!(is_short(&assignment(MAX_NOTE_BYTES, 255)));
        assert!(!is_short(&assignment(2 * MAX_NOTE_BYTES, 255)));
        assert!(!is_short(&assignment(0, 1 << 20)));
        let open = |grant: usize| OpenRoom { grant: "x".repeat(grant), ..OpenRoom::default() };
        assert!(has_short_grant(&open(MAX_NOTE_BYTES)) && !has_short_grant(&open(MAX_NOTE_BYTES + 1)));
    }

    #[test]
    fn a_long_reason_and_very_many_rules_are_not_passed_on() {
        let usual = "policy does not approve sto-1 as a spill node of the room".to_owned();
        assert_eq!(reason(usual.clone()), usual);
        assert_eq!(rules(vec![usual.clone(); 3]), vec![usual.clone(); 3]);
        assert!(reason(usual.repeat(1_000)).len() < 100);
        let many = rules(vec![usual.repeat(1_000); 10_000]);
        assert!(many.iter().map(String::len).sum::<usize>() < 10_000);
    }
}
