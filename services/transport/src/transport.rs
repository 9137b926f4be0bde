//! The transport: ICE finds the peer, DTLS proves who it is, SRTP and SCTP carry.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Certificate, ChannelId, Class, CloseReason, IceCredentials, OpenError, SealError, SendError,
    TransportEvent, classify,
    dtls::{Dtls, DtlsOutput},
    held::Held,
    ice::{Lite, Outbox},
    sctp::Sctp,
    srtp::Srtp,
};

/// Silence after which the peer is gone: 10 s that clients survive, and 5 more (as LiveKit).
const SILENCE: Duration = Duration::from_secs(15);
/// From the peer's description to a finished handshake.
const CONNECT: Duration = Duration::from_secs(30);
/// How soon media that was heard counts as a sign of life.
const LOOK: Duration = Duration::from_secs(5);
/// Datagrams that wait to be sent; more are lost as if on the wire, and repeated like those.
const MAX_OUTBOX: usize = 256;

/// What a transport is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our ICE credentials.
    pub local: IceCredentials,
    /// Our certificate.
    pub certificate: Certificate,
    /// Our host addresses (UDP), as advertised.
    pub candidates: Vec<SocketAddr>,
    /// Largest UDP payload in bytes that DTLS and SCTP make; 1200 is safe.
    pub mtu: usize,
}

/// What the peer's description says of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its ICE credentials.
    pub ice: IceCredentials,
    /// SHA-256 of its DTLS certificate (RFC 8122).
    pub fingerprint: [u8; 32],
    /// Does it send the ClientHello (`a=setup:active`)?
    pub client_is_active: bool,
}

/// One WebRTC transport. After every call that takes `now`, and after [`Transport::send`] and
/// [`Transport::open_channel`], drain [`Transport::poll_transmit`] and [`Transport::poll_event`].
pub struct Transport {
    certificate: Certificate,
    mtu: usize,
    ice: Lite,
    dtls: Option<Dtls>,
    srtp: Option<Box<Srtp>>,
    sctp: Sctp,
    held: Held,
    outbox: Outbox,
    events: VecDeque<TransportEvent>,
    now: Instant,
    /// When silence ends the transport; none before the peer's description.
    deadline: Option<Instant>,
    /// When to look whether media came.
    look: Option<Instant>,
    heard_media: bool,
    closed: bool,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("connected", &self.srtp.is_some())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// A transport that waits for the peer's description.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        let ice = Lite::new(config.local, config.candidates);
        Self {
            certificate: config.certificate,
            mtu: config.mtu,
            ice,
            dtls: None,
            srtp: None,
            sctp: Sctp::new(config.mtu, now),
            held: Held::default(),
            outbox: Outbox::new(),
            events: VecDeque::new(),
            now,
            deadline: None,
            look: None,
            heard_media: false,
            closed: false,
        }
    }

    /// Tells what the peer's description says; held packets are handled now. Later calls with other
    /// ICE credentials are the peer's ICE restart; calls that say nothing new change nothing.
    pub fn set_remote(&mut self, now: Instant, remote: Remote) {
        if self.closed {
            return;
        }
        self.now = now;
        let active = !remote.client_is_active;
        match &self.dtls {
            Some(dtls) if dtls.expects(&remote.fingerprint) => {}
            Some(dtls) if dtls.is_up() => return self.end(CloseReason::ChangedCertificate),
            _ => match Dtls::new(&self.certificate, remote.fingerprint, active, self.mtu, now) {
                Ok(dtls) => self.dtls = Some(dtls),
                Err(reason) => return self.end(reason),
            },
        }
        self.ice.set_remote(remote.ice);
        self.deadline.get_or_insert(now + CONNECT);
        let held = self.held.take();
        // Checks first: DTLS counts only from addresses that they have authenticated.
        let (stun, dtls): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|packet| classify(&packet.datagram) == Some(Class::Stun));
        for packet in stun.into_iter().chain(dtls) {
            self.handle(now, packet.from, packet.to, &packet.datagram);
        }
        self.drive();
    }

    /// Restarts ICE from our side: what we describe next carries these credentials. Checks that are
    /// under way with the former ones still count.
    pub fn set_local(&mut self, local: IceCredentials) {
        self.ice.set_local(local);
    }

    /// Takes a STUN or DTLS datagram that came `from` the peer `to` our address; others are ignored.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.closed {
            return;
        }
        self.now = now;
        match classify(datagram) {
            Some(Class::Stun) if self.dtls.is_none() => {
                if self.ice.knows(datagram) {
                    self.held.push(from, to, datagram);
                }
            }
            // Only behind a check that knew our password: strangers must not push others out.
            Some(Class::Dtls) if self.dtls.is_none() => {
                if self.held.holds(from) {
                    self.held.push(from, to, datagram);
                }
            }
            Some(Class::Stun) => {
                if self.ice.handle(now, from, to, datagram, &mut self.outbox) {
                    self.heard();
                }
            }
            // A stranger's ClientHello must not occupy the handshake (CVE-2023-51443).
            Some(Class::Dtls) if self.ice.is_authenticated(from) => {
                if let Some(Err(reason)) = self.dtls.as_mut().map(|dtls| dtls.handle(now, datagram)) {
                    return self.end(reason);
                }
            }
            _ => return,
        }
        self.drive();
    }

    /// Has an authenticated STUN check come from there? Only then may an address map change.
    #[must_use]
    pub fn is_authenticated(&self, from: SocketAddr) -> bool {
        self.ice.is_authenticated(from)
    }

    /// Where media goes: the nominated address, else the one that authenticated last.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.ice.remote_addr()
    }

    /// Our address that media goes from, when the peer's checks came to several of ours.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.ice.pair().map(|(_, local)| local)
    }

    /// Are there keys, and is the transport not closed?
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Appends one datagram to `out` and says where it goes.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if self.outbox.is_empty() && !self.closed {
            self.pull_sctp();
        }
        let (to, datagram) = self.outbox.pop_front()?;
        out.extend_from_slice(&datagram);
        Some(to)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// When to call [`Transport::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        // Nothing can be repeated before there is an address to send it to.
        let dtls = self.remote_addr().and_then(|_| self.dtls.as_ref()?.poll_timeout());
        [dtls, self.sctp.poll_timeout(), self.deadline, self.look].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.now = now;
        if self.look.is_some_and(|at| at <= now) || self.deadline.is_some_and(|at| at <= now) {
            self.look = self.srtp.is_some().then_some(now + LOOK);
            if std::mem::take(&mut self.heard_media) {
                self.deadline = Some(now + SILENCE);
            }
        }
        if self.deadline.is_some_and(|at| at <= now) {
            let reason = if self.srtp.is_some() { CloseReason::Silent } else { CloseReason::NeverConnected };
            return self.end(reason);
        }
        if self.remote_addr().is_some()
            && let Some(Err(reason)) = self.dtls.as_mut().map(|dtls| dtls.handle_timeout(now))
        {
            return self.end(reason);
        }
        self.sctp.handle_timeout(now, &mut self.events);
        self.drive();
    }

    /// Opens a data channel; when SCTP is not up yet, it is opened then. A [`TransportEvent`] tells.
    pub fn open_channel(&mut self, label: &str, ordered: bool, max_retransmits: Option<u16>) -> ChannelId {
        let id = self.sctp.open(label, ordered, max_retransmits);
        self.sctp.open_waiting(&mut self.events);
        id
    }

    /// The application takes no messages for now, or takes them again. The peer's wait meanwhile, for
    /// the most part at the peer itself.
    pub fn hold_data(&mut self, now: Instant, hold: bool) {
        self.sctp.hold(now, hold);
    }

    /// How often messages had to wait since the last call, because the peer sends too many or the
    /// application does not take them.
    pub fn take_data_waits(&mut self) -> u64 {
        self.sctp.take_waits()
    }

    /// Sends a binary message on an open channel.
    ///
    /// # Errors
    /// `WouldBlock` over 1 MiB of unsent data, `TooLarge` over 65535 bytes, `Closed`.
    pub fn send(&mut self, channel: ChannelId, data: &[u8]) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        self.sctp.send(channel, data)
    }

    /// Seals the complete plain RTP packet `out[start..]` in place and appends the tag.
    ///
    /// # Errors
    /// See [`SealError`]; the buffer then holds no packet to send.
    pub fn seal_rtp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        self.srtp.as_mut().ok_or(SealError::NotConnected)?.sender.seal_rtp(out, start)
    }

    /// As [`Transport::seal_rtp`], for a stream without a retransmission stream: its newest packets
    /// may be sealed again by [`Transport::seal_rtp_again`].
    ///
    /// # Errors
    /// See [`SealError`]; the buffer then holds no packet to send.
    pub fn seal_rtp_kept(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        self.srtp.as_mut().ok_or(SealError::NotConnected)?.sender.seal_rtp_kept(out, start)
    }

    /// Seals the same plain packet once more, for a receiver that lost it. It must be the same bit
    /// for bit.
    ///
    /// # Errors
    /// [`SealError::Repeated`] when it is not, or is too old; the buffer then holds no packet to send.
    pub fn seal_rtp_again(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        self.srtp.as_mut().ok_or(SealError::NotConnected)?.sender.seal_rtp_again(out, start)
    }

    /// Seals the complete plain compound RTCP packet `out[start..]` in place, appends index and tag.
    ///
    /// # Errors
    /// See [`SealError`]; the buffer then holds no packet to send.
    pub fn seal_rtcp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        self.srtp.as_mut().ok_or(SealError::NotConnected)?.sender.seal_rtcp(out, start)
    }

    /// Opens an SRTP packet in place and returns the plain one.
    ///
    /// # Errors
    /// See [`OpenError`]; the buffer is then of no use.
    pub fn open_rtp<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let plain = self.srtp.as_mut().ok_or(OpenError::NotConnected)?.receiver.open_rtp(datagram)?;
        self.heard_media = true;
        Ok(plain)
    }

    /// Opens an SRTCP packet in place and returns the plain compound packet.
    ///
    /// # Errors
    /// See [`OpenError`]; the buffer is then of no use.
    pub fn open_rtcp<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let plain = self.srtp.as_mut().ok_or(OpenError::NotConnected)?.receiver.open_rtcp(datagram)?;
        self.heard_media = true;
        Ok(plain)
    }

    /// Ends the connection; the goodbye still waits to be sent.
    pub fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.now = now;
        if let (Some(dtls), Some(to)) = (&mut self.dtls, self.ice.remote_addr()) {
            dtls.close();
            let outbox = &mut self.outbox;
            let drained = dtls.drain(|output| {
                if let DtlsOutput::Packet(packet) = output {
                    outbox.push_back((to, packet));
                }
            });
            if let Err(error) = drained {
                tracing::debug!(%error, "DTLS goodbye");
            }
        }
        self.end(CloseReason::Local);
    }

    fn heard(&mut self) {
        if self.srtp.is_some() {
            self.deadline = Some(self.now + SILENCE);
        }
    }

    /// Lets DTLS speak and listens to it.
    fn drive(&mut self) {
        if self.outbox.len() > MAX_OUTBOX {
            self.outbox.truncate(MAX_OUTBOX);
        }
        let (Some(dtls), Some(to)) = (&mut self.dtls, self.ice.remote_addr()) else { return };
        let (mut connected, mut peer_closed, mut data) = (None, false, Vec::new());
        let outbox = &mut self.outbox;
        let drained = dtls.drain(|output| match output {
            DtlsOutput::Packet(packet) => outbox.push_back((to, packet)),
            DtlsOutput::Connected(profile, srtp) => connected = Some((profile, srtp)),
            DtlsOutput::Data(packet) => data.push(packet),
            DtlsOutput::Closed => peer_closed = true,
        });
        let we_begin = dtls.is_active();
        if let Err(reason) = drained {
            return self.end(reason);
        }
        if let Some((profile, srtp)) = connected {
            self.srtp = Some(srtp);
            self.deadline = Some(self.now + SILENCE);
            self.look = Some(self.now + LOOK);
            self.sctp.start(self.now, we_begin);
            self.events.push_back(TransportEvent::Connected { profile });
        }
        for packet in data {
            self.sctp.handle(self.now, packet, &mut self.events);
        }
        if peer_closed {
            self.end(CloseReason::Peer);
        }
    }

    fn pull_sctp(&mut self) {
        let (Some(dtls), true) = (&mut self.dtls, self.srtp.is_some()) else { return };
        let Some(packet) = self.sctp.poll_transmit() else { return };
        if let Err(reason) = dtls.send(&packet) {
            return self.end(reason);
        }
        self.drive();
    }

    fn end(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.srtp = None;
            self.events.push_back(TransportEvent::Closed { reason });
        }
    }
}
