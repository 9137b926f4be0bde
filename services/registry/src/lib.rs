//! What a cluster writes down: which nodes live and which nodes carry which room. One trait, two
//! implementations: etcd, and one inside a process. It decides nothing and knows nothing about
//! people; reads come from the last known copy, so that nothing that runs waits for the store.

mod backoff;
mod etcd;
mod lease;
mod local;
mod registry;
mod sync;
mod view;

pub use etcd::{EtcdConfig, EtcdRegistry};
pub use lease::{Lease, Load};
pub use local::{LocalRegistry, LocalStore};
pub use registry::{CreateError, Registry, RegistryError, UpdateError};
pub use view::View;

/// Entrances for the fuzzers; not part of the interface.
#[doc(hidden)]
pub mod fuzz {
    /// A record of etcd.
    pub fn record(key: &[u8], value: &[u8]) {
        crate::sync::fuzz(key, value);
    }
}
