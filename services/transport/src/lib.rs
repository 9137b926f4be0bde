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
pub mod fuzz {
    /// Parses a DCEP message.
    pub fn dcep(bytes: &[u8]) {
        let _ = crate::dcep::DcepMessage::parse(bytes);
    }

    /// Passes packets to an association that waits for its peer. Each packet gets a valid checksum:
    /// otherwise every packet is dropped at the checksum.
    pub fn sctp(packets: impl Iterator<Item = Vec<u8>>) {
        #[allow(clippy::disallowed_methods, reason = "a fuzz target has no other source of time")]
        let now = std::time::Instant::now();
        let mut sctp = crate::sctp::Sctp::new(1200, now);
        sctp.start(now, false);
        let mut events = std::collections::VecDeque::new();
        for mut packet in packets {
            if let Some(checksum) = packet.get_mut(8..12) {
                checksum.fill(0);
                let sum = crc32c(&packet).to_le_bytes();
                if let Some(checksum) = packet.get_mut(8..12) {
                    checksum.copy_from_slice(&sum);
                }
            }
            sctp.handle(now, packet, &mut events);
            while sctp.poll_transmit().is_some() {}
            events.clear();
        }
    }

    /// CRC32c, SCTP's checksum (RFC 9260 appendix A).
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 }
            })
        })
    }
}
