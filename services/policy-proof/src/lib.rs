//! Proofs about policies: what a policy never permits, over all rooms, nodes, participants and claims that could exist, and
//! not only those of today. The rules, as Cedar text, are translated to formulas by `cedar-policy-symcc`, and the solver cvc5,
//! a program of its own, decides them. The crate is for `systirctl`; no node depends on it or runs a solver. It says nothing
//! about where a machine stands: only what the text of a policy permits.
//!
//! - [`PolicyModel`]: the rules of a floor, of a bundle, or of both, and the guarantees that are to hold of them.
//! - [`Prover`]: a running solver. [`Prover::prove`] proves each guarantee or refutes it with a [`Counterexample`], which has a
//!   sentence. [`Prover::diff`] tells what a new version permits more and less than the old one. [`Prover::compare_floor`]
//!   proves that a policy keeps to the floor of another institution or operator.
//! - Every answer is checked: a counterexample by Cedar's own evaluation, and the solver by [canaries](ProofError::Canary),
//!   properties that are known to be true and false, before and after each question.
//! - [`Permissions`]: a summary of what is permitted, for a page.
//! - [`DecisionTable`]: decisions that are expected of a policy, as examples.
//!
//! What is taken for granted of a node is what the loader of directories enforces: an operator that owns a machine is
//! controlled from one country in both roles. All else is free, the time included.

mod canary;
mod counterexample;
mod decision_table;
mod diff;
mod environment;
mod error;
mod floor_comparison;
mod language;
mod model;
mod permissions;
mod possible_time;
mod proof;
mod prover;
mod sentence;
mod solver;

pub use counterexample::{Counterexample, PossibleNode};
pub use decision_table::{DecisionTable, ExpectedDecision, TableError, decide};
pub use diff::{ActionDiff, PolicyDiff};
pub use error::ProofError;
pub use floor_comparison::{FloorComparison, FloorExcess};
pub use language::Language;
pub use model::PolicyModel;
pub use permissions::{Countries, Permissions, PermittedNodes, PermittedParticipants, TimedPermission};
pub use possible_time::PossibleTime;
pub use proof::{GuaranteeProof, ProofReport};
pub use prover::Prover;
pub use solver::SolverVersion;
