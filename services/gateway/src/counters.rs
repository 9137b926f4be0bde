//! Counters of signalling messages and connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one hop of signalling: sockets of clients, or streams to other nodes.
#[derive(Debug, Default)]
pub struct SignalCounters {
    open: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<SignalCounters>);

impl SignalCounters {
    /// Counts a new connection.
    #[must_use]
    pub fn opened(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// Counts a received message.
    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a sent message.
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
