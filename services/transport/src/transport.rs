//! The transport: skeleton of the interface.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;

use crate::Certificate;

/// What a datagram is, by its first byte (RFC 7983).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 0 to 3.
    Stun,
    /// 20 to 63.
    Dtls,
    /// 128 to 191, and not RTCP.
    Rtp,
    /// 128 to 191, with an RTCP packet type in the second byte (RFC 5761).
    Rtcp,
}

/// Says which protocol a datagram belongs to; none is junk.
#[must_use]
pub fn classify(datagram: &[u8]) -> Option<Class> {
    match datagram {
        [0..=3, ..] => Some(Class::Stun),
        [20..=63, ..] => Some(Class::Dtls),
        [128..=191, 192..=223, ..] => Some(Class::Rtcp),
        [128..=191, _, ..] => Some(Class::Rtp),
        _ => None,
    }
}

/// ICE credentials (RFC 8445 section 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

/// What a transport is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our ICE credentials.
    pub local: IceCredentials,
    /// Our certificate.
    pub certificate: Certificate,
    /// Our host addresses (UDP), as advertised.
    pub candidates: Vec<SocketAddr>,
    /// ICE-lite (RFC 8445 section 2.5): we only answer.
    pub ice_lite: bool,
    /// Largest UDP payload in bytes that DTLS and SCTP make; 1200 is safe.
    pub mtu: usize,
}

/// What the peer's description says of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its ICE credentials.
    pub ice: IceCredentials,
    /// SHA-256 of its DTLS certificate.
    pub fingerprint: [u8; 32],
    /// Does it send the ClientHello (`a=setup:active`)?
    pub client_is_active: bool,
}

/// A channel of this transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(crate) u32);

/// How media is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// RFC 7714.
    Aes128Gcm,
    /// RFC 7714.
    Aes256Gcm,
    /// RFC 3711, AES_CM_128_HMAC_SHA1_80.
    Aes128CmSha1,
}

/// Why a transport ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// We closed it.
    #[error("closed by us")]
    Local,
}

/// What a transport tells.
#[derive(Debug, Clone, PartialEq)]
pub enum TransportEvent {
    /// ICE and DTLS are up, the peer's certificate is the announced one; media may flow.
    Connected {
        /// How media is protected.
        profile: SrtpProfile,
    },
    /// A data channel is open, ours or one that the peer opened.
    ChannelOpen {
        /// The channel.
        id: ChannelId,
        /// Its label.
        label: Arc<str>,
        /// Are messages delivered in order?
        ordered: bool,
        /// Retransmissions allowed per message; none is unlimited.
        max_retransmits: Option<u16>,
        /// Did the peer open it?
        by_peer: bool,
    },
    /// A message.
    ChannelData {
        /// The channel.
        id: ChannelId,
        /// Its label.
        label: Arc<str>,
        /// Binary, or UTF-8 text?
        binary: bool,
        /// The message.
        data: Bytes,
    },
    /// The channel ended.
    ChannelClosed {
        /// The channel.
        id: ChannelId,
    },
    /// The transport ended; nothing more follows.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// A message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer takes data too slowly.
    #[error("the channel's buffer is full; send again later or drop the message")]
    WouldBlock,
    /// Larger than any client takes.
    #[error("a message of {len} bytes is over the limit of {limit}; split it")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// There is no such channel, or it ended.
    #[error("the channel is not open; open a new one")]
    Closed,
}

/// A packet could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No keys yet.
    #[error("the transport has no keys yet; wait for Connected")]
    NotConnected,
    /// Not an RTP or RTCP packet.
    #[error("not a complete packet; nothing was sealed")]
    Malformed,
    /// The key has sealed as much as it may (RFC 3711 section 9.2).
    #[error("the key is used up; the client must reconnect")]
    Exhausted,
}

/// A packet could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No keys yet.
    #[error("the transport has no keys yet; packet dropped")]
    NotConnected,
    /// Not an SRTP or SRTCP packet.
    #[error("not a packet of this kind; dropped")]
    Malformed,
    /// Authentication failed.
    #[error("the authentication tag is wrong; packet dropped")]
    Forged,
    /// Seen before, or older than the replay window.
    #[error("a replayed or too old packet; dropped")]
    Replayed,
    /// Too many different SSRCs.
    #[error("more senders than one connection may have; packet dropped")]
    TooManySenders,
}

/// One WebRTC transport.
#[derive(Debug)]
pub struct Transport {}

impl Transport {
    /// A transport that waits for the peer.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        let _ = (config, now);
        Self {}
    }
    /// Tells what the peer's description says; held packets are handled now.
    pub fn set_remote(&mut self, _now: Instant, _remote: Remote) {}
    /// Takes a STUN or DTLS datagram.
    pub fn handle(&mut self, _now: Instant, _from: SocketAddr, _to: SocketAddr, _datagram: &[u8]) {}
    /// Has an authenticated STUN check come from there?
    #[must_use]
    pub fn is_authenticated(&self, _from: SocketAddr) -> bool {
        false
    }
    /// Where media goes.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
    /// Appends one datagram to `out` and says where it goes.
    pub fn poll_transmit(&mut self, _out: &mut Vec<u8>) -> Option<SocketAddr> {
        None
    }
    /// The next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        None
    }
    /// When to call `handle_timeout`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// Time has passed.
    pub fn handle_timeout(&mut self, _now: Instant) {}
    /// Opens a data channel; it is opened once SCTP is up.
    pub fn open_channel(&mut self, _label: &str, _ordered: bool, _max_retransmits: Option<u16>) -> ChannelId {
        ChannelId(0)
    }
    /// Sends a binary message.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&mut self, _channel: ChannelId, _data: &[u8]) -> Result<(), SendError> {
        Err(SendError::Closed)
    }
    /// Seals the plain RTP packet `out[start..]` in place.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal_rtp(&mut self, _out: &mut Vec<u8>, _start: usize) -> Result<(), SealError> {
        Err(SealError::NotConnected)
    }
    /// Seals the plain compound RTCP packet `out[start..]` in place.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal_rtcp(&mut self, _out: &mut Vec<u8>, _start: usize) -> Result<(), SealError> {
        Err(SealError::NotConnected)
    }
    /// Opens an SRTP packet in place.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_rtp<'a>(&mut self, _datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        Err(OpenError::NotConnected)
    }
    /// Opens an SRTCP packet in place.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_rtcp<'a>(&mut self, _datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        Err(OpenError::NotConnected)
    }
    /// Ends the connection.
    pub fn close(&mut self, _now: Instant) {}
}
