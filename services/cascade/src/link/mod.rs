//! The links of a node: dialling and accepting peers, the gRPC session of each link, the rooms on it.

pub(crate) mod accept;
mod control;
mod dial;
pub(crate) mod documents;
mod established;
mod hello;
pub(crate) mod info;
mod link_rooms;
pub(crate) mod needed_rooms;
mod run;
pub(crate) mod runtime;
pub(crate) mod send;
mod session_queue;
pub(crate) mod state_pace;
pub(crate) mod table;
mod text_limits;

#[cfg(feature = "fuzzing")]
pub(crate) use hello::fuzz as fuzz_hello;
