//! Two peers connect in memory and exchange media and data. The server is a [`Transport`]: ICE-lite and,
//! here, the DTLS server. The client is str0m, an independent WebRTC implementation. Time is simulated.
//!
//! `cargo run -p systir-transport --example two_peers`

#![allow(clippy::print_stdout, reason = "the example prints what happened")]
#![allow(clippy::disallowed_methods, reason = "the caller of a transport owns the clock; here, a start time")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::media::MediaKind;
use str0m::net::{Protocol as IceProtocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};
use systir_rtp::RtpHeader;
use systir_transport::{
    Certificate, IceCredentials, Protocol, Remote, Transport, TransportConfig, TransportEvent, classify,
};

const SSRC: u32 = 77;
const OPUS: u8 = 111;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut peers = Peers::new(Instant::now())?;

    // A channel may be opened at any time; SCTP follows ICE and DTLS.
    let channel = peers.server.open_channel("_reliable", true, None);
    peers.run_until(|peers| peers.channel_is_open() && peers.client.is_connected())?;
    let Some(TransportEvent::Connected { profile }) = peers.server_events.first() else {
        return Err("the first event is not Connected".into());
    };
    assert!(peers.server.is_authenticated(peers.client_addr));
    assert_eq!(peers.server.remote_addr(), Some(peers.client_addr));
    println!(
        "connected: ICE selected {}, DTLS verified the certificate, SRTP uses {profile:?}",
        peers.client_addr
    );

    // Media: str0m seals an RTP packet, the transport opens it.
    peers.client_sends_rtp(1, b"audio frame")?;
    peers.run_until(|peers| !peers.rtp.is_empty())?;
    let header = RtpHeader::parse(&peers.rtp[0])?;
    assert_eq!((header.ssrc, header.payload_type, header.seq), (SSRC, OPUS, 1));
    assert_eq!(header.payload, b"audio frame");
    println!("media: the server opened SSRC {}, sequence number {}", header.ssrc, header.seq);

    // Data: the transport sends a message, str0m receives it.
    peers.server.send(channel, b"message")?;
    peers.run_until(|peers| peers.client_messages().next().is_some())?;
    assert_eq!(peers.client_messages().collect::<Vec<_>>(), [b"message"]);
    println!("data: the client received one message on _reliable");

    // Close: the last datagram of the server is the DTLS close_notify.
    peers.server.close(peers.now);
    assert!(!peers.server.is_connected());
    let mut close_notify = Vec::new();
    assert_eq!(peers.server.poll_transmit(&mut close_notify), Some(peers.client_addr));
    assert_eq!(classify(&close_notify), Some(Protocol::Dtls));
    println!("closed: the server sent close_notify");
    Ok(())
}

/// Both peers, and a network between them that delivers at once.
struct Peers {
    now: Instant,
    server: Transport,
    server_addr: SocketAddr,
    server_events: Vec<TransportEvent>,
    client: Rtc,
    client_addr: SocketAddr,
    client_events: Vec<Event>,
    /// Plain RTP packets that the server opened.
    rtp: Vec<Vec<u8>>,
}

impl Peers {
    /// Makes both peers and exchanges their parameters, which signalling carries in SDP.
    fn new(now: Instant) -> Result<Self, Box<dyn Error>> {
        let (server_addr, client_addr) = ("10.0.0.1:7882".parse()?, "10.0.0.2:40000".parse()?);
        let certificate = Certificate::generate()?;
        let server_ice = IceCredentials { ufrag: "server00".into(), pwd: "0123456789abcdefghijklmn".into() };
        let config = TransportConfig {
            local: server_ice.clone(),
            certificate: certificate.clone(),
            candidates: vec![server_addr],
            mtu: 1200,
        };
        let mut server = Transport::new(config, now);

        let mut client = Rtc::builder().set_rtp_mode(true).build(now);
        client.add_local_candidate(Candidate::host(client_addr, IceProtocol::Udp)?);
        client.add_remote_candidate(Candidate::host(server_addr, IceProtocol::Udp)?);
        let mut api = client.direct_api();
        api.set_ice_controlling(true);
        api.set_remote_ice_credentials(IceCreds { ufrag: server_ice.ufrag, pass: server_ice.pwd });
        api.set_remote_fingerprint(str0m::crypto::Fingerprint {
            hash_func: "sha-256".into(),
            bytes: certificate.fingerprint().to_vec(),
        });
        api.start_dtls(true)?;
        api.start_sctp(true);
        api.declare_media("0".into(), MediaKind::Audio);
        api.declare_stream_tx(SSRC.into(), None, "0".into(), None);

        let client_ice = api.local_ice_credentials();
        let fingerprint = api.local_dtls_fingerprint().bytes.as_slice().try_into()?;
        let ice = IceCredentials { ufrag: client_ice.ufrag, pwd: client_ice.pass };
        server.set_remote(now, Remote { ice, fingerprint, client_is_active: true });
        Ok(Self {
            now,
            server,
            server_addr,
            server_events: Vec::new(),
            client,
            client_addr,
            client_events: Vec::new(),
            rtp: Vec::new(),
        })
    }

    /// Advances the time in steps of 10 ms until `done`, for at most 10 s.
    fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), Box<dyn Error>> {
        for _ in 0..1000 {
            if done(self) {
                return Ok(());
            }
            self.now += Duration::from_millis(10);
            if self.server.poll_timeout().is_some_and(|due| due <= self.now) {
                self.server.handle_timeout(self.now);
            }
            self.client.handle_input(Input::Timeout(self.now))?;
            while self.deliver()? {}
        }
        Err("no progress within 10 s".into())
    }

    /// Delivers what both peers send now; false when neither sent a datagram.
    fn deliver(&mut self) -> Result<bool, Box<dyn Error>> {
        let mut delivered = false;
        while let Some(event) = self.server.poll_event() {
            self.server_events.push(event);
        }
        let mut datagram = Vec::new();
        while let Some(to) = self.server.poll_transmit(&mut datagram) {
            assert_eq!(to, self.client_addr);
            let receive = Receive::new(IceProtocol::Udp, self.server_addr, self.client_addr, &datagram)?;
            self.client.handle_input(Input::Receive(self.now, receive))?;
            datagram.clear();
            delivered = true;
        }
        loop {
            match self.client.poll_output()? {
                Output::Timeout(_) => return Ok(delivered),
                Output::Event(event) => self.client_events.push(event),
                Output::Transmit(transmit) => {
                    self.server_receives(&transmit.contents);
                    delivered = true;
                }
            }
        }
    }

    /// Classifies a datagram and passes it to the transport, as the owner of the socket does.
    fn server_receives(&mut self, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        match classify(&datagram) {
            Some(Protocol::Stun | Protocol::Dtls) => {
                self.server.handle(self.now, self.client_addr, self.server_addr, &datagram);
            }
            Some(Protocol::Rtp) => {
                if let Ok(plain) = self.server.open_rtp(&mut datagram) {
                    self.rtp.push(plain.to_vec());
                }
            }
            // A worker opens RTCP with `open_rtcp` and reads the reports; this example needs none.
            Some(Protocol::Rtcp) | None => {}
        }
    }

    fn client_sends_rtp(&mut self, seq: u64, payload: &[u8]) -> Result<(), Box<dyn Error>> {
        let mut api = self.client.direct_api();
        let stream = api.stream_tx(&SSRC.into()).ok_or("the stream is not declared")?;
        stream.write_rtp(RtpWrite::new(OPUS.into(), seq.into(), 960, self.now, payload.to_vec()));
        Ok(())
    }

    fn channel_is_open(&self) -> bool {
        self.server_events.iter().any(|event| matches!(event, TransportEvent::ChannelOpen { .. }))
    }

    fn client_messages(&self) -> impl Iterator<Item = &[u8]> {
        self.client_events.iter().filter_map(|event| match event {
            Event::ChannelData(message) => Some(message.data.as_slice()),
            _ => None,
        })
    }
}
