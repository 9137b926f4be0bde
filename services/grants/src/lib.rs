//! The grants that one node holds: which home it follows in each room, which nodes a room may use, and which carry it.
//! A grant is a document that a room's home node signs ([`systir_documents::Grant`]). It binds the room to nodes and
//! orders the changes of its home; policy alone authorises.
//!
//! This crate has no I/O and no clock. It does not evaluate policy and does not read the registry: the caller passes
//! what it needs as [`Circumstances`].
//!
//! - [`GrantBook`]: the grants of one node. [`GrantBook::offer`] decides whether a grant of another node replaces the one
//!   that is held.
//! - [`GrantTime`]: the time of a call.
//! - [`GrantRefusal`]: why a grant does not count, or does not allow something.

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod book;
mod carriers;
mod held;
mod offer;
mod order;
mod refusal;
mod role;

pub use book::{GrantBook, NextGrantError};
pub use held::HeldGrant;
pub use offer::{Circumstances, HomeReach, Offered};
pub use order::GrantTime;
pub use refusal::GrantRefusal;
pub use role::GrantRole;

#[cfg(test)]
mod tests;
