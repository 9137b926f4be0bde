//! A place for each connection, from its first byte to its last, WebSockets included; and no HTTP/2,
//! of which the layers above would speak whatever they are told.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as when_ready};
use std::time::Duration;

use axum_server::accept::Accept;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What was sent and is not taken for so long ends the connection.
const UNREAD: Duration = Duration::from_secs(30);

/// How HTTP/2 begins, and no request of HTTP/1.1.
const HTTP2: &[u8] = b"PRI ";

/// Lets in as many as there are places; `inner` does the rest, such as TLS.
#[derive(Debug, Clone)]
pub(super) struct Guard<A> {
    places: Arc<Semaphore>,
    refused: Counter,
    inner: A,
}

impl<A> Guard<A> {
    pub(super) fn new(places: usize, refused: Counter, inner: A) -> Self {
        Self { places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))), refused, inner }
    }
}

impl<A, S> Accept<TcpStream, S> for Guard<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Held<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refused.inc();
            return Box::pin(ready(Err(io::Error::other("there are too many connections"))));
        };
        let _ = stream.set_nodelay(true);
        // The kernel counts what the other side does not acknowledge and a window that stays shut.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD));
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((Held { stream, alike: Some(0), _place: place }, service))
        })
    }
}

/// A connection and its place.
#[derive(Debug)]
pub(super) struct Held<T> {
    stream: T,
    /// First bytes that were those of HTTP/2; none once one was not.
    alike: Option<usize>,
    _place: OwnedSemaphorePermit,
}

impl<T> Held<T> {
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            let Some(at) = self.alike else { break };
            self.alike = (HTTP2.get(at) == Some(byte)).then_some(at + 1);
            if self.alike == Some(HTTP2.len()) {
                return Err(io::Error::other("HTTP/2 is not spoken here"));
            }
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        when_ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.look(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
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
