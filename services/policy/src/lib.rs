//! Where a room may be and who may touch it: Cedar policies of institutions over an operator's floor, and decisions
//! with their reasons. This crate decides; it does no I/O, keeps no clock, carries no keys and believes no lease. It
//! is handed policy text, the operator's pinned nodes file and evidence, and whatever it cannot make sense of (an
//! error, an unknown name, a missing attribute) it denies and says why.
//!
//! - [`Gate`] is loaded once from [`Sources`] and answers [`Request`]s with [`Decision`]s.
//! - [`Evidence`] is what is known of a node; it can only be had from the pinned [`Nodes`], never from a lease.
//! - [`Zones`] ("EEA") are spelled out as countries in the text before it is parsed, hashed or shown.
//! - `demo` (a feature) holds the texts that the demo runs on.

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod action;
mod authority;
mod country;
mod decision;
#[cfg(any(test, feature = "demo"))]
pub mod demo;
mod entities;
mod evidence;
mod gate;
mod lint;
mod loader;
mod metrics;
mod names;
mod node;
mod problem;
mod request;
mod rule;
mod sentence;
mod tokenizer;
mod zone;

#[cfg(test)]
mod tests;

pub use action::{Action, UnknownAction};
pub use authority::Authority;
pub use country::is_country;
pub use decision::{Decision, PolicyVersion};
pub use evidence::{Evidence, Identity, ProvenIdentity};
pub use gate::{Gate, InstitutionPolicy, Sources};
pub use loader::PolicyText;
pub use metrics::Metrics;
pub use names::KnownNames;
pub use node::{Attribute, NodeFacts, Nodes};
pub use problem::{LoadError, Problem};
pub use request::{Claims, Request, RoomClass, RoomFacts, Subject};
pub use rule::{Effect, Rule, RuleId};
pub use zone::Zones;
