//! What end-to-end tests stand on: relays as separate processes, a real etcd, a real Chromium and
//! LiveKit's native SDK. Nothing here knows the inside of a relay; everything goes through its
//! sockets and its command line.
//!
//! A test is [`scenario::play`] around its steps: it has its turn, a limit, and logs that are kept.

pub mod browser;
pub mod cluster;
pub mod collector;
pub mod driven_client;
pub mod etcd;
pub mod lossy_path;
pub mod native;
pub mod network_namespace;
mod node_files;
pub mod output_lines;
pub mod participants;
pub mod ports;
pub mod process;
mod process_groups;
pub mod raw_signalling;
pub mod relay;
pub mod scenario;
pub mod scripted;
pub mod signal_client;
pub mod two_sites;
