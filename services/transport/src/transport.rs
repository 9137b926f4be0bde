//! The transport: ICE finds the peer's address, DTLS authenticates the peer, SRTP carries media, SCTP data.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Certificate, ChannelId, CloseReason, IceCredentials, OpenError, Protocol, SealError, SendError,
    TransportEvent, classify,
    dtls::{Dtls, DtlsOutput},
    early_datagrams::EarlyDatagrams,
    ice::{IceLite, Transmit, TransmitQueue},
    sctp::Sctp,
    srtp::Srtp,
};

/// A transport that receives nothing authenticated for this long is closed: 10 s, which clients survive,
/// and 5 more (as LiveKit).
const PEER_TIMEOUT: Duration = Duration::from_secs(15);
/// From the peer's description to a finished handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often received media extends the deadline; in between, a packet only sets a flag.
const MEDIA_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Datagrams in the transmit queue. Later ones are dropped; STUN, DTLS and SCTP retransmit them.
const MAX_TRANSMITS: usize = 256;

/// Parameters of a transport.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Our ICE credentials.
    pub local: IceCredentials,
    /// Our certificate.
    pub certificate: Certificate,
    /// Our host addresses (UDP), as advertised.
    pub candidates: Vec<SocketAddr>,
    /// Largest UDP payload of DTLS and SCTP, in bytes; every path carries 1200.
    pub mtu: usize,
}

/// The transport parameters in the peer's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its ICE credentials.
    pub ice: IceCredentials,
    /// SHA-256 of its DTLS certificate (RFC 8122).
    pub fingerprint: [u8; 32],
    /// Whether the peer sends the ClientHello (`a=setup:active`).
    pub client_is_active: bool,
}

/// One WebRTC transport. After every call that takes `now`, and after [`Transport::send`] and
/// [`Transport::open_channel`], drain [`Transport::poll_transmit`] and [`Transport::poll_event`].
pub struct Transport {
    certificate: Certificate,
    mtu: usize,
    ice: IceLite,
    dtls: Option<Dtls>,
    srtp: Option<Box<Srtp>>,
    sctp: Sctp,
    early: EarlyDatagrams,
    transmits: TransmitQueue,
    events: VecDeque<TransportEvent>,
    now: Instant,
    /// When the transport is closed unless something authenticated arrives; none before the peer's
    /// description.
    deadline: Option<Instant>,
    /// When received media next extends the deadline.
    next_media_check: Option<Instant>,
    /// Whether media arrived since the last check.
    media_received: bool,
    /// Do SCTP packets wait?
    data_held: bool,
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
    pub fn new(config: TransportConfig, now: Instant) -> Self {
        let ice = IceLite::new(config.local, config.candidates);
        Self {
            certificate: config.certificate,
            mtu: config.mtu,
            ice,
            dtls: None,
            srtp: None,
            sctp: Sctp::new(config.mtu, now),
            early: EarlyDatagrams::default(),
            transmits: TransmitQueue::new(),
            events: VecDeque::new(),
            now,
            deadline: None,
            next_media_check: None,
            media_received: false,
            data_held: false,
            closed: false,
        }
    }

    /// Sets the parameters of the peer's description, and handles the datagrams that arrived before it.
    /// A later call with other ICE credentials is the peer's ICE restart, and one with another
    /// fingerprint closes a connected transport. A call with the same parameters has no effect.
    pub fn set_remote(&mut self, now: Instant, remote: Remote) {
        if self.closed {
            return;
        }
        self.now = now;
        let active = !remote.client_is_active;
        match &self.dtls {
            Some(dtls) if dtls.expects(&remote.fingerprint) => {}
            Some(dtls) if dtls.is_connected() => return self.end(CloseReason::ChangedCertificate),
            _ => match Dtls::new(&self.certificate, remote.fingerprint, active, self.mtu, now) {
                Ok(dtls) => self.dtls = Some(dtls),
                Err(reason) => return self.end(reason),
            },
        }
        self.ice.set_remote(remote.ice);
        self.deadline.get_or_insert(now + CONNECT_TIMEOUT);
        let early = self.early.take();
        // Checks first: DTLS is accepted only from addresses that a check has authenticated.
        let (stun, dtls): (Vec<_>, Vec<_>) =
            early.into_iter().partition(|packet| classify(&packet.datagram) == Some(Protocol::Stun));
        for packet in stun.into_iter().chain(dtls) {
            self.handle(now, packet.from, packet.to, &packet.datagram);
        }
        self.drive();
    }

    /// Restarts ICE from our side; our next description carries these credentials. Checks with the
    /// previous credentials are still accepted.
    pub fn set_local(&mut self, local: IceCredentials) {
        self.ice.set_local(local);
    }

    /// Handles a STUN or DTLS datagram that arrived from `from` at our address `to`; others are ignored.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.closed {
            return;
        }
        self.now = now;
        match classify(datagram) {
            Some(Protocol::Stun) if self.dtls.is_none() => {
                if self.ice.is_valid_check(datagram) {
                    self.early.push(from, to, datagram);
                }
            }
            // Only from an address that sent a valid check: other senders must not evict the peer's
            // datagrams.
            Some(Protocol::Dtls) if self.dtls.is_none() => {
                if self.early.contains(from) {
                    self.early.push(from, to, datagram);
                }
            }
            Some(Protocol::Stun) => {
                if self.ice.handle(now, from, to, datagram, &mut self.transmits) {
                    self.extend_deadline();
                }
            }
            // A ClientHello from an unauthenticated address must not start the handshake (CVE-2023-51443).
            Some(Protocol::Dtls) if self.ice.is_authenticated(from) => {
                self.ice.dtls_received(now, from, &mut self.transmits);
                if let Some(Err(reason)) = self.dtls.as_mut().map(|dtls| dtls.handle(now, datagram)) {
                    return self.end(reason);
                }
            }
            _ => return,
        }
        self.drive();
    }

    /// Whether an authenticated STUN check arrived from this address. Only then may the caller map the
    /// address to this transport.
    #[must_use]
    pub fn is_authenticated(&self, from: SocketAddr) -> bool {
        self.ice.is_authenticated(from)
    }

    /// Does the peer use this address now? It has answered a check of ours from there, and has itself checked it in the last
    /// seconds.
    #[must_use]
    pub fn is_used(&self, now: Instant, from: SocketAddr) -> bool {
        self.ice.is_used(now, from)
    }

    /// The peer's address that media is sent to: the nominated one, else the one authenticated last. Always one from which
    /// the peer has answered a check of ours.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.ice.remote_addr()
    }

    /// Our address that media is sent from: the one that the checks of the selected path arrived at.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.ice.pair().map(|(_, local)| local)
    }

    /// Whether the transport has SRTP keys and is not closed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Appends one datagram to `out` and returns its destination; none when nothing is to be sent.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if self.transmits.is_empty() && !self.closed && !self.data_held {
            self.transmit_sctp();
        }
        let Transmit { to, datagram, .. } = self.transmits.pop_front()?;
        out.extend_from_slice(&datagram);
        Some(to)
    }

    /// Our address that the next datagram of [`Transport::poll_transmit`] must be sent from: a response to a check
    /// comes from where the check arrived. None for the selected path.
    #[must_use]
    pub fn transmit_from(&self) -> Option<SocketAddr> {
        self.transmits.front().and_then(|next| next.from)
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
        // DTLS cannot retransmit before the peer's address is known.
        let dtls = self.remote_addr().and_then(|_| self.dtls.as_ref()?.poll_timeout());
        let ice = self.ice.poll_timeout();
        [dtls, ice, self.sctp.poll_timeout(), self.deadline, self.next_media_check]
            .into_iter()
            .flatten()
            .min()
    }

    /// Handles the timeouts that are due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.now = now;
        if self.next_media_check.is_some_and(|at| at <= now) || self.deadline.is_some_and(|at| at <= now) {
            self.next_media_check = self.srtp.is_some().then_some(now + MEDIA_CHECK_INTERVAL);
            if std::mem::take(&mut self.media_received) {
                self.deadline = Some(now + PEER_TIMEOUT);
            }
            if self.srtp.is_some() {
                self.ice.renew_consent(now, &mut self.transmits);
            }
        }
        self.ice.handle_timeout(now, &mut self.transmits);
        if self.deadline.is_some_and(|at| at <= now) {
            let reason =
                if self.srtp.is_some() { CloseReason::TimedOut } else { CloseReason::NeverConnected };
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

    /// Opens a data channel, now or once SCTP is up. [`TransportEvent::ChannelOpen`] reports it open,
    /// [`TransportEvent::ChannelClosed`] that it failed.
    pub fn open_channel(&mut self, label: &str, ordered: bool, max_retransmits: Option<u16>) -> ChannelId {
        let id = self.sctp.open(label, ordered, max_retransmits);
        self.sctp.open_pending(&mut self.events);
        id
    }

    /// Pauses or resumes reading data messages. While paused, messages stay in SCTP's receive window,
    /// and once that is full, at the peer.
    pub fn pause_data(&mut self, now: Instant, paused: bool) {
        self.sctp.pause(now, paused);
    }

    /// Reads data messages slowly (64 KiB per second), or at full speed again: whoever gets them takes them slowly.
    /// The others wait at the peer, as for [`Transport::pause_data`].
    pub fn slow_data(&mut self, slow: bool) {
        self.sctp.slow_down(slow);
    }

    /// While data is held, [`Transport::poll_transmit`] returns nothing of data channels. What waits is bounded as in
    /// [`Transport::send`].
    pub fn hold_data(&mut self, held: bool) {
        self.data_held = held;
    }

    /// How often reading data messages was delayed since the last call: by the rate limit, or by
    /// [`Transport::pause_data`].
    pub fn take_data_throttled(&mut self) -> u64 {
        self.sctp.take_throttled()
    }

    /// Sends a binary message on an open channel.
    ///
    /// # Errors
    /// See [`SendError`]: `WouldBlock` over 1 MiB of unsent data or before the channel is open,
    /// `TooLarge` over 65535 bytes, `Closed`.
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

    /// As [`Transport::seal_rtp`], for a stream without an RTX stream (RFC 4588): its newest packets can
    /// be retransmitted with [`Transport::reseal_rtp`].
    ///
    /// # Errors
    /// See [`SealError`]; the buffer then holds no packet to send.
    pub fn seal_rtp_resendable(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        self.srtp.as_mut().ok_or(SealError::NotConnected)?.sender.seal_rtp_resendable(out, start)
    }

    /// Seals the same plain packet again, for a receiver that lost it. It must be identical bit for
    /// bit.
    ///
    /// # Errors
    /// [`SealError::Repeated`] when it differs or is too old; the buffer then holds no packet to send.
    pub fn reseal_rtp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        self.srtp.as_mut().ok_or(SealError::NotConnected)?.sender.reseal_rtp(out, start)
    }

    /// Frees the state of an outgoing stream that has ended. If its SSRC is used again, its sequence numbers must
    /// continue.
    pub fn end_stream(&mut self, ssrc: u32) {
        if let Some(srtp) = &mut self.srtp {
            srtp.sender.end_stream(ssrc);
        }
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
    /// See [`OpenError`]; the content of the buffer is then undefined.
    pub fn open_rtp<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let plain = self.srtp.as_mut().ok_or(OpenError::NotConnected)?.receiver.open_rtp(datagram)?;
        self.media_received = true;
        Ok(plain)
    }

    /// Opens an SRTCP packet in place and returns the plain compound packet.
    ///
    /// # Errors
    /// See [`OpenError`]; the content of the buffer is then undefined.
    pub fn open_rtcp<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let plain = self.srtp.as_mut().ok_or(OpenError::NotConnected)?.receiver.open_rtcp(datagram)?;
        self.media_received = true;
        Ok(plain)
    }

    /// Closes the connection. The DTLS close_notify is left in the transmit queue.
    pub fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.now = now;
        if let (Some(dtls), Some(to)) = (&mut self.dtls, self.ice.remote_addr()) {
            dtls.close();
            let transmits = &mut self.transmits;
            let drained = dtls.drain(|output| {
                if let DtlsOutput::Packet(packet) = output {
                    transmits.push_back(Transmit { to, from: None, datagram: packet });
                }
            });
            if let Err(error) = drained {
                tracing::debug!(%error, "DTLS close_notify was not made");
            }
        }
        self.end(CloseReason::Local);
    }

    fn extend_deadline(&mut self) {
        if self.srtp.is_some() {
            self.deadline = Some(self.now + PEER_TIMEOUT);
        }
    }

    /// Takes what DTLS has made: records to send, the keys, SCTP packets.
    fn drive(&mut self) {
        if self.transmits.len() > MAX_TRANSMITS {
            self.transmits.truncate(MAX_TRANSMITS);
        }
        let (Some(dtls), Some(to)) = (&mut self.dtls, self.ice.remote_addr()) else { return };
        let (mut connected, mut peer_closed, mut data) = (None, false, Vec::new());
        let transmits = &mut self.transmits;
        let drained = dtls.drain(|output| match output {
            DtlsOutput::Packet(packet) => transmits.push_back(Transmit { to, from: None, datagram: packet }),
            DtlsOutput::Connected(profile, srtp) => connected = Some((profile, srtp)),
            DtlsOutput::Data(packet) => data.push(packet),
            DtlsOutput::Closed => peer_closed = true,
        });
        let dtls_client = dtls.is_active();
        if let Err(reason) = drained {
            return self.end(reason);
        }
        if let Some((profile, srtp)) = connected {
            self.srtp = Some(srtp);
            self.deadline = Some(self.now + PEER_TIMEOUT);
            self.next_media_check = Some(self.now + MEDIA_CHECK_INTERVAL);
            self.sctp.start(self.now, dtls_client);
            self.events.push_back(TransportEvent::Connected { profile });
        }
        for packet in data {
            self.sctp.handle(self.now, packet, &mut self.events);
        }
        if peer_closed {
            self.end(CloseReason::Peer);
        }
    }

    fn transmit_sctp(&mut self) {
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
