//! The drain of one node: whom to ask next to reconnect, which home role to hand over, and when it is over. It has no
//! I/O and no clock: the caller passes what the node carries as a [`NodeView`], does the [`DrainAction`]s, and calls
//! again some times a second. It evaluates no policy and counts no seats of its own node.
//!
//! A [`Drain`] goes through these states ([`DrainState`]):
//!
//! 1. *notice*: nobody new is placed on the node, its readiness is off, and load balancers notice that. Home roles are
//!    handed over from now on.
//! 2. *moving*: participants whose rooms have an approved node with a free seat, and clients whose signalling this node
//!    relays, are asked to reconnect at a set rate.
//! 3. *overdue*: the deadline has passed, and the rest was asked at once.
//! 4. *drained*: nobody is left.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use systir_drain::{CarriedRoom, Drain, DrainAction, DrainSettings, HomeRole, NodeView};
//!
//! let start = Instant::now();
//! let settings = DrainSettings { per_second: 10, notice: Duration::ZERO };
//! let mut drain = Drain::new(settings, start + Duration::from_secs(600), [7; 32], start);
//! let room = CarriedRoom {
//!     room: "lecture".to_owned(),
//!     participants: 1,
//!     home: HomeRole::Elsewhere,
//!     nodes: vec!["sto-1".to_owned()],
//! };
//! let full = NodeView { rooms: vec![room], ..NodeView::default() };
//! assert!(drain.step(&full, start).is_empty(), "nobody is asked without a free seat elsewhere");
//! let free = NodeView { free_seats: [("sto-1".to_owned(), 1)].into(), ..full };
//! let asked = DrainAction::AskParticipants { room: "lecture".to_owned(), count: 1 };
//! assert_eq!(drain.step(&free, start), [asked]);
//! ```

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod action;
mod drain;
mod hand_overs;
mod pace;
mod progress;
mod seats_in_use_soon;
#[cfg(test)]
mod tests;
mod view;

pub use action::DrainAction;
pub use drain::{Drain, DrainSettings};
pub use progress::{DrainProgress, DrainState};
pub use view::{CarriedRoom, HomeRole, NodeView, RelayedClient};
