//! One WebRTC transport of one peer connection, sans-IO: ICE (lite, RFC 8445), DTLS-SRTP
//! (RFC 5763, 5764), SRTP and SRTCP (RFC 3711, 7714), SCTP data channels (RFC 8831, 8832).
//! It knows nothing of SDP, rooms, tracks, sockets or clocks.
//!
//! [`Transport`] is the whole of it. The caller owns the socket: it sorts datagrams with [`classify`],
//! hands STUN and DTLS to [`Transport::handle`], media to [`Transport::open_rtp`], and after each
//! call drains [`Transport::poll_transmit`] and [`Transport::poll_event`].

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

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
mod sctp;

mod srtp;
pub use srtp::SrtpProfile;

mod transport;
pub use transport::{Config, Remote, Transport};

/// Entrances for the fuzzers; not part of the interface.
#[cfg(feature = "fuzzing")]
pub mod fuzz {
    /// Parses a DCEP message.
    pub fn dcep(bytes: &[u8]) {
        let _ = crate::dcep::Message::parse(bytes);
    }

    /// Hands packets to an association that waits for its peer; each gets the checksum that it
    /// should have, or nothing behind it would ever be reached.
    pub fn sctp(packets: impl Iterator<Item = Vec<u8>>) {
        #[allow(clippy::disallowed_methods, reason = "the fuzzer has no other time")]
        let now = std::time::Instant::now();
        let mut sctp = crate::sctp::Sctp::new(1200, now);
        sctp.start(now, false);
        let mut events = std::collections::VecDeque::new();
        for mut packet in packets {
            if let Some(place) = packet.get_mut(8..12) {
                place.fill(0);
                let sum = crc32c(&packet).to_le_bytes();
                if let Some(place) = packet.get_mut(8..12) {
                    place.copy_from_slice(&sum);
                }
            }
            sctp.handle(now, packet, &mut events);
            while sctp.poll_transmit().is_some() {}
            events.clear();
        }
    }

    /// Castagnoli's checksum (RFC 9260, appendix A).
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 }
            })
        })
    }
}
