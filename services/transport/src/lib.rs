//! One WebRTC transport of one peer connection, sans-IO: ICE (lite, RFC 8445), DTLS-SRTP
//! (RFC 5763, 5764), SRTP and SRTCP (RFC 3711, 7714), SCTP data channels (RFC 8831, 8832).
//! It knows nothing of SDP, rooms, tracks, sockets or clocks.

mod certificate;
mod transport;

pub use certificate::{Certificate, CertificateError};
pub use transport::{
    ChannelId, CloseReason, Config, IceCredentials, OpenError, Remote, SealError, SendError, SrtpProfile,
    Transport, TransportEvent, classify, Class,
};
