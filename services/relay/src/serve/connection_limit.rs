//! Limits concurrent connections, WebSockets included, and those on which no participant was admitted yet. Refuses HTTP/2,
//! which `axum_server` would otherwise accept.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as when_ready};
use std::time::Duration;

use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::Layer as _;

use super::not_admitted::{NotAdmitted, NotAdmittedConnections};
use super::proxy_protocol::{ClientAddress, TrustedProxies, client_address};

/// The kernel closes a connection whose sent data is not acknowledged for this long (TCP_USER_TIMEOUT).
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Start of the HTTP/2 connection preface (RFC 9113 section 3.4); no HTTP/1.1 request starts like this.
const HTTP2: &[u8] = b"PRI ";

/// Accepts connections up to a limit; `inner` does the rest, such as TLS.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimit<A> {
    permits: Arc<Semaphore>,
    not_admitted: NotAdmittedConnections,
    proxies: TrustedProxies,
    refused: Counter,
    /// TLS keeps what the kernel does not take.
    tls: bool,
    inner: A,
}

impl<A> ConnectionLimit<A> {
    pub(super) fn new(
        limit: usize,
        not_admitted: NotAdmittedConnections,
        proxies: TrustedProxies,
        refused: Counter,
        inner: A,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self { permits, not_admitted, proxies, refused, tls: false, inner }
    }

    /// The same, where `inner` does TLS.
    pub(super) fn with_tls(self) -> Self {
        Self { tls: true, ..self }
    }
}

impl<A, S> Accept<TcpStream, S> for ConnectionLimit<A>
where
    A: Accept<CountedStream, S> + Clone + Send + Sync + 'static,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
    S: Send + 'static,
{
    type Stream = LimitedStream<A::Stream>;
    type Service = AddExtension<AddExtension<A::Service, NotAdmitted>, ClientAddress>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, mut stream: TcpStream, service: S) -> Self::Future {
        let Ok(peer) = stream.peer_addr() else { return self.refuse() };
        let behind_proxy = self.proxies.contains(peer.ip());
        // Behind a proxy the client is known after the proxy's header.
        let place = (!behind_proxy).then(|| self.not_admitted.add(peer.ip()));
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        let (Some(permit), None | Some(Some(_))) = (permit, &place) else { return self.refuse() };
        let _ = stream.set_nodelay(true);
        // Also covers a peer that keeps its receive window at zero.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let Self { not_admitted, refused, tls, inner, .. } = self.clone();
        Box::pin(async move {
            let (from, place) = match place.flatten() {
                Some(place) => (peer, place),
                None => {
                    let from = client_address(&mut stream, peer).await?;
                    let Some(place) = not_admitted.add(from.ip()) else {
                        refused.inc();
                        return Err(too_many());
                    };
                    (from, place)
                }
            };
            let (stream, service) = tokio::select! {
                () = place.ended() => return Err(ended()),
                accepted = inner.accept(CountedStream { stream, place: place.clone() }, service) => accepted?,
            };
            let service = axum::Extension(place.clone()).layer(service);
            let service = axum::Extension(ClientAddress(from)).layer(service);
            let ended = Box::pin(place.ended_owned());
            Ok((LimitedStream { stream, preface: Some(0), ended, _permit: permit, place, tls }, service))
        })
    }
}

impl<A> ConnectionLimit<A> {
    fn refuse<T: Send + 'static>(&self) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send>> {
        self.refused.inc();
        Box::pin(ready(Err(too_many())))
    }
}

fn too_many() -> io::Error {
    io::Error::other("too many connections")
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "ended in favour of a newer connection")
}

/// The connection below TLS: counts what the client sends, in the handshake too.
#[derive(Debug)]
pub(super) struct CountedStream {
    stream: TcpStream,
    place: NotAdmitted,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        when_ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.place.received(buf.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection that holds a permit.
#[derive(Debug)]
pub(super) struct LimitedStream<T> {
    stream: T,
    /// How many of the first bytes match [`HTTP2`]; none after a mismatch.
    preface: Option<usize>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
    place: NotAdmitted,
    tls: bool,
}

impl<T> LimitedStream<T> {
    fn count_written(&self, bytes: usize) {
        if self.tls {
            self.place.written(bytes);
        }
    }

    /// An error once the connection must end. Also while a client reads slowly and nothing is read from it.
    fn check_ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.ended.as_mut().poll(cx).is_ready() { Err(ended()) } else { Ok(()) }
    }

    fn check_preface(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            let Some(at) = self.preface else { break };
            self.preface = (HTTP2.get(at) == Some(byte)).then_some(at + 1);
            if self.preface == Some(HTTP2.len()) {
                return Err(io::Error::other("HTTP/2 is not supported"));
            }
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LimitedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_ended(cx)?;
        let before = buf.filled().len();
        when_ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.check_preface(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LimitedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_ended(cx)?;
        let written = when_ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.count_written(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_ended(cx)?;
        let written = when_ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.count_written(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_ended(cx)?;
        when_ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.tls {
            self.place.sent();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
