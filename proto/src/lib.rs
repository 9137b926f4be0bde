//! The wire formats between nodes, generated from `systir/*/v1/*.proto`, and the constants that both
//! ends of a link must share. Its only behaviour is to count fields of encoded messages ([`fields()`]).
//!
//! Messages need only `prost`; the feature `grpc` adds the clients and servers of the services.
//! The code under `generated/` is committed. `make proto` regenerates it; a test fails when it is stale.

/// Node to node: link sessions, signed documents, reservations, relayed signalling.
pub mod cluster {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!("generated/systir.cluster.v1.rs");
    }
}

mod fields;

pub use fields::{Field, Malformed, fields};

/// `Hello.version`. It does not change any more: nodes agree on versions when they connect.
pub const LINK_VERSION: u32 = 3;
