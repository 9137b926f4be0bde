//! Everything that reads bytes of strangers, as plain functions that take bytes and must not
//! panic. Two things run them: cargo-fuzz in `tests/fuzz`, for as long as one likes, and this
//! crate's test over the committed corpus and some thousands of mutations of it, always the same.
//!
//! Where more can be said than that nothing panics, a body asserts it.

pub mod client;
pub mod link;
pub mod media;
pub mod mutate;
pub mod operator;
mod reader;
pub mod transport;

/// A body by its name; the fuzz target and the folder of its corpus have the same.
pub type Target = (&'static str, fn(&[u8]));

/// All bodies.
pub const TARGETS: &[Target] = &[
    ("rtp_header", media::rtp_header),
    ("link_packet", media::link_packet),
    ("vp8", media::vp8),
    ("vp9", media::vp9),
    ("h264", media::h264),
    ("av1", media::av1),
    ("forwarding_core", media::forwarding_core),
    ("rtcp", transport::rtcp),
    ("dcep", transport::dcep),
    ("sctp", transport::sctp),
    ("datagrams", transport::datagrams),
    ("early_datagrams", transport::early_datagrams),
    ("demux", client::demux),
    ("offer", client::offer),
    ("answer", client::answer),
    ("token", client::token),
    ("signal", client::signal),
    ("data", client::data),
    ("frame", link::frame),
    ("room_update", link::room_update),
    ("record", link::record),
    ("room_key", link::room_key),
    ("spiffe", link::spiffe),
    ("policy", operator::policy),
    ("facts", operator::facts),
    ("config", operator::config),
];
