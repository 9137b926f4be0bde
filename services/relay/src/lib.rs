//! The relay daemon as a library: reads the configuration, builds a node from the other crates, starts and
//! stops it, and serves its HTTP ports. It makes no policy, placement or room decisions; those crates do.
//!
//! - [`config`]: the operator's configuration; `startup_files`: the files that it names; `changed_files`: follows files;
//!   `operator_mistakes`: what is dangerous in them; [`dry_run`]: checks all of it;
//!   `api_keys`, `room_keys`, `node_key`: the keys in force
//! - `documents`: the signed documents of this node, and the policy that follows from them
//! - [`node`]: a node from start to stop; `workers`, `listen`, `ice_tcp`: its media; `load`: its load report
//! - `gateway`, `gateway_role`, `join`: clients at this gateway; `signal_pump`: relayed signalling
//! - `cluster_service`, `link_dispatch`, `node_directory`, `refusal_wire`, `unreachable_nodes`: the other nodes
//! - [`doctor`]: what is wrong with a node and its machine; `kernel_limits`, `port_owner`: limits and ports of the machine
//! - `drain`: empties the node before it stops
//! - `journal`: writes what decisions let in and kept out
//! - `api`, `documents_api`, `drain_api`, `metrics`, [`telemetry`]: for operators and participants; `serve`: the HTTP ports
//! - [`demo`]: three nodes in one process

mod api;
mod api_keys;
mod changed_files;
mod cluster_service;
pub mod config;
pub mod demo;
pub mod doctor;
mod documents;
mod documents_api;
mod drain;
mod drain_api;
pub mod dry_run;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod gateway;
mod gateway_role;
mod ice_tcp;
mod join;
mod journal;
mod kernel_limits;
mod link_dispatch;
mod listen;
mod load;
mod metrics;
pub mod node;
mod node_directory;
mod node_key;
mod operator_mistakes;
mod policy_page;
mod port_owner;
mod refusal_wire;
mod room_keys;
mod room_opening;
mod serve;
mod signal_pump;
mod startup_files;
pub mod telemetry;
mod ticket_issuer;
mod unreachable_nodes;
mod workers;
