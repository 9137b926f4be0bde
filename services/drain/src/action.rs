//! What a drain wants its caller to do.

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainAction {
    /// Hand over the home role of a room, then tell the outcome with [`crate::Drain::handed_over`].
    HandOver {
        /// The room's key.
        room: String,
        /// Nodes to ask, in this order.
        successors: Vec<String>,
    },
    /// Ask participants of a room to reconnect.
    AskParticipants {
        /// The room's key.
        room: String,
        /// How many.
        count: u32,
    },
    /// Ask a client to reconnect whose signalling this node relays.
    AskClient {
        /// Its number.
        id: u64,
    },
}
