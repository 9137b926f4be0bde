//! A str0m client on a real socket, polled by the test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::config::Fingerprint;
use str0m::ice::IceCreds;
use str0m::media::{MediaKind, Mid, Rid};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::rtp::rtcp::{Rtcp, SdesType};
use str0m::rtp::{Extension, ExtensionMap, ExtensionValues, RawPacket, RtpPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError};
use systir_media_control::{IceCredentials, ReceiveExtensions, Remote};
use systir_rtp::extension_table;

/// How long a test waits for an event that must come.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);

/// Extension ids of the publishing client, which differ from those of the server's table on purpose.
pub(crate) fn publisher_ids() -> ReceiveExtensions {
    ReceiveExtensions {
        mid: Some(4),
        rid: Some(10),
        repaired_rid: Some(11),
        transport_cc: Some(3),
        audio_level: Some(1),
        orientation: Some(13),
        ..ReceiveExtensions::default()
    }
}

fn subscriber_extensions() -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    map.set(extension_table::AUDIO_LEVEL, Extension::AudioLevel);
    map.set(extension_table::CAPTURE_TIME, Extension::AbsoluteCaptureTime);
    map.set(extension_table::ORIENTATION, Extension::VideoOrientation);
    map.set(extension_table::PLAYOUT_DELAY, Extension::PlayoutDelay);
    map.set(extension_table::MID, Extension::RtpMid);
    map
}

type Loss = Box<dyn FnMut(&[u8]) -> bool>;

/// The socket of a client.
enum Wire {
    Udp(UdpSocket),
    /// TCP with RFC 4571 framing, and the bytes of an incomplete frame.
    Tcp(TcpStream, Vec<u8>),
}

impl Wire {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Udp(_) => Protocol::Udp,
            Self::Tcp(..) => Protocol::Tcp,
        }
    }

    fn candidates(&self, local: SocketAddr, server: SocketAddr) -> [Candidate; 2] {
        let tcp = |address, kind| Candidate::builder().tcp().host(address).tcptype(kind).build().unwrap();
        match self {
            Self::Udp(_) => [local, server].map(|address| Candidate::host(address, "udp").unwrap()),
            Self::Tcp(..) => [tcp(local, TcpType::Active), tcp(server, TcpType::Passive)],
        }
    }

    fn send(&mut self, packet: &[u8], to: SocketAddr) {
        match self {
            Self::Udp(socket) => {
                socket.send_to(packet, to).unwrap();
            }
            Self::Tcp(stream, _) => {
                let mut frame = (packet.len() as u16).to_be_bytes().to_vec();
                frame.extend_from_slice(packet);
                stream.write_all(&frame).unwrap();
            }
        }
    }

    /// The next packet that has arrived, and its source address.
    fn receive(&mut self) -> Option<(Vec<u8>, SocketAddr)> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = [0; 2000];
                let (len, from) = socket.recv_from(&mut buffer).ok()?;
                Some((buffer[..len].to_vec(), from))
            }
            Self::Tcp(stream, read) => {
                let mut buffer = [0; 2000];
                loop {
                    if let Some((length, rest)) = read.split_first_chunk::<2>() {
                        let length = usize::from(u16::from_be_bytes(*length));
                        if rest.len() >= length {
                            let packet = rest[..length].to_vec();
                            read.drain(..2 + length);
                            return Some((packet, stream.peer_addr().unwrap()));
                        }
                    }
                    match stream.read(&mut buffer) {
                        Ok(0) => return None,
                        Ok(len) => read.extend_from_slice(&buffer[..len]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                        Err(error) => panic!("client: {error}"),
                    }
                }
            }
        }
    }
}

pub(crate) struct Client {
    pub(crate) rtc: Rtc,
    pub(crate) events: Vec<Event>,
    wire: Wire,
    local: SocketAddr,
    timeout: Instant,
    /// Received datagrams for which this returns true are lost.
    lose: Loss,
    /// Media that would be sent, if it is kept instead.
    pub(crate) kept: Option<Vec<Vec<u8>>>,
}

impl Client {
    pub(crate) fn publisher(server: SocketAddr, ours: &IceCredentials, fingerprint: [u8; 32]) -> Self {
        Self::new(server, ours, fingerprint, ExtensionMap::standard())
    }

    pub(crate) fn subscriber(server: SocketAddr, ours: &IceCredentials, fingerprint: [u8; 32]) -> Self {
        Self::new(server, ours, fingerprint, subscriber_extensions())
    }

    /// A subscriber whose network blocks UDP.
    pub(crate) fn subscriber_over_tcp(
        server: SocketAddr,
        ours: &IceCredentials,
        fingerprint: [u8; 32],
    ) -> Self {
        // A small receive buffer: what the client does not read soon waits at the server.
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(&server.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).unwrap();
        let local = stream.local_addr().unwrap();
        let wire = Wire::Tcp(stream, Vec::new());
        Self::over(wire, local, server, ours, fingerprint, subscriber_extensions())
    }

    fn new(server: SocketAddr, theirs: &IceCredentials, fingerprint: [u8; 32], map: ExtensionMap) -> Self {
        // A loopback address of the server's family.
        let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let local = socket.local_addr().unwrap();
        Self::over(Wire::Udp(socket), local, server, theirs, fingerprint, map)
    }

    fn over(
        wire: Wire,
        local: SocketAddr,
        server: SocketAddr,
        theirs: &IceCredentials,
        fingerprint: [u8; 32],
        map: ExtensionMap,
    ) -> Self {
        let now = Instant::now();
        let mut rtc = RtcConfig::new()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_extension_map(map)
            .enable_raw_packets(true)
            .build(now);
        let [own, remote] = wire.candidates(local, server);
        rtc.add_local_candidate(own).unwrap();
        rtc.add_remote_candidate(remote);
        let mut api = rtc.direct_api();
        api.set_ice_controlling(true);
        api.set_remote_ice_credentials(IceCreds { ufrag: theirs.ufrag.clone(), pass: theirs.pwd.clone() });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".into(), bytes: fingerprint.to_vec() });
        api.start_dtls(true).unwrap();
        api.start_sctp(true);
        api.enable_twcc_feedback();
        Self { rtc, events: Vec::new(), wire, local, timeout: now, lose: Box::new(|_| false), kept: None }
    }

    /// The transport parameters of this client's description.
    pub(crate) fn remote(&mut self) -> Remote {
        let api = self.rtc.direct_api();
        let creds = api.local_ice_credentials();
        let fingerprint = api.local_dtls_fingerprint().bytes.clone().try_into().unwrap();
        let ice = IceCredentials { ufrag: creds.ufrag, pwd: creds.pass };
        Remote { ice, fingerprint, client_is_active: true }
    }

    pub(crate) fn lose(&mut self, lose: impl FnMut(&[u8]) -> bool + 'static) {
        self.lose = Box::new(lose);
    }

    pub(crate) fn send_stream(
        &mut self,
        mid: &str,
        kind: MediaKind,
        ssrc: u32,
        rtx: Option<u32>,
        rid: Option<&str>,
    ) {
        let mid = Mid::from(mid);
        let mut api = self.rtc.direct_api();
        if api.stream_tx_by_mid(mid, None).is_none() {
            api.declare_media(mid, kind);
        }
        let rid = rid.map(Rid::from);
        let stream = api.declare_stream_tx(ssrc.into(), rtx.map(Ssrc::from), mid, rid);
        stream.set_unpaced(true);
    }

    pub(crate) fn expect_stream(&mut self, mid: &str, kind: MediaKind, ssrc: u32, rtx: Option<u32>) {
        let mid = Mid::from(mid);
        let mut api = self.rtc.direct_api();
        api.declare_media(mid, kind);
        api.expect_stream_rx(ssrc.into(), rtx.map(Ssrc::from), mid, None);
    }

    pub(crate) fn write(
        &mut self,
        ssrc: u32,
        pt: u8,
        seq: u64,
        timestamp: u32,
        marker: bool,
        payload: Vec<u8>,
    ) {
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx(&ssrc.into()).unwrap();
        let values = ExtensionValues {
            audio_level: (pt == 111).then_some(-20),
            voice_activity: (pt == 111).then_some(true),
            ..ExtensionValues::default()
        };
        let packet = RtpWrite::new(pt.into(), seq.into(), timestamp, Instant::now(), payload)
            .marker(marker)
            .nackable(pt != 111)
            .ext_vals(values);
        stream.write_rtp(packet);
    }

    pub(crate) fn request_key_frame(&mut self, ssrc: u32) {
        let mut api = self.rtc.direct_api();
        api.stream_rx(&ssrc.into()).unwrap().request_keyframe(str0m::media::KeyframeRequestKind::Pli);
    }

    /// Reports an estimate of the bandwidth (REMB), bits per second.
    pub(crate) fn report_estimate(&mut self, ssrc: u32, bitrate: u64) {
        let mut api = self.rtc.direct_api();
        api.stream_rx(&ssrc.into()).unwrap().request_remb(bitrate.into());
    }

    pub(crate) fn open_channel(&mut self, label: &str, ordered: bool) -> ChannelId {
        let reliability =
            if ordered { Reliability::Reliable } else { Reliability::MaxRetransmits { retransmits: 0 } };
        let config = ChannelConfig { label: label.into(), ordered, reliability, ..ChannelConfig::default() };
        self.rtc.direct_api().create_data_channel(config)
    }

    /// The last received CNAME of a stream.
    pub(crate) fn cname(&self, ssrc: u32) -> Option<String> {
        let reports = self.events.iter().filter_map(|event| match event {
            Event::RawPacket(raw) => match &**raw {
                RawPacket::RtcpRx(Rtcp::SourceDescription(described)) => Some(&*described.reports),
                _ => None,
            },
            _ => None,
        });
        let of_stream = reports.flatten().filter(|described| *described.ssrc == ssrc);
        let named = of_stream.flat_map(|described| &described.values);
        named.filter(|(what, _)| *what == SdesType::CNAME).map(|(_, name)| name.clone()).last()
    }

    /// The channel with this label, once it is open.
    pub(crate) fn channel(&self, label: &str) -> Option<ChannelId> {
        self.events.iter().find_map(|event| match event {
            Event::ChannelOpen(id, name) if name == label => Some(*id),
            _ => None,
        })
    }

    pub(crate) fn messages(&self, channel: ChannelId) -> Vec<Vec<u8>> {
        let data = |event: &Event| match event {
            Event::ChannelData(data) if data.id == channel => Some(data.data.clone()),
            _ => None,
        };
        self.events.iter().filter_map(data).collect()
    }

    pub(crate) fn packets(&self, ssrc: u32) -> Vec<&RtpPacket> {
        let of = |event: &'_ Event| matches!(event, Event::RtpPacket(packet) if *packet.header.ssrc == ssrc);
        self.events
            .iter()
            .filter(|event| of(event))
            .filter_map(|event| match event {
                Event::RtpPacket(packet) => Some(packet),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn key_frame_requests(&self, rid: Option<&str>) -> usize {
        let rid = rid.map(Rid::from);
        self.events
            .iter()
            .filter(|event| matches!(event, Event::KeyframeRequest(request) if request.rid == rid))
            .count()
    }

    pub(crate) fn is_closed(&self) -> bool {
        !self.rtc.is_alive() || self.events.iter().any(|event| matches!(event, Event::Closed))
    }

    /// Sends a datagram that was kept. Only the test of allocations does.
    #[allow(dead_code)]
    pub(crate) fn send_raw(&mut self, datagram: &[u8], to: SocketAddr) {
        self.wire.send(datagram, to);
    }

    /// Handles received packets and a due timeout.
    pub(crate) fn poll(&mut self) {
        if !self.rtc.is_alive() {
            return;
        }
        while let Some((bytes, from)) = self.wire.receive() {
            if (self.lose)(&bytes) {
                continue;
            }
            let contents = bytes.as_slice().try_into().unwrap();
            let receive =
                Receive { proto: self.wire.protocol(), source: from, destination: self.local, contents };
            self.rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
            self.drain();
            if !self.rtc.is_alive() {
                return;
            }
        }
        if Instant::now() >= self.timeout {
            self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        }
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                // When the server closes before SCTP is up, str0m returns an error.
                Err(RtcError::Sctp(_)) => {
                    self.rtc.disconnect();
                    return;
                }
                Err(error) => panic!("client: {error}"),
                Ok(Output::Timeout(at)) => {
                    self.timeout = at;
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    let is_media = matches!(*transmit.contents, [128..=191, second, ..] if !(192..224).contains(&second));
                    if let Some(kept) = self.kept.as_mut().filter(|_| is_media) {
                        kept.push(transmit.contents.to_vec());
                        continue;
                    }
                    self.wire.send(&transmit.contents, transmit.destination);
                }
                // Of the raw packets only received RTCP is needed.
                Ok(Output::Event(Event::RawPacket(raw))) if !matches!(*raw, RawPacket::RtcpRx(_)) => {}
                Ok(Output::Event(event)) => self.events.push(event),
            }
        }
    }
}

/// Runs the clients until `done`.
#[track_caller]
pub(crate) fn run_until(
    clients: &mut [&mut Client],
    what: &str,
    mut done: impl FnMut(&mut [&mut Client]) -> bool,
) {
    let end = Instant::now() + TIMEOUT;
    loop {
        for client in clients.iter_mut() {
            client.poll();
        }
        if done(clients) {
            return;
        }
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
