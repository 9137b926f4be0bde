//! The relay daemon as a library: it joins policy, registry, placement, rooms, links and clients
//! into a node, and holds no idea of its own beyond that.
//!
//! - [`config`] - what an operator writes down
//! - [`node`] - start to stop; [`outfit`] - the files that it starts with; `serve` - its HTTP ports;
//!   `listen` - sockets of media
//! - `door`, `join`, `admit` - the way of a participant into a room; `trace` - its spans
//! - `room`, [`rooms`] - rooms on this node
//! - `linkside`, [`trunk`] - other nodes
//! - [`authority`] - policy; [`reason`] - why something happened, in one list of words
//! - `api`, [`whereabouts`], [`metrics`], [`telemetry`] - what people and operators see
//! - [`demo`] - three nodes in one process

mod admit;
mod api;
pub mod authority;
pub mod config;
pub mod demo;
mod door;
#[doc(hidden)]
pub mod fuzz;
mod ids;
mod join;
mod linkside;
mod listen;
pub mod metrics;
pub mod node;
pub mod outfit;
pub mod reason;
mod room;
pub mod rooms;
mod serve;
mod tcp;
pub mod telemetry;
mod trace;
pub mod trunk;
pub mod whereabouts;
