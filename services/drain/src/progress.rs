//! How far a drain is.

use serde::{Deserialize, Serialize};

/// The state of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainState {
    /// Load balancers notice that the node is not ready.
    #[default]
    Notice,
    /// Participants and clients are asked to reconnect.
    Moving,
    /// The deadline has passed, and the rest was asked to reconnect.
    Overdue,
    /// Nobody is left.
    Drained,
}

impl DrainState {
    /// `notice`, `moving`, `overdue` or `drained`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Moving => "moving",
            Self::Overdue => "overdue",
            Self::Drained => "drained",
        }
    }
}

/// How far a drain is. It names no participant and no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// The state.
    pub state: DrainState,
    /// Participants whose media this node carries, with those who are about to arrive.
    pub participants: u32,
    /// Clients whose signalling this node relays to other media nodes.
    pub clients: u32,
    /// Rooms whose home role is still to be handed over.
    pub homes: u32,
    /// Rooms that keep this node as home: no other node may be home or took the role. They go on where they are carried.
    pub homes_kept: u32,
    /// Participants who stay until the deadline, because no approved node has a free seat.
    pub wait_for_seats: u32,
    /// Clients who stay until the deadline, because no other gateway is up.
    pub wait_for_gateway: u32,
    /// Clients who were placed through this gateway after clients had been asked to reconnect: their URL, or a load
    /// balancer, still leads here. They stay until the deadline.
    pub came_back: u32,
    /// Participants asked to reconnect so far.
    pub asked_participants: u32,
    /// Clients asked to reconnect so far.
    pub asked_clients: u32,
    /// Rooms whose home role was handed over so far.
    pub handed_over: u32,
    /// Seconds until the deadline; 0 after it.
    pub seconds_left: u64,
}

impl DrainProgress {
    /// Participants, clients and home roles that are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.participants.saturating_add(self.clients).saturating_add(self.homes)
    }
}
