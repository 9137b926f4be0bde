//! Versions of what nodes exchange, and which of them work together. Formats between nodes (gRPC, QUIC, records in
//! etcd) are numbered by the minor version of the release: release 0.1 has number 1. Each release works with its own number and
//! the one before. Formats of signed documents have numbers of their own, which are in the first line of a document.
//!
//! [`VersionRange`] is what one side works with; [`VersionRange::agree`] is the rule, the same for connections, records and
//! documents: two sides work together if they have a number in common.
//!
//! ```
//! use systir_version::VersionRange;
//!
//! let (ours, next, after) = (range(1, 2), range(2, 3), range(3, 4));
//! assert_eq!(ours.agree(next, "sto-1"), Ok(2));
//! let refused = ours.agree(after, "sto-1").unwrap_err().to_string();
//! assert!(refused.contains("sto-1 works with versions 0.3 to 0.4"), "{refused}");
//! # fn range(oldest: u16, newest: u16) -> VersionRange { VersionRange::new(oldest, newest).unwrap() }
//! ```

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod range;
mod unsupported;

pub use range::VersionRange;
pub use unsupported::UnsupportedVersion;
