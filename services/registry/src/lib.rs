//! The shared records of a cluster: the leases of its nodes and the assignment of each room. The crate makes no
//! policy or placement decisions and stores nothing about participants. Reads come from a local copy, so
//! that running rooms never wait for the store.
//!
//! [`Registry`] is the trait; [`EtcdRegistry`] implements it on etcd and [`LocalRegistry`] inside one
//! process. [`Assignments`] holds the grants of rooms and is the only writer of their records.
//!
//! # Example
//!
//! ```
//! use systir_registry::{LocalStore, Registry as _};
//!
//! // Every node of one process has its own handle on the store.
//! let store = LocalStore::default();
//! let registry = store.registry();
//! assert_eq!(registry.view().nodes().count(), 0);
//! ```

mod assignments;
mod backoff;
mod connection;
mod etcd;
mod etcd_config;
mod follow;
mod full_read;
mod keep_lease;
mod lease;
mod local;
mod metrics;
mod probe;
mod record;
mod registry;
mod renew;
mod room_watch;
mod shared;
mod shared_view;
mod store_history;
mod unreadable_warnings;
mod view;
mod view_change;

pub use assignments::{
    Assignments, GrantPeers, GrantPurpose, GrantSigner, HOME_ANSWER_TIMEOUT, Occupied, ToldAssignment,
    unix_ms,
};
pub use connection::EtcdCredentials;
pub use etcd::EtcdRegistry;
pub use etcd_config::EtcdConfig;
pub use lease::{Lease, NodeLoad, UnsupportedLease};
pub use local::{LocalRegistry, LocalStore};
pub use metrics::RegistryMetrics;
pub use probe::{EtcdAnswers, EtcdStatus, probe};
pub use registry::{CreateError, Registry, RegistryError, UpdateError};
pub use room_watch::RoomWatch;
pub use view::View;

/// Entry points for fuzzing; not part of the API.
#[cfg(feature = "fuzzing")]
pub mod fuzz {
    /// Parses one record of etcd.
    pub fn record(key: &[u8], value: &[u8]) {
        crate::record::fuzz(key, value);
    }
}
