//! The room's grant: the home tells its peers the newest one and who carries the room; a grant that its home does not
//! renew ends the room here.

use livekit_protocol::DisconnectReason;
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;

use super::RoomCore;
use crate::RoomEffect;

impl RoomCore {
    /// Home node only: tells the peers the room's assignment when it changed: after a renewal of the grant, and when a spill
    /// node was added or removed. A home that handed its role over tells that too: the others follow the new home by its
    /// word, because they can still reach it.
    pub(super) fn tell_assignment(&mut self) {
        let tells = self.is_home() || self.handed_over;
        if !tells || self.told.as_ref() == Some(&self.assignment) {
            return;
        }
        self.told = Some(self.assignment.clone());
        let spill = self.assignment.spill.iter().map(|node| wire::CarryingNode {
            node: node.to_string(),
            since_ms: self.assignment.since_ms.get(node).copied().unwrap_or_default(),
        });
        let told = wire::RoomAssignment {
            grant: self.assignment.grant.clone(),
            spill: spill.collect(),
            created_ms: self.assignment.created_ms,
        };
        self.send_to_peers(&Body::Assignment(told));
    }

    /// The room's grant has ended, and its home, whose link is up, has not renewed it: the home does not count this node
    /// to the room any more. Its participants must join again.
    pub(super) fn enforce_end_of_grant(&mut self) {
        if !self.cluster.grant_ended || self.local_participants.is_empty() {
            return;
        }
        tracing::warn!(
            "the grant of a room has ended, and its home does not renew it; participants must join again"
        );
        self.disconnect_all(DisconnectReason::Migration);
    }

    /// A peer refused or closed the room. Home node only: a spill node without participants carries the room no longer.
    pub(super) fn closed_by_peer(&mut self, node: &str) {
        if self.is_home() && self.assignment.has(node) && !self.replica.has_participants_of(node) {
            self.effects.push_back(RoomEffect::RemoveSpill { node: node.to_owned() });
        }
    }
}
