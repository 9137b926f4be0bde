//! A gRPC connection between two nodes: who the peer is, and until when.

use super::open_connections::ConnectionEntry;
use crate::event::DownReason;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;
use systir_identity::{HandshakeRole, ProvenIdentity};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Bytes that only the two ends of a connection know, from its TLS exporter.
pub(crate) type ConnectionSecret = [u8; 32];

/// Sessions of one connection of which this node reads the first message, at most: what a peer sends there is held before
/// anything is decided.
const UNSTARTED_SESSIONS: usize = 1;
/// The same for signalling. An honest gateway sends the first message with the request.
const UNSTARTED_SIGNALLING: usize = 2;

/// A connection whose peer has proven its identity. Every request on it has it as an extension.
pub(crate) struct NodeConnection {
    pub(super) number: u64,
    /// Which end this node is.
    pub(super) role: HandshakeRole,
    pub(super) secret: ConnectionSecret,
    peer: Mutex<ProvenIdentity>,
    until: watch::Sender<SystemTime>,
    /// Cancelled when the connection has ended or is to end.
    pub(super) closed: CancellationToken,
    /// Sessions whose first message this node reads.
    pub(crate) unstarted_sessions: Semaphore,
    /// Signalling streams whose first message this node reads.
    pub(crate) unstarted_signalling: Semaphore,
    reason: OnceLock<DownReason>,
}

impl NodeConnection {
    pub(super) fn new(
        number: u64,
        role: HandshakeRole,
        secret: ConnectionSecret,
        peer: ProvenIdentity,
        until: SystemTime,
    ) -> Self {
        Self {
            number,
            role,
            secret,
            peer: Mutex::new(peer),
            until: watch::Sender::new(until),
            closed: CancellationToken::new(),
            unstarted_sessions: Semaphore::new(UNSTARTED_SESSIONS),
            unstarted_signalling: Semaphore::new(UNSTARTED_SIGNALLING),
            reason: OnceLock::new(),
        }
    }

    /// The peer, as it proved last.
    pub(crate) fn peer(&self) -> ProvenIdentity {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the connection ends: the first of both certificates expires then.
    pub(crate) fn until(&self) -> SystemTime {
        *self.until.borrow()
    }

    pub(super) fn watch_until(&self) -> watch::Receiver<SystemTime> {
        self.until.subscribe()
    }

    /// Another certificate of the same link expires earlier.
    pub(crate) fn end_before(&self, until: SystemTime) {
        self.until.send_if_modified(|current| {
            let earlier = until < *current;
            *current = until.min(*current);
            earlier
        });
    }

    /// The peer proved its identity again, perhaps with another node key or certificate, on a connection that may last
    /// until then. This one lasts as long: what was proved earlier does not count any more.
    pub(super) fn renew(&self, peer: ProvenIdentity, until: SystemTime) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = peer;
        self.until.send_if_modified(|current| {
            let other = until != *current;
            *current = until;
            other
        });
    }

    /// Ends the connection and all its streams at once.
    pub(crate) fn end(&self, reason: DownReason) {
        let _ = self.reason.set(reason);
        self.closed.cancel();
    }

    /// Why this node ends or ended the connection. None when it did not.
    fn reason(&self) -> Option<DownReason> {
        self.reason.get().cloned()
    }

    /// Returns once the connection has ended, whatever ended it.
    pub(super) async fn ended(&self) {
        self.closed.cancelled().await;
    }

    /// Returns once this node ends the connection.
    pub(crate) async fn ended_by_this_node(&self) -> DownReason {
        self.closed.cancelled().await;
        match self.reason() {
            Some(reason) => reason,
            // The peer ended it: what it sent before is still to be read.
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for NodeConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the secret.
        f.debug_struct("NodeConnection")
            .field("role", &self.role)
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// The bytes of a connection. Dropping it ends the connection.
pub(crate) struct NodeStream<S> {
    stream: S,
    entry: ConnectionEntry,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> NodeStream<S> {
    pub(super) fn new(stream: S, entry: ConnectionEntry) -> Self {
        let closed = Box::pin(entry.connection().closed.clone().cancelled_owned());
        Self { stream, entry, closed }
    }

    pub(crate) fn connection(&self) -> &Arc<NodeConnection> {
        self.entry.connection()
    }

    /// An error once the connection is to end. Wakes the task then.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.closed.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        let reason = self.connection().reason().map_or_else(String::new, |reason| reason.to_string());
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
    }
}

impl<S> Connected for NodeStream<S> {
    type ConnectInfo = Arc<NodeConnection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection().clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NodeStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NodeStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
