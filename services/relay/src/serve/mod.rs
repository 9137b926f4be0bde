//! HTTP as this node serves it, for clients and for metrics: HTTP/1.1 alone (WebSockets need it), with
//! limits on everything that somebody can make us hold. Half a request ends after [`HEAD_TIME`], and so does an idle
//! connection; a client that does not read is let go by the kernel.

mod connection_limit;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use prometheus_client::metrics::counter::Counter;

use connection_limit::Guard;

/// A request's head must be whole within this time; a connection may be idle for as long.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(15);
/// Longest request line and headers together.
const HEAD_BYTES: usize = 64 << 10;
/// Most headers of a request.
const HEADERS: usize = 100;
/// Longest URL: clients send the token and their attributes in it.
const URL_BYTES: usize = 32 << 10;
/// Largest body that any route takes.
const BODY_BYTES: usize = 64 << 10;
/// A body must be whole within this time.
const BODY_TIME: Duration = Duration::from_secs(15);
/// TLS must stand within this time.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// One listening port.
pub(crate) struct Port {
    /// Where it listens.
    pub(crate) listener: std::net::TcpListener,
    /// Most connections at one time; more are closed at once.
    pub(crate) connections: usize,
    /// Counts those.
    pub(crate) refused: Counter,
    /// Certificates, for HTTPS.
    pub(crate) tls: Option<RustlsConfig>,
    /// Ends it.
    pub(crate) handle: Handle<SocketAddr>,
}

/// Serves until the handle ends it.
///
/// # Errors
/// When the listener cannot be used.
pub(crate) async fn serve(port: Port, app: Router) -> std::io::Result<()> {
    let Port { listener, connections, refused, tls, handle } = port;
    let mut server = axum_server::from_tcp(listener)?
        .handle(handle)
        .accept_error_handler(rarely())
        .first_request_timeout(HEAD_TIME);
    server
        .http_builder()
        .http1()
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS);
    let service = app.layer(DefaultBodyLimit::max(BODY_BYTES)).layer(from_fn(short_url)).into_make_service();
    match tls {
        None => server.acceptor(Guard::new(connections, refused, DefaultAcceptor)).serve(service).await,
        Some(tls) => {
            let tls = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE_TIME);
            server.acceptor(Guard::new(connections, refused, tls)).serve(service).await
        }
    }
}

/// Routes that read a body, within [`BODY_TIME`].
pub(crate) fn in_time(routes: Router) -> Router {
    routes.layer(from_fn(async |request: Request, next: Next| -> Response {
        match tokio::time::timeout(BODY_TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time").into_response(),
        }
    }))
}

async fn short_url(request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
    if length > URL_BYTES {
        let words = format!("the URL has {length} bytes, at most {URL_BYTES} are read");
        return (StatusCode::URI_TOO_LONG, words).into_response();
    }
    next.run(request).await
}

/// Says that connections cannot be accepted, at most once in 10 s; a client's own failure only at
/// debug level.
fn rarely() -> impl Fn(Option<&SocketAddr>, &std::io::Error) + Send + Sync + 'static {
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    move |peer, error| {
        if peer.is_some() {
            tracing::debug!(%error, "a connection did not come about");
            return;
        }
        let now = start.elapsed().as_secs();
        let due = next.load(Ordering::Relaxed);
        if now >= due && next.compare_exchange(due, now + 10, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%error, "connections cannot be accepted");
        }
    }
}
