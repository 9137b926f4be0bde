//! The wire formats between relays, compiled from `systir/*/v1/*.proto`,
//! and the constants that both ends of a link must share. It knows no behaviour.

pub mod extensions;

/// Relay to relay: sessions of links, reservations, relayed signalling.
pub mod cluster {
    /// First version.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("systir.cluster.v1");
    }
}

/// Version of the link protocol (`Hello.version`); another one is refused.
pub const LINK_VERSION: u32 = 1;
