//! Media on links: a QUIC endpoint on a thread of its own moves packets between the workers' rings and
//! the QUIC connections. Everything in `RefCell` and `Rc` here lives on that thread.

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

#[cfg(feature = "fuzzing")]
pub(crate) use bind::fuzz as fuzz_bind_request;
pub(crate) use command::{LinkId, LinkSetup, QuicCommand};
pub(crate) use config::QuicConfig;
pub(crate) use handle::QuicHandle;
pub(crate) use thread::spawn;
pub use worker_port::WorkerPort;
