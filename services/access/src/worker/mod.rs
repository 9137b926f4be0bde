//! A media worker: one thread that owns its UDP socket, its participants' transports and a
//! forwarding core. The rest of the node talks to it by [`command::Command`] and hears from it by
//! [`command::Event`]; packets for other nodes cross in batches.

pub mod command;
