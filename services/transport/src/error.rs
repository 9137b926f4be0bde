//! Errors, and the reasons for which a transport closes.

/// Why a transport closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// We closed it.
    #[error("closed by us")]
    Local,
    /// The peer closed it (DTLS close_notify).
    #[error("closed by the client")]
    Peer,
    /// Nothing authenticated was received from the peer for 15 s (consent expired, RFC 7675).
    #[error("nothing was received from the client for 15 s; its network failed or it stopped")]
    TimedOut,
    /// The handshake was not finished within 30 s of the peer's description.
    #[error("no connection within 30 s of the client's description; is its UDP to this node blocked?")]
    NeverConnected,
    /// The certificate in the handshake is not the one that signalling announced.
    #[error("the client's DTLS certificate is not the one in its SDP; a man in the middle, or a stale SDP")]
    WrongCertificate,
    /// A later description has another fingerprint; another certificate needs a new connection.
    #[error("the client changed its DTLS certificate; it must open a new connection")]
    ChangedCertificate,
    /// No SRTP profile that we support was negotiated.
    #[error("no SRTP profile was negotiated; the client must support AES_CM_128_HMAC_SHA1_80 or AES-GCM")]
    NoSrtp,
    /// The DTLS library reported an error.
    #[error("DTLS failed: {0}")]
    Dtls(String),
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The channel is not open yet, or the send buffer is full because the peer is slow.
    #[error("the send buffer is full or the channel is not open yet; send later or drop the message")]
    WouldBlock,
    /// Larger than `a=max-message-size`.
    #[error("a message of {len} bytes is over the limit of {limit}; split it")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There is no such channel, or it closed.
    #[error("the channel is not open; open a new one")]
    Closed,
}

/// Why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No keys: the transport is not connected yet, or closed.
    #[error("the transport has no keys; wait for Connected")]
    NotConnected,
    /// Not a complete RTP or RTCP packet.
    #[error("not a complete packet; nothing was sealed")]
    Malformed,
    /// The same SSRC and sequence number were sealed before, or the number is older than the replay
    /// window. Sealing other content would reuse a nonce (RFC 7714 section 14.1); retransmit on an RTX
    /// SSRC (RFC 4588).
    #[error("this sequence number was sealed before; retransmit on the RTX SSRC")]
    Repeated,
    /// The key reached its packet limit (RFC 3711 section 9.2), or too many SSRCs were sent under it.
    #[error("the keys are used up; the client must reconnect")]
    Exhausted,
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No keys: the transport is not connected yet, or closed.
    #[error("the transport has no keys; packet dropped")]
    NotConnected,
    /// Not an SRTP or SRTCP packet.
    #[error("not a packet of this kind; dropped")]
    Malformed,
    /// Authentication failed.
    #[error("the authentication tag is wrong; packet dropped")]
    Forged,
    /// Received before, or older than the replay window.
    #[error("a replayed or too old packet; dropped")]
    Replayed,
    /// The peer sends on too many SSRCs.
    #[error("more SSRCs than one connection may send on; packet dropped")]
    TooManySsrcs,
}
