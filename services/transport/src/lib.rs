//! One WebRTC transport of one peer connection, sans-IO: ICE (lite, RFC 8445), DTLS-SRTP
//! (RFC 5763, 5764), SRTP and SRTCP (RFC 3711, 7714), SCTP data channels (RFC 8831, 8832).
//! It knows nothing of SDP, rooms, tracks, sockets or clocks.
//!
//! [`Transport`] is the whole of it; [`rtcp`] and [`twcc`] are the grammar of what a worker says
//! and hears beside the media. The caller owns the socket: it sorts datagrams with [`classify`],
//! hands STUN and DTLS to [`Transport::handle`], media to [`Transport::open_rtp`], and after each
//! call drains [`Transport::poll_transmit`] and [`Transport::poll_event`].

mod certificate;
pub use certificate::{Certificate, CertificateError};

mod demux;
pub use demux::{Class, classify};

mod dcep;
mod dtls;
mod held;

mod ice;
pub use ice::IceCredentials;

mod error;
pub use error::{CloseReason, OpenError, SealError, SendError};

mod event;
pub use event::{ChannelId, TransportEvent};

mod replay;
pub mod rtcp;
mod sctp;

mod srtp;
pub use srtp::SrtpProfile;

mod transport;
pub use transport::{Config, Remote, Transport};

pub mod twcc;

/// Entrances for the fuzzers; not part of the interface.
#[doc(hidden)]
pub mod fuzz {
    /// Parses a DCEP message.
    pub fn dcep(bytes: &[u8]) {
        let _ = crate::dcep::Message::parse(bytes);
    }
}
