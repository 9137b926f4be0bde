//! Policy decisions: which node may do what for a room, and who may join it. Rules are Cedar policies of the
//! institutions, from their signed bundles, with the operator's floor: forbid rules that no institution can override. Nodes'
//! attributes come from the operators' signed directories. Each decision names its rules and has a sentence. The crate does
//! no I/O, has no clock, holds no keys and reads no leases. What it cannot evaluate (an error, an unknown name, a missing
//! attribute, an expired document) it denies, with the reason.
//!
//! - [`PolicyEngine`] is loaded from [`Sources`], verified documents; [`PolicyEngine::decide`] turns a [`Request`] into a
//!   [`Decision`].
//! - [`Authority`] is one node's policy while it runs: the current engine, a metric for each decision, and the node's
//!   journal, which is told each outcome ([`DecidedAction`]).
//! - [`NodeFacts`] is what the directories state of a node; [`PolicyStatement`] and [`DirectoryStatement`] tell who signed.
//! - [`RoomAttributes`]: a bundle says which rooms are confidential or require end-to-end encryption, by their names. A node
//!   without a room key of the institution cannot read the names; it goes by the room's grant.
//! - [`PolicyTime`]: rules may read the time, a full minute that an engine is [at](PolicyEngine::at). On a node that does not
//!   know the time they permit nothing by it.
//! - Zones ("EEA") are replaced by their countries before the text is parsed or shown.
//! - [`sign`] signs a document that nodes would accept; [`VocabularyFile`], [`ClassesFile`] and [`GuaranteesFile`] are source
//!   files of bundles.
//! - [`LoadedGuarantee`] is what is to be proved of an institution's rules. Nothing is proved here.
//! - `demo` (a feature) holds the demo's documents.
//!
//! `examples/decide_and_explain.rs` decides for an approved and an unapproved node.

// Tests read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod accepted;
mod action;
mod approvals;
mod authority;
mod caseless;
mod classes;
mod country;
mod decision;
#[cfg(any(test, feature = "demo"))]
pub mod demo;
mod engine;
mod entities;
mod escape;
mod guarantee;
mod institution;
mod journal;
mod known_decisions;
mod known_rooms;
mod lint;
mod loader;
mod metrics;
mod node;
mod nodes;
mod outcome;
mod problem;
mod request;
mod rule;
mod schema;
mod sentence;
mod signing;
mod source;
mod source_files;
mod statement;
mod time;
mod time_conditions;
mod tokenizer;
mod zone;

#[cfg(test)]
mod tests;

pub use action::{Action, UnknownAction};
pub use authority::{Authority, ParticipantRoles};
pub use country::is_country;
pub use decision::{Decision, PolicyVersion};
pub use engine::PolicyEngine;
pub use guarantee::LoadedGuarantee;
pub use journal::{Actor, DecidedAction};
pub use loader::PolicyText;
pub use metrics::PolicyMetrics;
pub use node::{DirectoryStatement, NodeAttribute, NodeFacts};
pub use problem::{LoadError, Problem};
pub use request::{Claims, Request, RoomAttributes, RoomClass, Subject};
pub use rule::{Rule, RuleEffect, RuleId};
pub use schema::SCHEMA;
pub use signing::{SigningError, add_signature, sign};
pub use source::{SourceDocument, Sources};
pub use source_files::{ClassesFile, GuaranteesFile, VocabularyFile};
pub use statement::PolicyStatement;
pub use time::PolicyTime;
pub use time_conditions::Times;
