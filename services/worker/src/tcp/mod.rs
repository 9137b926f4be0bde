//! Media over TCP, for clients whose network lets no UDP out (RFC 6544, passive; framing of
//! RFC 4571). Nobody is trusted for having connected: a connection must name one of our ICE
//! fragments within seconds, there are only so many that have not, and only so many from one
//! address. The fragment says which worker owns the peer connection; from then on the stream is
//! the worker's, and ICE, DTLS and SRTP on it are the same as over UDP.

mod framing;
mod gate;
mod listen;

pub(crate) use framing::{Frames, write_frame};
pub(crate) use gate::Pass;
pub use gate::{Gate, GateCounts};
pub use listen::serve;

use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::net::TcpStream;

/// A connection whose first frame names a worker's ICE fragment. Nothing of it is proved yet.
#[derive(Debug)]
pub struct TcpArrival {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) frames: Frames,
    pub(crate) pass: Pass,
}

impl TcpArrival {
    /// Takes the connection out of the runtime that accepted it. The first frame is still in
    /// `frames`.
    fn new(stream: TcpStream, peer: SocketAddr, frames: Frames, pass: Pass) -> std::io::Result<Self> {
        Ok(Self { stream: stream.into_std()?, peer, frames, pass })
    }
}

/// One frame's content.
pub(crate) type Frame = BytesMut;
