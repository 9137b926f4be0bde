//! What the node carries now, and what it knows of the other nodes.

use std::collections::BTreeMap;

/// A room that the node carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedRoom {
    /// The room's key. Never printed.
    pub room: String,
    /// Participants whose media this node carries.
    pub participants: u32,
    /// Is this node the room's home?
    pub home: HomeRole,
    /// Other nodes that policy approves for the room's participants, best first.
    pub nodes: Vec<String>,
}

/// Is the node home of a room?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeRole {
    /// Another node is.
    Elsewhere,
    /// It is.
    Here {
        /// Nodes that may be home after it.
        successors: Vec<String>,
        /// May this node carry the room's participants as spill node, after the hand-over?
        stays_as_spill: bool,
    },
}

/// A client whose signalling ends at this node and whose media is on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayedClient {
    /// Its number: greater for later clients.
    pub id: u64,
    /// Is there another node that may be its gateway?
    pub other_gateway: bool,
}

/// What the node carries now, and what it knows of the other nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The rooms that it carries.
    pub rooms: Vec<CarriedRoom>,
    /// Seats that are reserved for participants who have not arrived yet.
    pub reserved: u32,
    /// Clients whose signalling it relays.
    pub relayed: Vec<RelayedClient>,
    /// Free seats of other nodes, by their last reports.
    pub free_seats: BTreeMap<String, u32>,
    /// Do reports of other nodes arrive? Without the registry they do not.
    pub reports_arrive: bool,
}
