//! One peer connection: a str0m `Rtc` and what it speaks through.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::anyhow;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::net::Receive;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

use crate::transport::Wire;

/// Datagrams taken from the socket before others have their turn.
const BATCH: usize = 64;
/// Largest datagram expected.
const DATAGRAM: usize = 2_000;

/// What TLS and DTLS of this process stand on, for the first one who asks; another part of the
/// process may have chosen already, then that serves.
pub fn choose_cryptography() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    str0m::crypto::from_feature_flags().install_process_default();
}

/// A peer connection.
#[derive(Debug)]
pub struct Peer {
    /// The stack; call [`Peer::drain`] after it was changed.
    pub rtc: Rtc,
    wire: Wire,
    /// When [`Peer::tick`] is due.
    pub due: Instant,
    /// What happened since the last look.
    pub events: Vec<Event>,
    /// Datagrams that the system did not take.
    pub unsent: u64,
    /// ICE and DTLS have been up.
    pub connected: bool,
}

impl Peer {
    /// Opens a socket on the address by which this machine reaches the server; for TCP there is
    /// none before the server has said where it takes it.
    ///
    /// # Errors
    /// When no socket can be opened there.
    pub async fn open(config: RtcConfig, local: IpAddr, tcp: bool, now: Instant) -> anyhow::Result<Self> {
        let wire = if tcp { Wire::Tcp(None) } else { Wire::udp(local).await? };
        let mut rtc = config.set_rtp_mode(true).build(now);
        if let Some(candidate) = wire.candidate()? {
            rtc.add_local_candidate(candidate);
        }
        Ok(Self { rtc, wire, due: now, events: Vec::new(), unsent: 0, connected: false })
    }

    async fn connect(&mut self, sdp: &str) -> anyhow::Result<()> {
        if self.wire.connect(sdp).await?
            && let Some(candidate) = self.wire.candidate()?
        {
            self.rtc.add_local_candidate(candidate);
        }
        Ok(())
    }

    /// Answers the server's offer.
    ///
    /// # Errors
    /// When it is not one that the stack takes.
    pub async fn answer(&mut self, sdp: &str) -> anyhow::Result<String> {
        self.connect(sdp).await?;
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|error| anyhow!("{error}"))?;
        let answer = self.rtc.sdp_api().accept_offer(offer)?;
        self.begin()?;
        Ok(answer.to_sdp_string())
    }

    /// Takes the server's answer.
    ///
    /// # Errors
    /// When it is no answer to the offer.
    pub async fn answered(&mut self, pending: SdpPendingOffer, sdp: &str) -> anyhow::Result<()> {
        self.connect(sdp).await?;
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| anyhow!("{error}"))?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.begin()
    }

    /// What a description or a candidate made possible begins now: the stack looks at it only when
    /// time moves, and where nothing else happens that may be seconds later.
    fn begin(&mut self) -> anyhow::Result<()> {
        self.tick(Instant::now())
    }

    /// A candidate of the server, as in SDP.
    ///
    /// # Errors
    /// What the system or the stack says.
    pub async fn candidate(&mut self, text: &str) -> anyhow::Result<()> {
        self.connect(&format!("a={text}")).await?;
        if let Ok(candidate) = Candidate::from_sdp_string(text)
            && candidate.proto() == self.wire.protocol()
        {
            self.rtc.add_remote_candidate(candidate);
            self.begin()?;
        }
        Ok(())
    }

    /// Waits until [`Peer::receive`] has something.
    ///
    /// # Errors
    /// What the system says of the socket.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.wire.ready().await
    }

    /// Takes waiting datagrams, up to a batch.
    ///
    /// # Errors
    /// What the system or the stack says.
    pub fn receive(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0_u8; DATAGRAM];
        for _ in 0..BATCH {
            let (size, source, destination) = match self.wire.receive(&mut buffer) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP answer to something sent earlier; ICE decides whether the path is dead.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            let datagram = buffer.get(..size).unwrap_or_default();
            if let Ok(received) = Receive::new(self.wire.protocol(), source, destination, datagram) {
                self.rtc.handle_input(Input::Receive(Instant::now(), received))?;
                self.drain()?;
            }
        }
        Ok(())
    }

    /// Moves time on.
    ///
    /// # Errors
    /// What the stack says.
    pub fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain()
    }

    /// Has the path to the server ended?
    #[must_use]
    pub fn is_dead(&self) -> bool {
        !self.rtc.is_alive()
    }

    /// Sends what the stack wants to send and keeps what it has to tell, until it only waits.
    ///
    /// # Errors
    /// What the stack says.
    pub fn drain(&mut self) -> anyhow::Result<()> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) => {
                    self.due = due;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    if !self.wire.send(&transmit.contents, transmit.destination) {
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

    /// What a server offers before anybody publishes: data channels only.
    fn lonely_offer(server: SocketAddr) -> String {
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
    async fn checks_begin_with_the_answer_though_nothing_else_happens() {
        choose_cryptography();
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let mut peer = Peer::open(Rtc::builder(), Ipv4Addr::LOCALHOST.into(), false, start).await.unwrap();
        peer.answer(&lonely_offer(server.local_addr().unwrap())).await.unwrap();
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
