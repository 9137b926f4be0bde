//! What passes on one leg of signalling, counted where it passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One leg: the sockets of clients, say, or the streams to other nodes.
#[derive(Debug, Default)]
pub struct Tally {
    open: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct Open(Arc<Tally>);

impl Tally {
    /// A connection of this leg is open.
    #[must_use]
    pub fn opened(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// A message was received on this leg.
    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was sent on this leg.
    pub fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Messages received and sent so far.
    #[must_use]
    pub fn messages(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
