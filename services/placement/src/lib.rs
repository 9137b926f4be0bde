//! Where a participant's media goes: a pure function from a room, a demand and the nodes (their
//! load, and what policy decided about each) to a ranked proposal with a reason for every node;
//! and the seat book by which the node that was proposed admits, or does not. It knows
//! nothing of policy text, of registries, sockets or clocks.
//!
//! Placement proposes, the target alone admits: [`propose`] works on hints that are seconds old,
//! so the caller asks the nodes of [`Proposal::steps`] in order, each answers from its own
//! [`SeatBook`], and the first that grants a [`Reservation`] has the participant. When none did,
//! [`Proposal::refused`] makes the refusal from their answers.

// Tests make their own times.
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

pub use input::{Assignment, Candidate, Demand, Load, RoomFacts, Verdict};
pub use ladder::{FRESH_MS, HOT_PERMILLE, VIEWERS_MOVE_PERMILLE, propose};
pub use proposal::{Proposal, Role, Row, Step};
pub use recently_full::RecentlyFull;
pub use seat_book::{NoReservation, RESERVATION_TTL, Reservation, SeatBook};
pub use seats::Seats;
