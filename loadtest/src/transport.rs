//! Sockets of a peer connection: UDP, or a TCP stream with a length before each packet (RFC 4571), for
//! networks that block UDP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow};
use socket2::{Domain, Socket, Type};
use str0m::Candidate;
use str0m::net::{Protocol, TcpType};
use tokio::net::{TcpStream, UdpSocket};

/// Large enough for bursts of many tracks, bytes.
const SOCKET_BUFFER: usize = 1 << 20;
/// Time limit for connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// With more unsent bytes than this, packets are dropped.
const MAX_UNSENT: usize = 1 << 20;
const LENGTH: usize = 2;

#[derive(Debug)]
pub(crate) enum Transport {
    Udp {
        socket: UdpSocket,
        local: SocketAddr,
    },
    /// None until the server's TCP candidate is known.
    Tcp(Option<Stream>),
}

#[derive(Debug)]
pub(crate) struct Stream {
    io: TcpStream,
    local: SocketAddr,
    server: SocketAddr,
    read: Vec<u8>,
    unsent: Vec<u8>,
}

impl Transport {
    /// Opens a UDP socket on the local address of the signalling connection.
    pub(crate) async fn udp(local: IpAddr) -> anyhow::Result<Self> {
        // A server on this host may have signalling on ::1 and media on 127.0.0.1 only.
        let local = if local.is_loopback() { Ipv4Addr::LOCALHOST.into() } else { local };
        let socket = bind(local).with_context(|| format!("cannot open a UDP socket on {local}"))?;
        let local = socket.local_addr()?;
        // Until tokio's reactor has reported the socket as writable, each send would fail.
        socket.writable().await?;
        Ok(Self::Udp { socket, local })
    }

    /// The local candidate; none before TCP is connected.
    pub(crate) fn candidate(&self) -> anyhow::Result<Option<Candidate>> {
        let candidate = match self {
            Self::Udp { local, .. } => Candidate::host(*local, "udp"),
            Self::Tcp(Some(stream)) => {
                Candidate::builder().tcp().host(stream.local).tcptype(TcpType::Active).build()
            }
            Self::Tcp(None) => return Ok(None),
        };
        candidate.map(Some).map_err(|error| anyhow!("no candidate: {error}"))
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Udp { .. } => Protocol::Udp,
            Self::Tcp(_) => Protocol::Tcp,
        }
    }

    /// Connects to the first passive TCP candidate of a description, unless connected already. Returns
    /// whether it connected.
    pub(crate) async fn connect(&mut self, description: &str) -> anyhow::Result<bool> {
        let Self::Tcp(stream @ None) = self else { return Ok(false) };
        let lines = description.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
        let mut passive = lines.filter_map(passive_address);
        let Some(server) = passive.next() else { return Ok(false) };
        let cannot = || format!("cannot reach the server's media over TCP at {server}");
        let connecting = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(server));
        let io = connecting.await.with_context(cannot)?.with_context(cannot)?;
        io.set_nodelay(true)?;
        let local = io.local_addr()?;
        *stream = Some(Stream { io, local, server, read: Vec::new(), unsent: Vec::new() });
        Ok(true)
    }

    /// Waits until there is something to read; writes unsent bytes meanwhile. Safe to cancel.
    pub(crate) async fn ready(&mut self) -> io::Result<()> {
        match self {
            Self::Udp { socket, .. } => socket.readable().await,
            Self::Tcp(None) => std::future::pending().await,
            Self::Tcp(Some(stream)) => stream.ready().await,
        }
    }

    /// Reads the next packet into the buffer: its length, source and destination. None when there is none
    /// yet.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
    ) -> io::Result<Option<(usize, SocketAddr, SocketAddr)>> {
        match self {
            Self::Udp { socket, local } => {
                let (size, source) = socket.try_recv_from(buffer)?;
                Ok(Some((size, source, *local)))
            }
            Self::Tcp(None) => Ok(None),
            Self::Tcp(Some(stream)) => {
                let size = stream.receive(buffer)?;
                Ok(size.map(|size| (size, stream.server, stream.local)))
            }
        }
    }

    /// Returns whether the socket accepted the packet.
    pub(crate) fn send(&mut self, packet: &[u8], to: SocketAddr) -> bool {
        match self {
            Self::Udp { socket, .. } => socket.try_send_to(packet, to).is_ok(),
            Self::Tcp(None) => false,
            Self::Tcp(Some(stream)) => stream.send(packet),
        }
    }
}

impl Stream {
    /// Length of the first packet, when all of it was read.
    fn complete(&self) -> Option<usize> {
        let (length, rest) = self.read.split_first_chunk::<LENGTH>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        (rest.len() >= length).then_some(length)
    }

    async fn ready(&mut self) -> io::Result<()> {
        // The socket does not become readable again for a packet that was read with an earlier one.
        if self.complete().is_some() {
            return Ok(());
        }
        while !self.unsent.is_empty() {
            tokio::select! {
                readable = self.io.readable() => return readable,
                writable = self.io.writable() => writable?,
            }
            self.write()?;
        }
        self.io.readable().await
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if let Some(length) = self.complete() {
                let packet = self.read.iter().skip(LENGTH).take(length);
                let size = buffer.iter_mut().zip(packet).map(|(place, byte)| *place = *byte).count();
                self.read.drain(..LENGTH + length);
                return Ok(Some(size));
            }
            let mut bytes = [0; 16 << 10];
            match self.io.try_read(&mut bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                size => self.read.extend_from_slice(bytes.get(..size).unwrap_or_default()),
            }
        }
    }

    fn send(&mut self, packet: &[u8]) -> bool {
        let Ok(length) = u16::try_from(packet.len()) else { return false };
        if self.unsent.len() > MAX_UNSENT {
            return false;
        }
        self.unsent.extend_from_slice(&length.to_be_bytes());
        self.unsent.extend_from_slice(packet);
        // Bytes that remain are written by `ready`; an error shows at the next read.
        let _ = self.write();
        true
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.io.try_write(&self.unsent) {
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The address of a passive TCP candidate (RFC 6544): `foundation component tcp priority ip port
/// typ host tcptype passive`.
fn passive_address(candidate: &str) -> Option<SocketAddr> {
    let mut words = candidate.split_whitespace().skip(2);
    let tcp = words.next()?.eq_ignore_ascii_case("tcp") && candidate.contains("tcptype passive");
    let (ip, port) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
    tcp.then(|| SocketAddr::new(ip, port))
}

fn bind(local: IpAddr) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(local, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // The system may grant less. Bursts that do not fit are then measured as loss, correctly.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passive_tcp_candidates_are_connected_to() {
        let at = |line: &str| passive_address(line).map(|address| address.to_string());
        let tcp = "1 1 tcp 2121 192.0.2.1 7881 typ host tcptype passive";
        assert_eq!(at(tcp).as_deref(), Some("192.0.2.1:7881"));
        assert_eq!(at(&tcp.replace("192.0.2.1", "2001:db8::1")).as_deref(), Some("[2001:db8::1]:7881"));
        assert_eq!(at("1 1 udp 2130706431 192.0.2.1 7882 typ host"), None);
        assert_eq!(at(&tcp.replace("passive", "active")), None);
        assert_eq!(at(""), None);
    }
}
