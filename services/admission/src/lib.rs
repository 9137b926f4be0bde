//! Admission finds a seat for a join: it asks policy, builds the ladder, asks one node after the other for a
//! reservation until one admits, and writes that node into the room's assignment. It has no sockets, rooms
//! or clients: it asks other nodes through [`PeerNodes`], and the caller connects the participant to its
//! seat. What became of each join, and of each home, goes into the node's journal.
//!
//! [`Admission`] finds a [`ReservedSeat`], [`may_join`] decides on a participant, [`LocalLoad`] reports this node's load,
//! [`WaysOut`] says where participants can go when this node drains, and [`trace`] makes the spans of a join.
//!
//! `systir-relay`'s `join.rs` shows its use.

mod admit;
mod join_decision;
mod journal;
mod ladder;
mod local_load;
mod metrics;
mod peers;
mod room_lookup;
mod seat_guard;
pub mod trace;
mod ways_out;

pub use admit::{Admission, JOIN_TIMEOUT, ReservedSeat, SeatApplicant, with_time_limit};
pub use join_decision::may_join;
pub use local_load::{LocalLoad, Rates};
pub use metrics::{JoinMetrics, SeatMetrics};
pub use peers::{PeerNodes, RefusedReservation, ReservationRequest};
pub use seat_guard::{RelayedConnection, SeatGuard};
pub use ways_out::WaysOut;
