//! A media worker: one thread that owns its UDP sockets, its participants' transports and a
//! forwarding core. The rest of the node sends it [`systir_media_control::WorkerCommand`]s and receives
//! [`systir_media_control::WorkerEvent`]s; packets for other nodes are passed in batches over a [`Ring`]. It has
//! no room state and no client protocol.
//!
//! [`Worker::spawn`] starts one. Inside, `engine` is the worker without thread, socket and clock, which
//! `thread` provides.
//!
//! `tests/worker` drives a worker with clients over sockets; `systir-relay`'s `workers.rs` starts the workers of
//! a node.

pub mod tcp;

mod bandwidth;
mod connection;
mod control;
mod data;
mod demand;
mod demux;
mod due;
mod due_queue;
mod egress;
mod engine;
mod estimates;
mod feedback;
mod frame_hold;
mod ingress;
mod links;
mod message;
mod metrics;
mod multi_send;
mod outgoing;
mod padding;
mod pending;
mod pool;
mod quality;
mod reader_queue;
mod readers;
mod reception;
mod reports;
mod room_events;
mod round_trip;
mod send_batch;
mod send_control;
mod send_queue;
mod sent_rate;
mod socket;
mod stats;
mod stream_owners;
mod streams;
mod table;
mod thread;
mod wanted;

#[cfg(test)]
mod packet_cost;
#[cfg(test)]
mod simulated_meeting;

pub(crate) use demux::binding_request_ufrag;
pub use links::Ring;
pub use message::WorkerMessage;
pub use metrics::WorkerMetrics;
pub use pool::{WorkerAccess, WorkerPool};
pub use stats::{WorkerCounts, WorkerStats};
pub use thread::{Worker, WorkerConfig, WorkerHandle};

/// Entry points for the fuzz targets; not part of the API.
#[cfg(feature = "fuzzing")]
pub mod fuzz;
