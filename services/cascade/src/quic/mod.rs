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
mod router;
mod setup;
mod state;
mod thread;
mod token_bucket;
mod worker_port;

pub(crate) use command::{Binding, Command, LinkId};
pub(crate) use config::QuicConfig;
pub(crate) use handle::QuicHandle;
pub(crate) use thread::spawn;
pub use worker_port::WorkerPort;
