//! Placement: which node carries a participant's media. [`propose`] is a pure function from a room, a
//! demand and the nodes (their load, and the policy decisions on each) to a ranked [`Proposal`] with a
//! reason for every node. [`SeatBook`] holds the seats of one node and admits participants. The crate
//! evaluates no policy, reads no registry, and has no sockets and no clock.
//!
//! A proposal is based on load reports that are seconds old; only the asked node itself can admit. The
//! caller asks the nodes of [`Proposal::steps`] in order; each answers from its own [`SeatBook`], and
//! the first that grants a [`Reservation`] gets the participant. When none does, [`Proposal::refused`]
//! makes the refusal from their answers.
//!
//! `examples/full_home.rs` ranks the nodes of a room whose home is full.

// Tests read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod input;
mod ladder;
mod proposal;
mod rank_reason;
mod recently_full;
mod refusal;
mod seat_book;
mod seats;
#[cfg(test)]
mod test_input;

pub use input::{CarryingNodes, Demand, LoadReport, NodeCandidate, RoleDecision, RoomToPlace};
pub use ladder::{FRESH_MS, HIGH_CPU_PERMILLE, VIEWERS_SPILL_PERMILLE, propose};
pub use proposal::{Proposal, Row, Step};
pub use recently_full::RecentlyFull;
pub use seat_book::{
    NoReservation, RESERVATION_TTL, Reservation, SeatBook, SeatQuotas, SeatRequest, is_same_token,
    token_identity,
};
pub use seats::Seats;
