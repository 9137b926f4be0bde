//! Data channels: SCTP over DTLS (RFC 8261, 8831) by `sctp-proto`, opened with DCEP (RFC 8832).

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};

use self::delayed_ack::DelayedAck;
use self::read_limiter::ReadLimiter;
use crate::{
    ChannelId, SendError, TransportEvent,
    dcep::{DcepMessage, Reliability},
};

mod delayed_ack;
mod read_limiter;

/// Largest message in bytes, each way: the `a=max-message-size` of our descriptions. LiveKit's clients
/// send at most 64000 bytes.
pub(crate) const MAX_MESSAGE: usize = 65_535;
/// Unsent bytes of all channels, above which sending blocks.
const MAX_BUFFERED: usize = 1 << 20;
/// Open channels at a time.
const MAX_CHANNELS: usize = 128;
/// Messages of one channel that may arrive before its OPEN.
const MAX_EARLY: usize = 8;
/// Shortest time until unacknowledged data is retransmitted, ms, as in libwebrtc. RFC 9260 section 16 suggests 1 s,
/// which is how long a message then waits when the last packet of a burst is lost.
const MIN_RTO_MS: u64 = 400;
/// The same before the round-trip time is known.
const INITIAL_RTO_MS: u64 = 1_000;
/// SCTP streams in each direction.
const MAX_STREAMS: u16 = 1024;
/// Bytes of the DTLS record and SCTP headers around a payload.
const OVERHEAD: usize = 104;
/// The library needs an address; over DTLS there is one peer only, so any address will do.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelState {
    /// Opened by us; the association is not up yet.
    Pending,
    /// Opened by us; OPEN was sent.
    OpenSent,
    /// Opened by the peer; its OPEN has not been read yet.
    AwaitingOpen,
    Open,
}

struct Channel {
    id: ChannelId,
    stream: Option<u16>,
    label: Arc<str>,
    ordered: bool,
    max_retransmits: Option<u16>,
    state: ChannelState,
    /// Messages that arrived before the OPEN.
    early: Vec<(Ppid, Vec<u8>)>,
    /// Upper bound of the messages that arrived and were not read yet.
    unread: usize,
    /// The peer closed it; messages that arrived before are still read.
    finished: bool,
}

/// The channels of one transport.
pub(crate) struct Sctp {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    up: bool,
    lost: bool,
    channels: Vec<Channel>,
    next_id: u32,
    /// Next stream id: even for the DTLS client, odd for the server (RFC 8832 section 6); never reused.
    next_stream: u16,
    /// SCTP packets to send.
    packets: VecDeque<Bytes>,
    read_limiter: ReadLimiter,
    delayed_ack: DelayedAck,
    now: Instant,
}

impl Sctp {
    pub(crate) fn new(mtu: usize, now: Instant) -> Self {
        let mut config = EndpointConfig::default();
        config.max_payload_size(mtu.saturating_sub(OVERHEAD).max(256) as u32);
        let mut server = ServerConfig::default();
        server.transport = transport_config();
        Self {
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server))),
            association: None,
            up: false,
            lost: false,
            channels: Vec::new(),
            next_id: 0,
            next_stream: 1,
            packets: VecDeque::new(),
            read_limiter: ReadLimiter::new(now),
            delayed_ack: DelayedAck::default(),
            now,
        }
    }

    /// Called once DTLS is up. The DTLS client sends INIT; the server waits for it, as browsers and pion
    /// always send one.
    pub(crate) fn start(&mut self, now: Instant, dtls_client: bool) {
        self.now = now;
        if dtls_client {
            self.next_stream = 0;
            let mut config = ClientConfig::default();
            config.transport = transport_config();
            match self.endpoint.connect(config, PEER) {
                Ok(association) => self.association = Some(association),
                Err(error) => {
                    tracing::warn!(%error, "SCTP association could not be started");
                    self.lost = true;
                }
            }
        }
    }

    pub(crate) fn open(&mut self, label: &str, ordered: bool, max_retransmits: Option<u16>) -> ChannelId {
        let id = self.fresh_id();
        self.channels.push(Channel {
            id,
            stream: None,
            label: label.into(),
            ordered,
            max_retransmits,
            state: ChannelState::Pending,
            early: Vec::new(),
            unread: 0,
            finished: false,
        });
        id
    }

    fn fresh_id(&mut self) -> ChannelId {
        let id = ChannelId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    pub(crate) fn send(&mut self, id: ChannelId, data: &[u8]) -> Result<(), SendError> {
        if data.len() > MAX_MESSAGE {
            return Err(SendError::TooLarge { len: data.len(), limit: MAX_MESSAGE });
        }
        let channel = self.channels.iter().find(|channel| channel.id == id).ok_or(SendError::Closed)?;
        if self.lost {
            return Err(SendError::Closed);
        }
        if channel.state != ChannelState::Open {
            return Err(SendError::WouldBlock);
        }
        let stream = channel.stream.ok_or(SendError::WouldBlock)?;
        if self.buffered() + data.len() > MAX_BUFFERED {
            return Err(SendError::WouldBlock);
        }
        let (_, association) = self.association.as_mut().ok_or(SendError::WouldBlock)?;
        let mut stream = association.stream(stream).map_err(|_| SendError::Closed)?;
        // SCTP has no empty messages (RFC 8831 section 6.6).
        let (data, ppid) = if data.is_empty() { (&[0][..], Ppid::BinaryEmpty) } else { (data, Ppid::Binary) };
        stream.write_with_ppi(data, ppid).map(|_| ()).map_err(|_| SendError::Closed)
    }

    fn buffered(&mut self) -> usize {
        let Some((_, association)) = &mut self.association else { return 0 };
        self.channels
            .iter()
            .filter_map(|channel| association.stream(channel.stream?).ok()?.buffered_amount().ok())
            .sum()
    }

    /// Handles an SCTP packet from DTLS.
    pub(crate) fn handle(&mut self, now: Instant, packet: Vec<u8>, events: &mut VecDeque<TransportEvent>) {
        self.now = now;
        if self.lost {
            return;
        }
        self.read_limiter.begin_turn(now);
        if self.read_limiter.overflows(self.channels.iter().map(|channel| channel.unread).sum()) {
            self.read_channels(events);
            return;
        }
        match self.endpoint.handle(now, PEER, None, None, packet.into()) {
            // A retransmitted INIT must not replace the association that is up.
            Some((handle, DatagramEvent::NewAssociation(association))) if self.association.is_none() => {
                self.association = Some((handle, association));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((known, association)) = &mut self.association
                    && *known == handle
                {
                    association.handle_event(event);
                    self.delayed_ack.received(now, association);
                }
            }
            _ => {}
        }
        self.advance(events);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.lost {
            return None;
        }
        let has_unread = self.channels.iter().any(|channel| channel.unread > 0);
        let resume = self.read_limiter.resume().filter(|_| has_unread);
        let association = self.association.as_ref();
        let association = association.and_then(|(_, association)| self.delayed_ack.next_timeout(association));
        [association, resume].into_iter().flatten().min()
    }

    /// Pauses or resumes reading the peer's messages.
    pub(crate) fn pause(&mut self, now: Instant, paused: bool) {
        self.read_limiter.pause(now, paused);
    }

    /// Reads the peer's messages slowly, or at full speed again.
    pub(crate) fn slow_down(&mut self, slow: bool) {
        self.read_limiter.slow_down(slow);
    }

    /// Times that reading the peer's messages was delayed since the last call.
    pub(crate) fn take_throttled(&mut self) -> u64 {
        self.read_limiter.take_throttled()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, events: &mut VecDeque<TransportEvent>) {
        self.now = now;
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.read_limiter.begin_turn(now);
            if let Some((_, association)) = &mut self.association {
                self.delayed_ack.handle_timeout(now, association);
                association.handle_timeout(now);
            }
            self.advance(events);
        }
    }

    /// The next SCTP packet for DTLS.
    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Some(packet);
            }
            let now = self.now;
            let transmit = self.endpoint.poll_transmit().or_else(|| {
                self.association.as_mut().and_then(|(_, association)| association.poll_transmit(now))
            })?;
            if let Payload::RawEncode(packets) = transmit.payload {
                self.packets.extend(packets);
            }
        }
    }

    /// Sends OPEN for each pending channel; called after [`Sctp::open`] and when the association is up.
    pub(crate) fn open_pending(&mut self, events: &mut VecDeque<TransportEvent>) {
        if !self.up {
            return;
        }
        let Some((_, association)) = &mut self.association else { return };
        for channel in self.channels.iter_mut().filter(|channel| channel.state == ChannelState::Pending) {
            let stream_id = self.next_stream;
            if stream_id >= MAX_STREAMS {
                events.push_back(TransportEvent::ChannelClosed { id: channel.id });
                continue;
            }
            self.next_stream += 2;
            let open = DcepMessage::Open {
                ordered: channel.ordered,
                reliability: channel
                    .max_retransmits
                    .map_or(Reliability::Reliable, |count| Reliability::Retransmits(count.into())),
                label: &channel.label,
            };
            // The OPEN itself is sent ordered and reliable (RFC 8832 section 6).
            let sent = association.open_stream(stream_id, Ppid::Binary).and_then(|mut stream| {
                stream.write_with_ppi(&open.to_bytes(), Ppid::Dcep)?;
                set_reliability(&mut stream, channel)
            });
            match sent {
                Ok(()) => {
                    channel.stream = Some(stream_id);
                    channel.state = ChannelState::OpenSent;
                }
                Err(error) => {
                    tracing::debug!(%error, "data channel could not be opened");
                    events.push_back(TransportEvent::ChannelClosed { id: channel.id });
                }
            }
        }
        self.channels.retain(|channel| channel.state != ChannelState::Pending);
    }

    /// Handles what the association reports, then reads messages.
    fn advance(&mut self, events: &mut VecDeque<TransportEvent>) {
        self.exchange_events();
        while let Some(event) = self.association.as_mut().and_then(|(_, association)| association.poll()) {
            match event {
                Event::Connected => {
                    self.up = true;
                    if let Some((_, association)) = &mut self.association {
                        association.set_max_send_message_size(MAX_MESSAGE as u32);
                    }
                    self.open_pending(events);
                }
                Event::HandshakeFailed { .. } | Event::AssociationLost { .. } => {
                    self.association_lost(events)
                }
                Event::Stream(StreamEvent::Readable { id }) => self.message_arrived(id, events),
                Event::Stream(StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. }) => {
                    self.peer_closed(id, events);
                }
                _ => {}
            }
        }
        // New streams are found by their first readable message; drained so that the queue does not grow.
        while self.association.as_mut().is_some_and(|(_, association)| association.accept_stream().is_some())
        {
        }
        self.read_channels(events);
        self.exchange_events();
    }

    /// Reads messages within the rate limit; the channels take turns.
    fn read_channels(&mut self, events: &mut VecDeque<TransportEvent>) {
        let streams: Vec<u16> = self
            .channels
            .iter()
            .filter(|channel| channel.unread > 0)
            .filter_map(|channel| channel.stream)
            .collect();
        for stream in streams {
            self.read(stream, events);
        }
        // The channel at which reading stopped is last the next time.
        if let Some(first) = self.channels.iter().position(|channel| channel.unread > 0) {
            self.channels.rotate_left(first + 1);
        }
    }

    /// Passes events between the association and the endpoint of the library.
    fn exchange_events(&mut self) {
        let Some((handle, association)) = &mut self.association else { return };
        while let Some(event) = association.poll_endpoint_event() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                association.handle_event(event);
            }
        }
    }

    fn association_lost(&mut self, events: &mut VecDeque<TransportEvent>) {
        self.lost = true;
        self.packets.clear();
        for channel in self.channels.drain(..).filter(|channel| channel.state != ChannelState::AwaitingOpen) {
            events.push_back(TransportEvent::ChannelClosed { id: channel.id });
        }
    }

    /// The peer closed a channel: it is closed here once its messages are read.
    fn peer_closed(&mut self, stream: u16, events: &mut VecDeque<TransportEvent>) {
        let unread = |channel: &&mut Channel| channel.stream == Some(stream) && channel.unread > 0;
        match self.channels.iter_mut().find(unread) {
            Some(channel) => channel.finished = true,
            None => self.close_stream(stream, events),
        }
    }

    fn close_stream(&mut self, stream: u16, events: &mut VecDeque<TransportEvent>) {
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(stream)
            && let Err(error) = stream.close()
        {
            tracing::debug!(%error, "data channel reset failed");
        }
        if let Some(at) = self.channels.iter().position(|channel| channel.stream == Some(stream)) {
            let channel = self.channels.swap_remove(at);
            if channel.state != ChannelState::AwaitingOpen {
                events.push_back(TransportEvent::ChannelClosed { id: channel.id });
            }
        }
    }

    /// Something arrived on a stream. The library reports each message at least once.
    fn message_arrived(&mut self, stream: u16, events: &mut VecDeque<TransportEvent>) {
        if !self.channels.iter().any(|channel| channel.stream == Some(stream)) {
            if self.channels.len() >= MAX_CHANNELS {
                self.close_stream(stream, events);
                return;
            }
            let id = self.fresh_id();
            self.channels.push(Channel {
                id,
                stream: Some(stream),
                label: "".into(),
                ordered: true,
                max_retransmits: None,
                state: ChannelState::AwaitingOpen,
                early: Vec::new(),
                unread: 0,
                finished: false,
            });
        }
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.stream == Some(stream)) {
            channel.unread += 1;
        }
    }

    fn read(&mut self, stream: u16, events: &mut VecDeque<TransportEvent>) {
        while self.read_limiter.may_read() {
            let message = match self.association.as_mut().map(|(_, association)| association.stream(stream)) {
                Some(Ok(mut open)) => open.read_sctp(),
                // The peer reset the stream; its unread messages are lost.
                _ => return self.close_stream(stream, events),
            };
            let (ppid, data) = match message {
                Ok(Some(chunks)) => {
                    let mut data = vec![0; chunks.len()];
                    if chunks.read(&mut data).is_err() {
                        return;
                    }
                    (chunks.ppi, data)
                }
                Ok(None) => {
                    let channel = self.channels.iter_mut().find(|channel| channel.stream == Some(stream));
                    let Some(channel) = channel else { return };
                    channel.unread = 0;
                    if channel.finished {
                        self.close_stream(stream, events);
                    }
                    return;
                }
                Err(_) => return self.close_stream(stream, events),
            };
            self.read_limiter.read(data.len());
            if let Some(channel) = self.channels.iter_mut().find(|channel| channel.stream == Some(stream)) {
                // At least one more read: a message in several chunks was counted several times.
                channel.unread = channel.unread.saturating_sub(1).max(1);
            }
            if !self.deliver(stream, ppid, data, events) {
                return self.close_stream(stream, events);
            }
        }
    }

    /// Handles a DCEP or a data message. False when the peer violates the protocol.
    fn deliver(
        &mut self,
        stream: u16,
        ppid: Ppid,
        mut data: Vec<u8>,
        events: &mut VecDeque<TransportEvent>,
    ) -> bool {
        let Some(channel) = self.channels.iter_mut().find(|channel| channel.stream == Some(stream)) else {
            return false;
        };
        if ppid == Ppid::Dcep {
            let by_peer = match (DcepMessage::parse(&data), channel.state) {
                (Some(DcepMessage::Ack), ChannelState::OpenSent) => false,
                (Some(DcepMessage::Open { ordered, reliability, label }), ChannelState::AwaitingOpen) => {
                    channel.label = label.into();
                    channel.ordered = ordered;
                    channel.max_retransmits = match reliability {
                        Reliability::Retransmits(count) => Some(count.try_into().unwrap_or(u16::MAX)),
                        // Lifetimes are not tracked per message: such a channel gets no retransmissions.
                        Reliability::LifetimeMs(_) => Some(0),
                        Reliability::Reliable => None,
                    };
                    let Some((_, association)) = &mut self.association else { return false };
                    let Ok(mut open) = association.stream(stream) else { return false };
                    if open.write_with_ppi(&DcepMessage::Ack.to_bytes(), Ppid::Dcep).is_err()
                        || set_reliability(&mut open, channel).is_err()
                    {
                        return false;
                    }
                    true
                }
                _ => return false,
            };
            channel.state = ChannelState::Open;
            events.push_back(TransportEvent::ChannelOpen {
                id: channel.id,
                label: channel.label.clone(),
                ordered: channel.ordered,
                max_retransmits: channel.max_retransmits,
                by_peer,
            });
            let early = std::mem::take(&mut channel.early);
            return early.into_iter().all(|(ppid, data)| self.deliver(stream, ppid, data, events));
        }
        if channel.state == ChannelState::AwaitingOpen {
            channel.early.push((ppid, data));
            return channel.early.len() <= MAX_EARLY;
        }
        let binary = match ppid {
            Ppid::Binary => true,
            Ppid::String => false,
            Ppid::BinaryEmpty | Ppid::StringEmpty => {
                data.clear();
                ppid == Ppid::BinaryEmpty
            }
            _ => return false,
        };
        events.push_back(TransportEvent::ChannelData {
            id: channel.id,
            label: channel.label.clone(),
            binary,
            data: data.into(),
        });
        true
    }
}

fn set_reliability(stream: &mut sctp_proto::Stream<'_>, channel: &Channel) -> Result<(), sctp_proto::Error> {
    let (kind, value) = match channel.max_retransmits {
        Some(count) => (ReliabilityType::Rexmit, count.into()),
        None => (ReliabilityType::Reliable, 0),
    };
    stream.set_reliability_params(!channel.ordered, kind, value)
}

/// Retransmits without limit: the timeout of the transport decides when the peer is gone.
fn transport_config() -> Arc<TransportConfig> {
    Arc::new(
        TransportConfig::default()
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None)
            .with_rto_min_ms(MIN_RTO_MS)
            .with_rto_initial_ms(INITIAL_RTO_MS)
            .with_max_receive_buffer_size(1 << 20)
            .with_max_receive_message_size(MAX_MESSAGE as u32)
            .with_max_send_message_size(MAX_MESSAGE as u32)
            .with_max_num_inbound_streams(MAX_STREAMS)
            .with_max_num_outbound_streams(MAX_STREAMS),
    )
}

#[cfg(test)]
mod tests;
