//! A load generator for any server that speaks the LiveKit protocol: synthetic participants join,
//! publish audio and video, subscribe, and measure what they receive. Its WebRTC stack (str0m) shares
//! no code with Systir's, so an error in one of them shows as a disagreement. It publishes clips that any
//! client can decode, and decodes nothing itself.
//!
//! [`run()`] takes a [`Config`] and returns a [`Report`]; the binary `systir-load` adds a command
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
mod track_counts;
mod transport;

pub use config::Config;
pub use report::{ReasonCount, Report};
pub use run::{Progress, run, run_with};
pub use signal::JoinError;
pub use track_counts::TrackCounts;
