//! The transport of one WebRTC peer connection, sans-IO: ICE (lite, RFC 8445), DTLS-SRTP
//! (RFC 5763, 5764), SRTP and SRTCP (RFC 3711, 7714), SCTP data channels (RFC 8831, 8832).
//! It has no SDP, rooms, tracks, sockets or clock.
//!
//! [`Transport`] is the main type. The caller owns the socket: it classifies datagrams with [`classify`],
//! passes STUN and DTLS to [`Transport::handle`], RTP to [`Transport::open_rtp`] and RTCP to
//! [`Transport::open_rtcp`], and after each call drains [`Transport::poll_transmit`] and
//! [`Transport::poll_event`]. `examples/two_peers.rs` shows the whole loop.

// Tests read the clock for a start time.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod certificate;
pub use certificate::{Certificate, CertificateError};

mod demux;
pub use demux::{Protocol, classify};

mod dcep;
mod dtls;
mod early_datagrams;

mod ice;
pub use ice::IceCredentials;

mod error;
pub use error::{CloseReason, OpenError, SealError, SendError};

mod event;
pub use event::{ChannelId, TransportEvent};

mod replay;
mod sctp;

mod srtp;
pub use srtp::SrtpProfile;

mod transport;
pub use transport::{Remote, Transport, TransportConfig};

/// Entry points for the fuzz targets; not part of the API.
#[cfg(feature = "fuzzing")]
pub mod fuzz;
