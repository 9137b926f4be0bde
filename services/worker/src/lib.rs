//! A media worker: one thread that owns its UDP socket, its participants' transports and a
//! forwarding core. The rest of the node sends it [`systir_media_control::Command`]s and receives
//! [`systir_media_control::Event`]s; packets for other nodes cross in batches.
//!
//! [`Worker::spawn`] starts one. Within, `engine` is the worker without thread, socket and clock;
//! `thread` gives it these.

pub mod tcp;

mod connection;
mod control;
mod data;
mod demux;
mod egress;
mod engine;
mod feedback;
mod ingress;
mod links;
mod message;
mod outgoing;
mod owners;
mod pool;
mod reception;
mod rooms;
mod stats;
mod streams;
mod table;
mod thread;

pub(crate) use demux::binding_request_ufrag;
pub use links::Ring;
pub use message::WorkerMessage;
pub use pool::{WorkerAccess, WorkerPool};
pub use stats::{WorkerCounts, WorkerStats};
pub use thread::{Worker, WorkerConfig, WorkerHandle};

/// Entrances for the fuzzers; not part of the interface.
#[cfg(feature = "fuzzing")]
pub mod fuzz {
    /// Sorts a datagram.
    pub fn demux(bytes: &[u8]) {
        let _ = crate::demux::protocol_of(bytes);
        if let Some(ufrag) = crate::demux::binding_request_ufrag(bytes) {
            assert!(ufrag.len() < bytes.len());
        }
    }
}
