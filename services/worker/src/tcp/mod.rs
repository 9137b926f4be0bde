//! Media over TCP, for clients whose network blocks UDP (RFC 6544, passive; framing of RFC 4571). A new
//! connection is not trusted: its first frame must be a check with one of our ICE username fragments, within
//! seconds, and connections without an authenticated check are limited in total and per address. The oldest
//! without a first check ends when places are short. The fragment identifies the worker of the peer
//! connection; the stream is passed to that worker. ICE, DTLS and SRTP are the same as over UDP.

mod connection_limiter;
mod framing;
mod listen;

#[cfg(test)]
pub(crate) use connection_limiter::Unidentified;
pub use connection_limiter::{ConnectionCounts, ConnectionLimiter};
pub(crate) use framing::{Frames, write_frame};
pub use listen::serve;

use std::net::SocketAddr;

use systir_limits::AddressPlace;
use tokio::net::TcpStream;

/// A connection whose first frame carries an ICE fragment of a worker. It is not authenticated yet.
#[derive(Debug)]
pub struct TcpArrival {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) frames: Frames,
    pub(crate) permit: AddressPlace,
}

impl TcpArrival {
    /// Detaches the connection from the runtime that accepted it. `frames` still holds the first frame.
    fn new(
        stream: TcpStream,
        peer: SocketAddr,
        frames: Frames,
        permit: AddressPlace,
    ) -> std::io::Result<Self> {
        Ok(Self { stream: stream.into_std()?, peer, frames, permit })
    }
}
