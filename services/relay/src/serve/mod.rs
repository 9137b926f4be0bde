//! The HTTP servers for clients and for metrics: HTTP/1.1 only (required by WebSockets), with limits on all
//! that a client can make the node hold. An incomplete request or an idle connection ends after
//! [`HEAD_TIME`]; the kernel closes the connection of a client that does not read.

mod connection_limit;
mod not_admitted;
pub(crate) mod proxy_protocol;
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

use connection_limit::ConnectionLimit;
use not_admitted::{NotAdmittedConnections, follow_requests};
use proxy_protocol::{TrustedProxies, use_client_address};

/// Time limit for the head of a request, and for an idle connection.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(15);
/// Limit of request line and headers together.
const HEAD_BYTES: usize = 64 << 10;
/// Limit of headers per request.
const HEADERS: usize = 100;
/// Limit of the URL; clients send the token and their attributes in it.
const URL_BYTES: usize = 32 << 10;
/// Limit of a request body.
const BODY_BYTES: usize = 64 << 10;
/// Time limit for a request with a body.
const BODY_TIME: Duration = Duration::from_secs(15);
/// Time limit for the TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// One listening port.
pub(crate) struct HttpPort {
    /// The listener.
    pub(crate) listener: std::net::TcpListener,
    /// Limit of concurrent connections; further ones are closed at once.
    pub(crate) connections: usize,
    /// Limit of concurrent connections of one address on which no participant was admitted.
    pub(crate) per_address: usize,
    /// Proxies that state the addresses of clients.
    pub(crate) proxies: TrustedProxies,
    /// Counts refused connections.
    pub(crate) refused: Counter,
    /// TLS configuration; none for plain HTTP.
    pub(crate) tls: Option<RustlsConfig>,
    /// Shuts the server down.
    pub(crate) handle: Handle<SocketAddr>,
}

/// Serves until the handle shuts it down.
///
/// # Errors
/// When the listener cannot be used.
pub(crate) async fn serve(port: HttpPort, app: Router) -> std::io::Result<()> {
    let HttpPort { listener, connections, per_address, proxies, refused, tls, handle } = port;
    let mut server = axum_server::from_tcp(listener)?
        .handle(handle)
        .accept_error_handler(log_accept_errors())
        .first_request_timeout(HEAD_TIME);
    server
        .http_builder()
        .http1()
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS);
    let app = app.layer(DefaultBodyLimit::max(BODY_BYTES)).layer(from_fn(limit_url));
    let app = app.layer(from_fn(follow_requests)).layer(from_fn(use_client_address));
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let not_admitted = NotAdmittedConnections::new(connections.div_ceil(3), per_address);
    match tls {
        None => {
            let acceptor = ConnectionLimit::new(connections, not_admitted, proxies, refused, DefaultAcceptor);
            server.acceptor(acceptor).serve(service).await
        }
        Some(tls) => {
            let tls = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE_TIME);
            let acceptor = ConnectionLimit::new(connections, not_admitted, proxies, refused, tls).with_tls();
            server.acceptor(acceptor).serve(service).await
        }
    }
}

/// Adds the time limit [`BODY_TIME`] to routes that read a body.
pub(crate) fn with_body_timeout(routes: Router) -> Router {
    routes.layer(from_fn(async |request: Request, next: Next| -> Response {
        match tokio::time::timeout(BODY_TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time").into_response(),
        }
    }))
}

async fn limit_url(request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
    if length > URL_BYTES {
        let text = format!("the URL has {length} bytes; the limit is {URL_BYTES}");
        return (StatusCode::URI_TOO_LONG, text).into_response();
    }
    next.run(request).await
}

/// Logs that connections cannot be accepted, at most every 10 s. Errors of one connection, such as a failed
/// TLS handshake, are logged at debug level.
fn log_accept_errors() -> impl Fn(Option<&SocketAddr>, &std::io::Error) + Send + Sync + 'static {
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    move |peer, error| {
        if peer.is_some() {
            tracing::debug!(%error, "a connection was not established");
            return;
        }
        let now = start.elapsed().as_secs();
        let due = next.load(Ordering::Relaxed);
        if now >= due && next.compare_exchange(due, now + 10, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%error, "connections cannot be accepted");
        }
    }
}
