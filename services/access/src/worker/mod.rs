//! A media worker: one thread that owns its UDP socket, its participants' transports and a
//! forwarding core. The rest of the node talks to it by [`command::Command`] and hears from it by
//! [`command::Event`]; packets for other nodes cross in batches.
//!
//! [`Worker::spawn`] starts one. Within, `engine` is the worker without thread, socket and clock;
//! `thread` gives it these.

pub mod command;

mod connection;
mod control;
mod data;
mod demux;
mod egress;
mod engine;
mod feedback;
mod ingress;
mod links;
mod outgoing;
mod owners;
mod reception;
mod rooms;
mod stats;
mod streams;
mod table;
mod thread;
mod wake;

pub(crate) use demux::binding_request_ufrag;
pub use links::{Ring, WorkerRing};
pub use stats::{WorkerCounts, WorkerStats};
pub use thread::{Worker, WorkerConfig, WorkerHandle};
pub use wake::WorkerWaker;

/// Entrance for the fuzzers.
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = demux::Protocol::of(bytes);
    if let Some(ufrag) = demux::binding_request_ufrag(bytes) {
        assert!(ufrag.len() < bytes.len());
    }
}
