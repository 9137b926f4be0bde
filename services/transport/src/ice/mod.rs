//! ICE (RFC 8445) as a lite agent (section 2.5), which also sends checks: to an address before media, and while media is sent to it.

use std::{collections::VecDeque, net::SocketAddr};

use aws_lc_rs::hmac;

mod lite;

pub(crate) use lite::IceLite;

/// ICE credentials (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment, 4 to 256 characters.
    pub ufrag: String,
    /// Password, 22 to 256 characters.
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// A datagram to send.
pub(crate) struct Transmit {
    pub(crate) to: SocketAddr,
    /// Our address that it must be sent from; none for the selected path.
    pub(crate) from: Option<SocketAddr>,
    pub(crate) datagram: Vec<u8>,
}

/// Datagrams to send.
pub(crate) type TransmitQueue = VecDeque<Transmit>;

/// Address pairs that are kept for one peer.
pub(crate) const MAX_PATHS: usize = 32;

/// HMAC-SHA1 of STUN's MESSAGE-INTEGRITY (RFC 8489 section 14.5).
pub(crate) fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 20];
    out.copy_from_slice(context.sign().as_ref());
    out
}
