//! Policy decisions: which node may do what for a room, and who may join it. Rules are Cedar policies of the
//! institutions, with the operator's floor: forbid rules that no institution can override. Each decision
//! names its rules and has a sentence. The crate does no I/O, has no clock, holds no keys and reads no
//! leases. Its input is policy text, the operator's nodes file and evidence. What it cannot evaluate (an
//! error, an unknown name, a missing attribute) it denies, with the reason.
//!
//! - [`PolicyEngine`] is loaded once from [`Sources`]; [`PolicyEngine::decide`] turns a [`Request`] into a [`Decision`].
//! - [`Authority`] is one node's view of it: the engine, the nodes file, and a metric for each decision.
//! - [`Evidence`] is what is known of a node. Only [`Nodes`] makes it, never a lease.
//! - [`Zones`] ("EEA") are replaced by their countries before the text is parsed, hashed or shown.
//! - `demo` (a feature) holds the demo's policy, nodes and zones.
//!
//! `examples/decide_and_explain.rs` decides for an approved and an unapproved node.

// Tests read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod action;
mod authority;
mod country;
mod decision;
#[cfg(any(test, feature = "demo"))]
pub mod demo;
mod engine;
mod entities;
mod evidence;
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
pub use engine::{InstitutionPolicy, PolicyEngine, Sources};
pub use evidence::{Evidence, IdentityProof, ProvenIdentity};
pub use loader::PolicyText;
pub use metrics::PolicyMetrics;
pub use names::KnownNames;
pub use node::{NodeAttribute, NodeFacts, Nodes};
pub use problem::{LoadError, Problem};
pub use request::{Claims, Request, RoomAttributes, RoomClass, Subject};
pub use rule::{Rule, RuleEffect, RuleId};
pub use zone::Zones;
