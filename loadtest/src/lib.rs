//! A load generator for any server that speaks the LiveKit protocol: synthetic participants join,
//! publish sound and pictures, subscribe, and measure what reaches them. Its WebRTC stack (str0m)
//! shares nothing with the server's, so that it finds what the two would otherwise agree to get
//! wrong. It decodes nothing and opens no windows: pictures are valid only as far as an SFU looks.
//!
//! [`run`] takes a [`Config`] and answers a [`Report`]; the binary `systir-load` adds a command
//! line, a progress bar and a table.

mod config;
mod media;
mod names;
mod participant;
pub mod peer;
mod playback;
mod publisher;
mod report;
mod run;
pub mod sdp;
mod session;
mod signal;
mod stats;
mod transport;

pub use config::Config;
pub use report::{RefusedGroup, Report};
pub use run::{Progress, run, run_with};
pub use signal::JoinError;
