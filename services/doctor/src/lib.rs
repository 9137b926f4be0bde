//! What `systirctl doctor` says of a node and its machine: checks of facts that others gather. Each check returns one
//! line: ok, a warning, or what is wrong and what to do. The crate opens nothing and reads no clock.
//!
//! - [`Finding`]: one line; [`Diagnosis`]: all of them
//! - [`kernel`]: limits of the machine; [`ports`]: who has the node's ports; [`clock`]: is the time right
//! - [`documents`]: dates of signed documents; [`addresses`]: advertised addresses and the directory's prefixes
//! - [`etcd`], [`peers`]: what answers, and as whom this node is known there

pub mod addresses;
pub mod clock;
pub mod documents;
pub mod etcd;
mod finding;
pub mod kernel;
pub mod peers;
pub mod ports;
mod time_span;

pub use finding::{Diagnosis, Finding, FindingArea, FindingLevel};
pub use time_span::time_span;
