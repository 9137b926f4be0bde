//! The end of a room on this node, and its record in the registry.

use std::time::Duration;

use livekit_protocol::DisconnectReason;
use rand::RngExt as _;
use systir_media_control::WorkerCommand;

use super::RoomCore;
use super::leaving::Leaving;
use crate::RoomEffect;

/// How long an empty room is kept for participants that return.
const EMPTY_GRACE: Duration = Duration::from_secs(20);

/// Shortest time between two attempts to write the room's record.
pub(super) const RESTORE_INTERVAL: Duration = Duration::from_secs(2);

impl RoomCore {
    /// Has the room ended? The home node keeps the room while a spill node carries it.
    pub(super) fn has_ended(&mut self, seats_held: impl FnOnce() -> bool) -> bool {
        let empty = self.local_participants.is_empty() && !seats_held();
        match self.leaving {
            None => {
                let home = self.assignment.home == *self.config.node.as_str();
                let needed = home && !self.assignment.spill.is_empty();
                let since = self.empty_since.map(|since| self.now.instant.duration_since(since));
                if empty && !needed && since.is_some_and(|since| since > EMPTY_GRACE) {
                    self.leaving = Some(Leaving::Asked);
                    self.effects.push_back(RoomEffect::LeaveAssignment);
                }
                false
            }
            Some(Leaving::Asked) => false,
            Some(Leaving::Answered(may_end)) => {
                let ends = may_end && empty;
                if !ends {
                    // A participant arrived meanwhile: the room continues and is assigned again.
                    self.leaving = None;
                    self.cluster_changed();
                }
                ends
            }
        }
    }

    pub(super) fn assignment_left(&mut self, may_end: bool) {
        if self.leaving.is_some() {
            self.leaving = Some(Leaving::Answered(may_end));
        }
    }

    /// Home node only: has the room's record written, when it is missing or wrong. Nothing waits for that.
    pub(super) fn write_record(&mut self) {
        let now = self.now.instant;
        if !self.is_home()
            || self.cluster.recorded
            || self.cluster.registry_unavailable
            || now < self.write_record_at
        {
            return;
        }
        // An empty room that ends deletes its record.
        if self.leaving.is_some() || (self.local_participants.is_empty() && self.assignment.spill.is_empty())
        {
            return;
        }
        self.write_record_at = now + RESTORE_INTERVAL.mul_f64(self.rng.random_range(1.0..1.5));
        self.effects.push_back(RoomEffect::WriteAssignment);
    }

    /// Closes the room on all links. Call [`RoomCore::end`] when no more participants arrive.
    pub fn close_on_links(&mut self) {
        let nodes = self.peers.keys().cloned();
        self.effects.extend(nodes.map(|node| RoomEffect::CloseOnLink { node }));
    }

    /// Ends the room at its worker. Its participants must join again. Call [`RoomCore::flush_to_worker`]
    /// afterwards, until nothing waits.
    pub fn end(&mut self) {
        self.disconnect_all(DisconnectReason::ServerShutdown);
        self.command(WorkerCommand::CloseRoom { room: self.config.key });
        self.config.metrics.rooms.dec();
    }
}
