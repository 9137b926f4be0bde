//! Signalling messages and connections, counted where they pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one leg of signalling: clients' sockets, or streams to other nodes.
#[derive(Debug, Default)]
pub struct SignalCounters {
    open: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<SignalCounters>);

impl SignalCounters {
    /// A connection of this leg is open.
    #[must_use]
    pub fn opened(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
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

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
