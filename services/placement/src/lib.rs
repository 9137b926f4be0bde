//! Where a participant's media goes: a pure function from a room, a demand and the nodes (their
//! load, and what policy decided about each) to a ranked proposal with a reason for every node;
//! and the reservation book by which the node that was proposed admits, or does not. It knows
//! nothing of policy text, of registries, sockets or clocks.
//!
//! Placement proposes, the target alone admits: [`propose`] works on hints that are seconds old,
//! so the caller asks the nodes of [`Proposal::steps`] in order, each answers from its own
//! [`Admission`], and the first that grants a [`Reservation`] has the participant. When none did,
//! [`Proposal::refused`] says from their [`Answer`]s what to tell the participant.

mod admission;
mod answer;
mod facts;
mod ladder;
mod proposal;
mod reason;

pub use admission::{Admission, NoReservation, RESERVATION_TTL, Reservation, ReserveError};
pub use answer::{Answer, HeardFull};
pub use facts::{Assignment, Candidate, Demand, Load, RoomFacts, Verdict};
pub use ladder::{FRESH_MS, HOT_PERMILLE, VIEWERS_MOVE_PERMILLE, propose};
pub use proposal::{Proposal, Refusal, Role, Row, Step};
pub use reason::{ReasonCode, RefusalReason, Rung};
