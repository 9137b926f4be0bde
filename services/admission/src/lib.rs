//! A join, from the gateway's request to a seat on a node: policy, the ladder, one reservation after the other
//! until a node admits, and that node's entry in the room's record. It has no sockets and knows no rooms and
//! no clients: other nodes are asked through [`PeerNodes`], and the caller brings the participant to its seat.
//!
//! [`Admission`] finds a [`Seat`]; [`LocalLoad`] is how loaded this node is; [`trace`] makes the spans of a
//! join.

mod admit;
mod ladder;
mod local_load;
mod metrics;
mod peers;
pub mod trace;

pub use admit::{Admission, JOIN_LIMIT, Seat, within};
pub use local_load::{LocalLoad, Rates};
pub use metrics::Metrics;
pub use peers::{PeerNodes, ReservationRequest};
