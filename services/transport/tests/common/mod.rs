//! Our transport connected to str0m in memory, in simulated time.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig,
    net::{Protocol as IceProtocol, Receive},
};
use systir_rtp::rtcp;
use systir_transport::{
    Certificate, IceCredentials, Protocol, Remote, Transport, TransportConfig, TransportEvent, classify,
};

pub fn ours() -> SocketAddr {
    "10.0.0.1:7882".parse().unwrap()
}

pub fn theirs() -> SocketAddr {
    "10.0.0.2:40000".parse().unwrap()
}

/// ClientHello messages, each of a client of its own.
pub fn client_hellos(now: Instant, count: usize) -> Vec<Vec<u8>> {
    let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
    let config = std::sync::Arc::new(dimpl::Config::default());
    let hello = || {
        let mut client = dimpl::Dtls::new_12(config.clone(), certificate.clone(), now);
        client.set_active(true);
        client.handle_timeout(now).unwrap();
        let mut buffer = vec![0; 4096];
        loop {
            if let dimpl::Output::Packet(packet) = client.poll_output(&mut buffer) {
                return packet.to_vec();
            }
        }
    };
    (0..count).map(|_| hello()).collect()
}

/// Our transport and a str0m client.
pub struct Pair {
    pub now: Instant,
    pub transport: Transport,
    pub rtc: Rtc,
    /// The client's address, as our transport sees it.
    pub client_addr: SocketAddr,
    pub events: Vec<TransportEvent>,
    pub client_events: Vec<Event>,
    /// Plain RTP packets that we opened.
    pub rtp: Vec<Vec<u8>>,
    /// Plain RTCP packets that we opened.
    pub rtcp: Vec<Vec<u8>>,
    /// Sealed media datagrams as they arrived, to replay them.
    pub sealed: Vec<Vec<u8>>,
    /// Whether sealed media is kept in `sealed` and not opened.
    pub keep_sealed: bool,
    /// Whether datagrams of the client are lost.
    pub drop_client_packets: bool,
    /// Corruptions of the client's DTLS datagrams: which datagram, position, value, and 0 to replace a
    /// byte, 1 to truncate, 2 to insert a byte.
    pub corruptions: Vec<(usize, usize, u8, u8)>,
    client_dtls_count: usize,
    pub client_fingerprint: [u8; 32],
    pub client_ice: IceCredentials,
}

pub struct Setup {
    pub client_is_active: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { client_is_active: true }
    }
}

impl Pair {
    /// The client has our description; our transport has not got the client's yet.
    pub fn new(setup: &Setup) -> Self {
        Self::with_rtc(setup, |config| config)
    }

    pub fn with_rtc(setup: &Setup, configure: impl FnOnce(RtcConfig) -> RtcConfig) -> Self {
        let now = Instant::now();
        let certificate = Certificate::generate().unwrap();
        let local = Self::local_ice();
        let transport = Transport::new(
            TransportConfig {
                local: local.clone(),
                certificate: certificate.clone(),
                candidates: vec![ours()],
                mtu: 1200,
            },
            now,
        );
        let mut rtc = configure(Rtc::builder().set_rtp_mode(true)).build(now);
        rtc.add_local_candidate(Candidate::host(theirs(), IceProtocol::Udp).unwrap());
        rtc.add_remote_candidate(Candidate::host(ours(), IceProtocol::Udp).unwrap());
        let mut api = rtc.direct_api();
        api.set_ice_controlling(true);
        let creds = api.local_ice_credentials();
        let client_fingerprint: [u8; 32] = api.local_dtls_fingerprint().bytes.as_slice().try_into().unwrap();
        api.set_remote_ice_credentials(IceCreds { ufrag: local.ufrag, pass: local.pwd });
        api.set_remote_fingerprint(str0m::crypto::Fingerprint {
            hash_func: "sha-256".into(),
            bytes: certificate.fingerprint().to_vec(),
        });
        api.start_dtls(setup.client_is_active).unwrap();
        api.start_sctp(setup.client_is_active);
        Self {
            now,
            transport,
            rtc,
            client_addr: theirs(),
            events: Vec::new(),
            client_events: Vec::new(),
            rtp: Vec::new(),
            rtcp: Vec::new(),
            sealed: Vec::new(),
            keep_sealed: false,
            drop_client_packets: false,
            corruptions: Vec::new(),
            client_dtls_count: 0,
            client_fingerprint,
            client_ice: IceCredentials { ufrag: creds.ufrag, pwd: creds.pass },
        }
    }

    /// Our credentials.
    pub fn local_ice() -> IceCredentials {
        IceCredentials { ufrag: "v1n1w0abcd".into(), pwd: "0123456789abcdefghijklmnop".into() }
    }

    pub fn remote(&self, setup: &Setup) -> Remote {
        Remote {
            ice: self.client_ice.clone(),
            fingerprint: self.client_fingerprint,
            client_is_active: setup.client_is_active,
        }
    }

    /// A pair that has connected.
    pub fn connected(setup: &Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.describe_client(setup);
        pair.run_until("both are connected", |pair| pair.is_connected() && pair.rtc.is_connected());
        pair
    }

    /// Passes the client's description to our transport.
    pub fn describe_client(&mut self, setup: &Setup) {
        let remote = self.remote(setup);
        self.transport.set_remote(self.now, remote);
    }

    pub fn is_connected(&self) -> bool {
        self.events.iter().any(|event| matches!(event, TransportEvent::Connected { .. }))
    }

    /// Steps until `done`, for at most 30 s of simulated time.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..3000 {
            self.step(Duration::from_millis(10));
            if done(self) {
                return;
            }
        }
        panic!("timed out after 30 s: {what}; ours {:?}, client {:?}", self.events, self.client_events);
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step(Duration::from_millis(10));
        }
    }

    /// Advances the time, and delivers datagrams until there are none.
    pub fn step(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        if self.transport.poll_timeout().is_some_and(|at| at <= now) {
            self.transport.handle_timeout(now);
        }
        if self.rtc.is_alive() {
            let _ = self.rtc.handle_input(Input::Timeout(now));
        }
        while self.exchange() {}
    }

    /// Delivers pending datagrams in both directions; false when there were none.
    pub fn exchange(&mut self) -> bool {
        let mut delivered = false;
        while let Some(event) = self.transport.poll_event() {
            self.events.push(event);
        }
        let mut datagram = Vec::new();
        while let Some(to) = self.transport.poll_transmit(&mut datagram) {
            delivered = true;
            if to == self.client_addr {
                self.deliver(&datagram);
            }
            datagram.clear();
        }
        while self.rtc.is_alive() {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    delivered = true;
                    if !self.drop_client_packets {
                        self.client_sends(&transmit.contents);
                    }
                }
                Ok(Output::Event(event)) => self.client_events.push(event),
                Ok(Output::Timeout(_)) | Err(_) => break,
            }
        }
        delivered
    }

    /// Handles a datagram of the client as a worker does.
    pub fn client_sends(&mut self, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        if classify(&datagram) == Some(Protocol::Dtls) {
            for (_, at, value, how) in
                self.corruptions.iter().filter(|(nth, ..)| *nth == self.client_dtls_count)
            {
                if datagram.len() < 2 {
                    continue;
                }
                let at = 1 + at % (datagram.len() - 1);
                match how {
                    0 => datagram[at] = *value,
                    1 => datagram.truncate(at),
                    _ => datagram.insert(at, *value),
                }
            }
            self.client_dtls_count += 1;
        }
        match classify(&datagram) {
            Some(Protocol::Stun | Protocol::Dtls) => {
                self.transport.handle(self.now, self.client_addr, ours(), &datagram);
            }
            Some(Protocol::Rtp) => {
                self.sealed.push(datagram.clone());
                if self.keep_sealed {
                    return;
                }
                if let Ok(plain) = self.transport.open_rtp(&mut datagram) {
                    self.rtp.push(plain.to_vec());
                }
            }
            Some(Protocol::Rtcp) => {
                self.sealed.push(datagram.clone());
                if let Ok(plain) = self.transport.open_rtcp(&mut datagram) {
                    assert!(rtcp::parse(plain).count() <= plain.len());
                    self.rtcp.push(plain.to_vec());
                }
            }
            None => panic!("str0m sent a datagram of no known protocol"),
        }
    }

    /// Passes a datagram of our transport to the client.
    pub fn deliver(&mut self, datagram: &[u8]) {
        if !self.rtc.is_alive() {
            return;
        }
        let receive = Receive::new(IceProtocol::Udp, ours(), theirs(), datagram).unwrap();
        let _ = self.rtc.handle_input(Input::Receive(self.now, receive));
    }

    pub fn closed(&self) -> Option<&systir_transport::CloseReason> {
        self.events.iter().find_map(|event| match event {
            TransportEvent::Closed { reason } => Some(reason),
            _ => None,
        })
    }
}
