//! Where the peer is: ICE (RFC 8445), always controlled. [`lite`] only answers and is what a
//! server on a public address wants; [`full`] also checks, for peers that need it.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use aws_lc_rs::hmac;

mod full;
mod lite;

pub(crate) use full::Full;
pub(crate) use lite::Lite;

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

/// Datagrams that wait to be sent, with their destination.
pub(crate) type Outbox = VecDeque<(SocketAddr, Vec<u8>)>;

/// Remote addresses that one peer may use at a time.
pub(crate) const MAX_PATHS: usize = 32;

/// Either agent.
pub(crate) enum Ice {
    Lite(Lite),
    Full(Box<Full>),
}

impl Ice {
    pub(crate) fn set_remote(&mut self, now: Instant, remote: IceCredentials) {
        match self {
            Self::Lite(lite) => lite.set_remote(remote),
            Self::Full(full) => full.set_remote(now, remote),
        }
    }

    pub(crate) fn set_local(&mut self, local: IceCredentials) {
        match self {
            Self::Lite(lite) => lite.set_local(local),
            Self::Full(full) => full.set_local(local),
        }
    }

    /// Would this check authenticate, whoever it comes from?
    pub(crate) fn knows(&self, datagram: &[u8]) -> bool {
        match self {
            Self::Lite(lite) => lite.knows(datagram),
            Self::Full(full) => full.knows(datagram),
        }
    }

    /// Handles a STUN message and says whether it was authentic.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        out: &mut Outbox,
    ) -> bool {
        match self {
            Self::Lite(lite) => lite.handle(now, from, to, datagram, out),
            Self::Full(full) => full.handle(now, from, to, datagram, out),
        }
    }

    pub(crate) fn is_authenticated(&self, from: SocketAddr) -> bool {
        match self {
            Self::Lite(lite) => lite.is_authenticated(from),
            Self::Full(full) => full.is_authenticated(from),
        }
    }

    pub(crate) fn remote_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Lite(lite) => lite.remote_addr(),
            Self::Full(full) => full.remote_addr(),
        }
    }

    /// Our address of the pair in use, as far as it is known.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Lite(lite) => lite.pair().map(|(_, local)| local),
            Self::Full(_) => None,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Lite(_) => None,
            Self::Full(full) => full.poll_timeout(),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if let Self::Full(full) = self {
            full.handle_timeout(now, out);
        }
    }
}

/// STUN's message integrity (RFC 8489 section 14.5).
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
