//! The media half of links: a QUIC endpoint on a thread of its own. It moves packets between the
//! workers' rings and the connections; it decides nothing but who is late.

mod bind;
mod command;
mod config;
mod connection;
mod flow_table;
mod forward;
mod handle;
mod link_media;
mod maintain;
mod pending_links;
mod receive;
mod setup;
mod state;
mod thread;
mod token_bucket;
mod worker_port;
mod worker_rings;

pub(crate) use command::{Command, LinkId, LinkSetup};
pub(crate) use config::QuicConfig;
pub(crate) use handle::QuicHandle;
pub(crate) use thread::spawn;
pub use worker_port::WorkerPort;
