//! What end-to-end tests stand on: relays as separate processes, a real etcd, a real Chromium and
//! LiveKit's native SDK. Nothing here knows the inside of a relay; everything goes through its
//! sockets and its command line.
//!
//! A test is [`scene::play`] around its steps: it has its turn, a limit, and logs that are kept.

pub mod afar;
pub mod alone;
pub mod browser;
pub mod cluster;
pub mod collector;
pub mod crowd;
pub mod distance;
pub mod etcd;
pub mod lines;
pub mod native;
mod operator;
pub mod ports;
pub mod process;
mod reaper;
pub mod scene;
pub mod scripted;
pub mod signal;
pub mod signalling;
pub mod site;
pub mod talker;
