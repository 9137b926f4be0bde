//! Test harness of the end-to-end tests and of the benchmarks: relays as processes, a real etcd,
//! Chromium, Firefox, LiveKit's native SDK and its Go SDK. It uses relays only through their sockets,
//! files and command line, never through their Rust code.
//!
//! A test wraps its steps in [`scenario::run_scenario`]: one scenario runs at a time, each has a time
//! limit, and the logs of its processes are kept.

pub mod browser;
pub mod cluster;
pub mod collector;
pub mod debian_machines;
pub mod driven_client;
pub mod etcd;
pub mod etcd_path;
pub mod hostile_etcd;
pub mod impaired_meeting;
pub mod impaired_path;
mod link_addresses;
pub mod load_balancer;
pub mod lossy_path;
pub mod meeting;
pub mod moving_picture;
mod namespace;
pub mod native;
pub mod network_namespace;
mod node_files;
pub mod operator_commands;
pub mod output_lines;
pub mod participants;
pub mod ports;
pub mod process;
mod process_groups;
pub mod process_memory;
pub mod raw_signalling;
pub mod relay;
pub mod scenario;
pub mod scripted;
pub mod secure_etcd;
pub mod server_process;
pub mod signal_client;
pub mod two_sites;
pub mod wrong_clock;
