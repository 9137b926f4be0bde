//! The closed list of reason codes of the whole project, and the refusal that carries one. Logs, spans,
//! the `reason` label of metrics, operators' tables and the text of a refusal all use these codes. This
//! crate decides nothing and depends on no other crate of the project.
//!
//! [`Reason`] is the list. [`Refusal`] is a reason with a sentence and the policy rules that decided.
//!
//! ```
//! use systir_reason::{Reason, Refusal};
//!
//! let refusal = Refusal::new(Reason::Full, "the node has no free seat");
//! assert_eq!(refusal.to_string(), "the node has no free seat [full]");
//! ```

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod code;
#[cfg(feature = "metrics")]
mod label;
mod refusal;

pub use code::Reason;
#[cfg(feature = "metrics")]
pub use label::ByReason;
pub use refusal::Refusal;
