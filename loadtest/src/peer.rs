//! One peer connection: a str0m `Rtc` and its socket.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::anyhow;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::net::Receive;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

use crate::transport::Transport;

/// Datagrams read from the socket in one call of [`Peer::receive`].
const BATCH: usize = 64;
/// Largest datagram expected.
const DATAGRAM: usize = 2_000;

/// Installs aws-lc-rs as the process's crypto provider of TLS and DTLS, unless one is installed already.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    str0m::crypto::from_feature_flags().install_process_default();
}

/// A peer connection.
#[derive(Debug)]
pub struct Peer {
    /// The WebRTC stack; call [`Peer::drain`] after changing it.
    pub rtc: Rtc,
    transport: Transport,
    /// When [`Peer::tick`] is due.
    pub due: Instant,
    /// Events that were not handled yet.
    pub events: Vec<Event>,
    /// Datagrams that the socket did not accept.
    pub unsent: u64,
    /// Whether ICE and DTLS were connected at some time.
    pub connected: bool,
}

impl Peer {
    /// Opens a UDP socket on `local`. TCP is connected later, to the first passive TCP candidate of the
    /// server.
    ///
    /// # Errors
    /// When no socket can be opened on `local`.
    pub async fn open(config: RtcConfig, local: IpAddr, tcp: bool, now: Instant) -> anyhow::Result<Self> {
        let transport = if tcp { Transport::Tcp(None) } else { Transport::udp(local).await? };
        let mut rtc = config.set_rtp_mode(true).build(now);
        if let Some(candidate) = transport.candidate()? {
            rtc.add_local_candidate(candidate);
        }
        Ok(Self { rtc, transport, due: now, events: Vec::new(), unsent: 0, connected: false })
    }

    async fn connect(&mut self, sdp: &str) -> anyhow::Result<()> {
        if self.transport.connect(sdp).await?
            && let Some(candidate) = self.transport.candidate()?
        {
            self.rtc.add_local_candidate(candidate);
        }
        Ok(())
    }

    /// Answers the server's offer.
    ///
    /// # Errors
    /// When the stack refuses the offer.
    pub async fn answer(&mut self, sdp: &str) -> anyhow::Result<String> {
        self.connect(sdp).await?;
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|error| anyhow!("{error}"))?;
        let answer = self.rtc.sdp_api().accept_offer(offer)?;
        self.start()?;
        Ok(answer.to_sdp_string())
    }

    /// Handles the server's answer.
    ///
    /// # Errors
    /// When it does not answer the pending offer.
    pub async fn accept_answer(&mut self, pending: SdpPendingOffer, sdp: &str) -> anyhow::Result<()> {
        self.connect(sdp).await?;
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| anyhow!("{error}"))?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.start()
    }

    /// Starts what a description or a candidate made possible. The stack handles it at the next timeout
    /// only, which may be seconds away.
    fn start(&mut self) -> anyhow::Result<()> {
        self.tick(Instant::now())
    }

    /// Adds a candidate of the server, as in SDP without `a=`.
    ///
    /// # Errors
    /// Errors of the socket or the stack.
    pub async fn candidate(&mut self, text: &str) -> anyhow::Result<()> {
        self.connect(&format!("a={text}")).await?;
        if let Ok(candidate) = Candidate::from_sdp_string(text)
            && candidate.proto() == self.transport.protocol()
        {
            self.rtc.add_remote_candidate(candidate);
            self.start()?;
        }
        Ok(())
    }

    /// Waits until [`Peer::receive`] has something to read.
    ///
    /// # Errors
    /// Errors of the socket.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.transport.ready().await
    }

    /// Reads waiting datagrams, at most one batch.
    ///
    /// # Errors
    /// Errors of the socket or the stack.
    pub fn receive(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0_u8; DATAGRAM];
        for _ in 0..BATCH {
            let (size, source, destination) = match self.transport.receive(&mut buffer) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // ICMP port unreachable for an earlier datagram. ICE decides whether the path is dead.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            let datagram = buffer.get(..size).unwrap_or_default();
            if let Ok(received) = Receive::new(self.transport.protocol(), source, destination, datagram) {
                self.rtc.handle_input(Input::Receive(Instant::now(), received))?;
                self.drain()?;
            }
        }
        Ok(())
    }

    /// Advances the stack's time.
    ///
    /// # Errors
    /// Errors of the stack.
    pub fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        !self.rtc.is_alive()
    }

    /// Sends the stack's datagrams and collects its events, until it waits for a timeout.
    ///
    /// # Errors
    /// Errors of the stack.
    pub fn drain(&mut self) -> anyhow::Result<()> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) => {
                    self.due = due;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    if !self.transport.send(&transmit.contents, transmit.destination) {
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;

    /// The offer of a server when no track is published: data channels only.
    fn offer_without_tracks(server: SocketAddr) -> String {
        let lines = [
            "v=0".to_owned(),
            "o=- 1 1 IN IP4 127.0.0.1".to_owned(),
            "s=-".to_owned(),
            "t=0 0".to_owned(),
            "a=group:BUNDLE 0".to_owned(),
            "a=ice-lite".to_owned(),
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel".to_owned(),
            "c=IN IP4 0.0.0.0".to_owned(),
            "a=mid:0".to_owned(),
            "a=sctp-port:5000".to_owned(),
            format!("a=candidate:1 1 udp 2130706431 {} {} typ host", server.ip(), server.port()),
            "a=ice-ufrag:abcd".to_owned(),
            "a=ice-pwd:0123456789abcdefghijkl".to_owned(),
            format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":")),
            "a=setup:actpass".to_owned(),
        ];
        lines.map(|line| line + "\r\n").concat()
    }

    #[tokio::test]
    async fn ice_checks_begin_with_the_answer() {
        install_crypto_provider();
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let mut peer = Peer::open(Rtc::builder(), Ipv4Addr::LOCALHOST.into(), false, start).await.unwrap();
        peer.answer(&offer_without_tracks(server.local_addr().unwrap())).await.unwrap();
        let mut now = start;
        while server.recv(&mut [0; DATAGRAM]).is_err() {
            now = now.max(peer.due);
            assert!(
                now < start + Duration::from_millis(500),
                "the first check is due {:?} later",
                now - start
            );
            peer.tick(now).unwrap();
        }
    }
}
