//! The wire formats between nodes, generated from `systir/*/v1/*.proto`, and the constants that both
//! ends of a link must share. It has no behaviour.
//!
//! Messages need `prost` alone; the feature `grpc` adds the clients and servers of the services.
//! The code under `generated/` is committed; `make proto` makes it anew, and a test compares.

/// Node to node: sessions of links, reservations, relayed signalling.
pub mod cluster {
    /// First version.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!("generated/systir.cluster.v1.rs");
    }
}

/// Version of the link protocol (`Hello.version`); another one is refused.
pub const LINK_VERSION: u32 = 1;
