//! The PROXY protocol (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>), versions 1 and 2: a proxy that passes
//! TCP on states the client's address before the first byte, so that limits per address hold. Only proxies of the
//! configuration are believed, and they must state it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use proxy_header::{ParseConfig, ProxyHeader};
use systir_documents::IpPrefix;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit for the header. A proxy sends it at once.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Longest header of version 1, and of version 2 with what proxies add to the addresses.
const LONGEST_V1: usize = 107;
const LONGEST_V2: usize = 1024;
/// How each header of version 2 begins; one of version 1 is longer than this too.
const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The proxies that state clients' addresses.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Arc<[IpPrefix]>);

impl TrustedProxies {
    pub(crate) fn new(prefixes: Vec<IpPrefix>) -> Self {
        Self(prefixes.into())
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(address))
    }
}

/// The address of the client, for each request on its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAddress(pub(super) SocketAddr);

/// Reads the header of a proxy: the client's address, or the proxy's own for a connection that it makes for itself, such as a
/// health check.
pub(super) async fn client_address(stream: &mut TcpStream, proxy: SocketAddr) -> io::Result<SocketAddr> {
    let header = timeout(HEADER_TIME, read_header(stream)).await??;
    stated_address(&header, proxy)
}

/// The address that a header states.
fn stated_address(header: &[u8], proxy: SocketAddr) -> io::Result<SocketAddr> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "the proxy's header cannot be parsed");
    let (header, _) = ProxyHeader::parse(header, ParseConfig::default()).map_err(invalid)?;
    Ok(header.proxied_address().map_or(proxy, |proxied| proxied.source))
}

/// The bytes of the header, and not one more: what follows is the client's.
async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let wrong = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let mut header = vec![0; SIGNATURE_V2.len()];
    stream.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE_V2) {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        header.extend(rest);
        let [_, _, length @ ..] = rest;
        let length = usize::from(u16::from_be_bytes(length));
        if length > LONGEST_V2 {
            return Err(wrong("the proxy's header is too long"));
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        header.extend(rest);
        return Ok(header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(wrong("a proxy of http.proxy_protocol sent no PROXY header"));
    }
    while !header.ends_with(b"\n") {
        if header.len() >= LONGEST_V1 {
            return Err(wrong("the proxy's header is too long"));
        }
        header.push(stream.read_u8().await?);
    }
    Ok(header)
}

/// Middleware: requests come from the client, not from its proxy.
pub(super) async fn use_client_address(mut request: Request, next: Next) -> Response {
    if let Some(ClientAddress(address)) = request.extensions().get().copied() {
        request.extensions_mut().insert(ConnectInfo(address));
    }
    next.run(request).await
}

/// Entry point for the fuzz target: the header that begins what a proxy sends, and that no byte after it is read.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(mut sent: &[u8]) {
    use futures::FutureExt as _;

    let (whole, proxy) = (sent, SocketAddr::from(([192, 0, 2, 1], 1)));
    // All bytes are there, so reading them does not wait.
    let Some(Ok(header)) = read_header(&mut sent).now_or_never() else { return };
    assert_eq!(whole.strip_prefix(header.as_slice()), Some(sent));
    assert!(header.len() <= LONGEST_V1.max(SIGNATURE_V2.len() + 4 + LONGEST_V2));
    let _ = stated_address(&header, proxy);
}
