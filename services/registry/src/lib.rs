//! What a cluster writes down: which nodes live and which nodes carry which room. One trait, two
//! implementations: etcd, and one inside a process. Reads come from the last known copy, so that nothing
//! that runs waits for the store. It decides nothing and knows no participants.
//!
//! [`Registry`] is the trait, [`EtcdRegistry`] and [`LocalRegistry`] implement it; [`Assignments`] is the
//! only writer of room assignments.

mod assignments;
mod backoff;
mod etcd;
mod follow;
mod keep_lease;
mod lease;
mod local;
mod record;
mod registry;
mod view;

pub use assignments::{AssignedRole, Assignments, JoinAssignment, NotWritten, unix_ms};
pub use etcd::{EtcdConfig, EtcdRegistry};
pub use lease::{Lease, Load};
pub use local::{LocalRegistry, LocalStore};
pub use registry::{CreateError, Registry, RegistryError, UpdateError};
pub use view::View;

/// Entrances for the fuzzers; not part of the interface.
#[cfg(feature = "fuzzing")]
pub mod fuzz {
    /// A record of etcd.
    pub fn record(key: &[u8], value: &[u8]) {
        crate::record::fuzz(key, value);
    }
}
