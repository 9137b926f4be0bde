//! What end-to-end tests stand on: relays as separate processes, a real etcd, a real Chromium and
//! LiveKit's native SDK. Nothing here knows the inside of a relay; everything goes through its
//! sockets and its command line.

pub mod browser;
pub mod cluster;
pub mod collector;
pub mod etcd;
pub mod native;
pub mod process;
pub mod signal;
pub mod site;
