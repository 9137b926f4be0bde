//! Connection quality of participants. Each node measures that of its own and tells the others what changed, a few times
//! a minute at most. What a participant's node does not tell is excellent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use systir_livekit::RoomEvent;
use systir_media_control::{MediaQuality, ParticipantKey};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;

use super::RoomCore;

/// Time between two messages to the other nodes.
const INTERVAL: Duration = Duration::from_secs(5);
/// Participants of one message.
const MAX_TOLD: usize = 512;

/// What the room knows of quality, beside that of its local participants.
#[derive(Debug, Default)]
pub(super) struct Qualities {
    /// Local participants whose quality changed since the other nodes were told.
    changed: BTreeSet<ParticipantKey>,
    /// When the other nodes may be told next; none: at once.
    next: Option<Instant>,
    /// Of participants at other nodes, by sid.
    pub(super) elsewhere: BTreeMap<String, proto::ConnectionQualityInfo>,
}

impl RoomCore {
    /// The connection quality of a local participant changed: it and the others here are told, and later other nodes.
    pub(super) fn quality_changed(&mut self, participant: ParticipantKey, quality: MediaQuality, score: f32) {
        let Some(local) = self.local_participants.get_mut(&participant) else { return };
        let quality = match quality {
            MediaQuality::Poor => proto::ConnectionQuality::Poor,
            MediaQuality::Good => proto::ConnectionQuality::Good,
            MediaQuality::Excellent => proto::ConnectionQuality::Excellent,
        };
        let participant_sid = local.sid.clone();
        let info = proto::ConnectionQualityInfo { participant_sid, quality: quality as i32, score };
        local.quality = Some(info.clone());
        self.qualities.changed.insert(participant);
        self.notify_all_but(None, &RoomEvent::Quality(info));
    }

    /// What a participant that arrives is told.
    pub(super) fn known_qualities(&self) -> Vec<proto::ConnectionQualityInfo> {
        let here = self.local_participants.values().filter_map(|other| other.quality.as_ref());
        here.chain(self.qualities.elsewhere.values()).cloned().collect()
    }

    /// Tells the other nodes what changed, if it is time to.
    pub(super) fn tell_qualities(&mut self) {
        let now = self.now.instant;
        if self.qualities.changed.is_empty() || self.qualities.next.is_some_and(|next| now < next) {
            return;
        }
        self.qualities.next = Some(now + INTERVAL);
        let changed = std::mem::take(&mut self.qualities.changed);
        let told = changed.iter().filter_map(|key| self.local_participants.get(key)?.quality.as_ref());
        for body in messages(told) {
            self.send_to_peers(&body);
        }
    }

    /// Tells a node that gets the room's state now.
    pub(super) fn give_qualities(&mut self, node: &str) {
        let known = self.local_participants.values().filter_map(|local| local.quality.as_ref());
        for body in messages(known) {
            self.send_to_peer(node, body);
        }
    }

    /// Another node tells the quality of its participants. Only that of its own counts; of each the last one, however often
    /// the node names it.
    pub(super) fn qualities_from_peer(&mut self, node: &str, told: wire::Qualities) {
        let told = told.qualities.into_iter().take(MAX_TOLD);
        let last: BTreeMap<String, (u32, f32)> =
            told.map(|one| (one.participant_sid, (one.quality, one.score))).collect();
        for (participant_sid, (quality, score)) in last {
            let quality = match quality {
                0 => proto::ConnectionQuality::Poor,
                1 => proto::ConnectionQuality::Good,
                _ => proto::ConnectionQuality::Excellent,
            };
            let owner = self.replica.by_sid(&participant_sid).map(|participant| participant.owner);
            if owner.is_none_or(|owner| owner != *node) {
                continue;
            }
            let score = if score.is_nan() { 1.0 } else { score.clamp(1.0, 5.0) };
            let sid = participant_sid.clone();
            let info = proto::ConnectionQualityInfo { participant_sid, quality: quality as i32, score };
            self.qualities.elsewhere.insert(sid, info.clone());
            self.notify_all_but(None, &RoomEvent::Quality(info));
        }
        // Those who left are forgotten with the next message, so there are never many.
        let replica = &self.replica;
        self.qualities.elsewhere.retain(|sid, _| replica.by_sid(sid).is_some());
    }
}

/// Messages about the quality of these participants.
fn messages<'a>(told: impl Iterator<Item = &'a proto::ConnectionQualityInfo>) -> Vec<Body> {
    let qualities = told.map(|info| wire::Quality {
        participant_sid: info.participant_sid.clone(),
        quality: u32::try_from(info.quality).unwrap_or_default(),
        score: info.score,
    });
    let qualities: Vec<_> = qualities.collect();
    let message = |part: &[wire::Quality]| Body::Qualities(wire::Qualities { qualities: part.to_vec() });
    qualities.chunks(MAX_TOLD).map(message).collect()
}
