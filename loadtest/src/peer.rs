//! One peer connection: a str0m `Rtc` and the UDP socket it speaks through.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, anyhow};
use socket2::{Domain, Socket, Type};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;

/// Datagrams taken from the socket before others have their turn.
const BATCH: usize = 64;
/// Largest datagram expected.
const DATAGRAM: usize = 2_000;
/// Room for bursts of many tracks, bytes.
const SOCKET_BUFFER: usize = 1 << 20;

/// A peer connection.
pub(crate) struct Peer {
    pub(crate) rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    /// When [`Peer::tick`] is due.
    pub(crate) due: Instant,
    /// What happened since the last look.
    pub(crate) events: Vec<Event>,
    /// Datagrams that the system did not take.
    pub(crate) unsent: u64,
    pub(crate) connected: bool,
}

impl Peer {
    /// Opens a socket on the address by which this machine reaches the server.
    pub(crate) async fn open(config: RtcConfig, local: IpAddr, now: Instant) -> anyhow::Result<Self> {
        // A server on this machine may be reached by ::1 and offer media on 127.0.0.1 only.
        let local = if local.is_loopback() { Ipv4Addr::LOCALHOST.into() } else { local };
        let socket = bind(local).with_context(|| format!("cannot open a UDP socket on {local}"))?;
        let local = socket.local_addr()?;
        // Before the reactor has seen the socket, each attempt to send would fail.
        socket.writable().await?;
        let mut rtc = config.set_rtp_mode(true).build(now);
        let candidate = Candidate::host(local, "udp").map_err(|error| anyhow!("{local}: {error}"))?;
        rtc.add_local_candidate(candidate);
        Ok(Self { rtc, socket, local, due: now, events: Vec::new(), unsent: 0, connected: false })
    }

    /// Answers the server's offer.
    pub(crate) fn answer(&mut self, sdp: &str) -> anyhow::Result<String> {
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|error| anyhow!("{error}"))?;
        let answer = self.rtc.sdp_api().accept_offer(offer)?;
        self.drain()?;
        Ok(answer.to_sdp_string())
    }

    /// Takes the server's answer.
    pub(crate) fn answered(&mut self, pending: SdpPendingOffer, sdp: &str) -> anyhow::Result<()> {
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| anyhow!("{error}"))?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.drain()
    }

    /// A candidate of the server, as in SDP; TCP is not spoken.
    pub(crate) fn candidate(&mut self, text: &str) -> anyhow::Result<()> {
        if let Ok(candidate) = Candidate::from_sdp_string(text)
            && candidate.proto() == Protocol::Udp
        {
            self.rtc.add_remote_candidate(candidate);
            self.drain()?;
        }
        Ok(())
    }

    /// Waits until [`Peer::receive`] has something.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes waiting datagrams, up to a batch.
    pub(crate) fn receive(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0_u8; DATAGRAM];
        for _ in 0..BATCH {
            let (size, source) = match self.socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP answer to something sent earlier; ICE decides whether the path is dead.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            let datagram = buffer.get(..size).unwrap_or_default();
            if let Ok(received) = Receive::new(Protocol::Udp, source, self.local, datagram) {
                self.rtc.handle_input(Input::Receive(Instant::now(), received))?;
                self.drain()?;
            }
        }
        Ok(())
    }

    /// Moves time on.
    pub(crate) fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain()
    }

    /// Has the path to the server ended?
    pub(crate) fn is_dead(&self) -> bool {
        !self.rtc.is_alive()
    }

    /// Sends what the stack wants to send and keeps what it has to tell, until it only waits.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) => {
                    self.due = due;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    if self.socket.try_send_to(&transmit.contents, transmit.destination).is_err() {
                        self.unsent += 1;
                    }
                }
                Output::Event(event) => {
                    match &event {
                        Event::Connected => self.connected = true,
                        Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                            self.rtc.disconnect();
                        }
                        _ => {}
                    }
                    self.events.push(event);
                }
            }
        }
    }
}

fn bind(local: IpAddr) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(local, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // The system may grant less; then bursts show up as loss, which is what they are.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
