//! Why something happened: one closed list of reason codes for the whole project, and the refusal that
//! carries one. The same code stands in logs, on spans, in the `reason` label of metrics, in operators'
//! tables and in brackets behind the sentence of a refusal. This crate decides
//! nothing and depends on no other crate of the project.
//!
//! [`Reason`] is the list, [`Refusal`] is "refused, and why".
//!
//! ```
//! use systir_reason::{Reason, Refusal};
//!
//! let refusal = Refusal::new(Reason::Full, "the node has no free seat");
//! assert_eq!(refusal.to_string(), "the node has no free seat [full]");
//! ```

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod code;
#[cfg(feature = "metrics")]
mod label;
mod refusal;

pub use code::Reason;
#[cfg(feature = "metrics")]
pub use label::ByReason;
pub use refusal::Refusal;
