//! What this node carries now, for the planner.

use std::collections::{BTreeMap, BTreeSet};

use systir_admission::WaysOut;
use systir_assignment::RoomId;
use systir_drain::{CarriedRoom, HomeRole, NodeView, RelayedClient};

use super::DrainedNode;

impl DrainedNode {
    /// What this node carries now. Free seats of other nodes are those that they reported last.
    pub(super) fn view(&self) -> NodeView {
        let (taken, reserved) = self.seats.taken_by_room_and_reserved();
        let own = self.assignments.own_rooms().into_iter().map(|assignment| assignment.room);
        let own: BTreeSet<String> =
            own.filter(|room| self.rooms.get(room).is_some()).map(|room| room.key()).collect();
        let relayed = self.relayed.all();
        let keys: BTreeSet<&String> = taken.keys().chain(&own).collect();
        let ways: BTreeMap<RoomId, WaysOut> = keys
            .iter()
            .filter_map(|key| RoomId::from_key(key))
            .chain(relayed.iter().map(|(_, room)| room.clone()))
            .map(|room| (room.clone(), self.admission.ways_out(&room)))
            .collect();
        let free_seats = ways.values().flat_map(|ways| ways.media_nodes.iter().cloned()).collect();
        let room = |key: &String| {
            let ways = ways.get(&RoomId::from_key(key)?)?;
            let here = || HomeRole::Here {
                successors: ways.successors.clone(),
                stays_as_spill: ways.stays_as_spill,
            };
            Some(CarriedRoom {
                room: key.clone(),
                participants: taken.get(key).copied().unwrap_or_default(),
                home: if own.contains(key) { here() } else { HomeRole::Elsewhere },
                nodes: ways.media_nodes.iter().map(|(node, _)| node.clone()).collect(),
            })
        };
        let other_gateway = |room| ways.get(room).is_some_and(|ways| ways.other_gateway);
        NodeView {
            rooms: keys.into_iter().filter_map(room).collect(),
            reserved,
            relayed: relayed
                .iter()
                .map(|(id, room)| RelayedClient { id: *id, other_gateway: other_gateway(room) })
                .collect(),
            free_seats,
            reports_arrive: self.assignments.registry().view().unavailable_since().is_none(),
        }
    }
}
