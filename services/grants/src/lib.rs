//! The grants that one node holds: which home it follows in each room, which nodes a room may use, and which carry it.
//! A grant is a document that a room's home node signs ([`systir_documents::Grant`]). It binds the room to nodes and
//! orders the changes of its home; policy alone authorises.
//!
//! This crate has no I/O and no clock. It does not evaluate policy and does not read the registry: the caller passes
//! what it needs as [`Circumstances`].
//!
//! - [`GrantBook`]: the grants of one node. [`GrantBook::offer`] decides whether a grant of another node replaces the one
//!   that is held.
//! - [`GrantTerms`]: what this node's policy says of a room; the home signs it.
//! - [`GrantRefusal`]: why a grant does not count, or does not allow something.

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod book;
mod carriers;
mod held;
mod offer;
mod refusal;
mod role;
mod terms;

pub use book::{GrantBook, NextGrantError};
pub use held::HeldGrant;
pub use offer::{Circumstances, HomeReach, Offered};
pub use refusal::GrantRefusal;
pub use role::GrantRole;
pub use terms::{GrantTerms, GrantTime};

#[cfg(test)]
mod tests;
