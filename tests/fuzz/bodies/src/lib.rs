//! The fuzz targets' bodies: functions that pass bytes to each parser of untrusted input and must not
//! panic. cargo-fuzz runs them in `tests/fuzz`; this crate's test runs them over the committed corpus and
//! over a fixed set of mutations of it.
//!
//! Some bodies also assert properties of the result.

pub mod claims;
pub mod client;
pub mod documents;
pub mod grants;
pub mod link;
pub mod media;
pub mod mutate;
pub mod operator;
mod reader;
pub mod room;
pub mod transport;

/// A body and its name, which is also the name of the fuzz target and of its corpus folder.
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
    ("tcp_frames", client::tcp_frames),
    ("query", client::query),
    ("offer", client::offer),
    ("answer", client::answer),
    ("token", client::token),
    ("signal", client::signal),
    ("data", client::data),
    ("frame", link::frame),
    ("messages", link::messages),
    ("bind_request", link::bind_request),
    ("certificate", link::certificate),
    ("room_update", link::room_update),
    ("record", link::record),
    ("room_key", link::room_key),
    ("spiffe", link::spiffe),
    ("policy", operator::policy),
    ("config", operator::config),
    ("journal", operator::journal),
    ("document", documents::document),
    ("ticket", documents::ticket),
    ("grant", documents::grant),
    ("ice", transport::ice),
    ("dtls", transport::dtls),
    ("srtp", transport::srtp),
    ("established_sctp", transport::established_sctp),
    ("proxy_header", client::proxy_header),
    ("api_bodies", client::api_bodies),
    ("ingress", media::ingress),
    ("room_link", room::room_link),
    ("calls", link::calls),
    ("version", link::version),
    ("trust_roots", link::trust_roots),
    ("room_tag", link::room_tag),
    ("profile", operator::profile),
    ("grant_offers", grants::offers),
];
