//! What goes wrong, told by type where a caller acts on it.

/// Why a transport ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// We closed it.
    #[error("closed by us")]
    Local,
    /// The peer said goodbye (DTLS close_notify).
    #[error("closed by the client")]
    Peer,
    /// Nothing authenticated came from the peer for 15 s (RFC 7675).
    #[error("nothing was heard from the client for 15 s; its network is gone or it stopped")]
    Silent,
    /// The peer's description came, but no connection within 30 s.
    #[error("no connection within 30 s of the client's description; is its UDP to this node blocked?")]
    NeverConnected,
    /// The certificate in the handshake is not the one that signalling announced.
    #[error(
        "the client's DTLS certificate is not the one it announced; somebody is in between, or its SDP is stale"
    )]
    WrongCertificate,
    /// A later description announced another certificate; that needs a new connection.
    #[error("the client changed its DTLS certificate; it must make a new connection")]
    ChangedCertificate,
    /// The peer negotiated no SRTP profile that we know.
    #[error("the client agreed on no SRTP profile; it must support AES_CM_128_HMAC_SHA1_80 or AES-GCM")]
    NoSrtp,
    /// The DTLS library gave up.
    #[error("DTLS failed: {0}")]
    Dtls(String),
}

/// A message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The channel is not open yet, or the peer takes data too slowly.
    #[error("the channel's buffer is full or it is not open yet; send again later or drop the message")]
    WouldBlock,
    /// Larger than what we announced.
    #[error("a message of {len} bytes is over the limit of {limit}; split it")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There is no such channel, or it ended.
    #[error("the channel is not open; open a new one")]
    Closed,
}

/// A packet could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No keys yet, or no longer.
    #[error("the transport has no keys; wait for Connected")]
    NotConnected,
    /// Not a complete RTP or RTCP packet.
    #[error("not a complete packet; nothing was sealed")]
    Malformed,
    /// The same SSRC and sequence number were sealed before, or the number is far behind. Sealing
    /// twice would reuse a nonce (RFC 7714 section 14.1): retransmit under an own SSRC (RFC 4588).
    #[error("this sequence number was sealed before; retransmit on the RTX SSRC")]
    Repeated,
    /// The key or the table of SSRCs is used up (RFC 3711 section 9.2).
    #[error("the keys are used up; the client must reconnect")]
    Exhausted,
}

/// A packet could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No keys yet, or no longer.
    #[error("the transport has no keys; packet dropped")]
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
