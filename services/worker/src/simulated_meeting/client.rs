//! A str0m client without a socket and a clock.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::config::Fingerprint;
use str0m::ice::IceCreds;
use str0m::media::{MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap, ExtensionValues, RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use systir_media_control::{IceCredentials, ReceiveExtensions, Remote, Side};
use systir_rtp::extension_table;

/// Extension ids of the publishing client.
pub(super) fn publisher_ids() -> ReceiveExtensions {
    ReceiveExtensions {
        mid: Some(4),
        transport_cc: Some(3),
        audio_level: Some(1),
        ..ReceiveExtensions::default()
    }
}

fn subscriber_extensions() -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    map.set(extension_table::AUDIO_LEVEL, Extension::AudioLevel);
    map.set(extension_table::TRANSPORT_CC, Extension::TransportSequenceNumber);
    map.set(extension_table::MID, Extension::RtpMid);
    map
}

pub(super) struct Client {
    pub(super) rtc: Rtc,
    /// Media packets received.
    pub(super) packets: u64,
    pub(super) address: SocketAddr,
    timeout: Instant,
    /// Datagrams to be sent.
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Client {
    pub(super) fn new(
        now: Instant,
        side: Side,
        address: SocketAddr,
        server: SocketAddr,
        theirs: &IceCredentials,
        fingerprint: [u8; 32],
    ) -> Self {
        let map = if side == Side::Publisher { ExtensionMap::standard() } else { subscriber_extensions() };
        let mut rtc = RtcConfig::new()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_extension_map(map)
            .build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap()).unwrap();
        rtc.add_remote_candidate(Candidate::host(server, "udp").unwrap());
        let mut api = rtc.direct_api();
        api.set_ice_controlling(true);
        api.set_remote_ice_credentials(IceCreds { ufrag: theirs.ufrag.clone(), pass: theirs.pwd.clone() });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".into(), bytes: fingerprint.to_vec() });
        api.start_dtls(true).unwrap();
        api.start_sctp(true);
        api.enable_twcc_feedback();
        Self { rtc, packets: 0, address, timeout: now, sent: Vec::new() }
    }

    /// The transport parameters of this client's description.
    pub(super) fn remote(&mut self) -> Remote {
        let api = self.rtc.direct_api();
        let creds = api.local_ice_credentials();
        let fingerprint = api.local_dtls_fingerprint().bytes.clone().try_into().unwrap();
        let ice = IceCredentials { ufrag: creds.ufrag, pwd: creds.pass };
        Remote { ice, fingerprint, client_is_active: true }
    }

    pub(super) fn send_stream(&mut self, mid: &str, kind: MediaKind, ssrc: u32) {
        let mid = Mid::from(mid);
        let mut api = self.rtc.direct_api();
        api.declare_media(mid, kind);
        api.declare_stream_tx(ssrc.into(), None, mid, None).set_unpaced(true);
    }

    pub(super) fn expect_stream(&mut self, mid: &str, kind: MediaKind, ssrc: u32, rtx: Option<u32>) {
        let mid = Mid::from(mid);
        let mut api = self.rtc.direct_api();
        api.declare_media(mid, kind);
        api.expect_stream_rx(ssrc.into(), rtx.map(Ssrc::from), mid, None);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn write(
        &mut self,
        now: Instant,
        ssrc: u32,
        pt: u8,
        seq: u64,
        timestamp: u32,
        marker: bool,
        payload: Vec<u8>,
    ) {
        let values =
            ExtensionValues { audio_level: (pt == 111).then_some(-20), ..ExtensionValues::default() };
        let packet = RtpWrite::new(pt.into(), seq.into(), timestamp, now, payload)
            .marker(marker)
            .nackable(pt != 111)
            .ext_vals(values);
        self.rtc.direct_api().stream_tx(&ssrc.into()).unwrap().write_rtp(packet);
    }

    pub(super) fn receive(&mut self, now: Instant, server: SocketAddr, datagram: &[u8]) {
        let contents = datagram.try_into().unwrap();
        let receive = Receive { proto: Protocol::Udp, source: server, destination: self.address, contents };
        self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
        self.drain();
    }

    /// Handles a due timeout, and appends what is to be sent.
    pub(super) fn poll(&mut self, now: Instant, sent: &mut Vec<(SocketAddr, Vec<u8>)>) {
        if now >= self.timeout {
            self.rtc.handle_input(Input::Timeout(now)).unwrap();
        }
        self.drain();
        sent.append(&mut self.sent);
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return;
                }
                Output::Transmit(transmit) => self.sent.push((self.address, transmit.contents.to_vec())),
                Output::Event(Event::RtpPacket(_)) => self.packets += 1,
                Output::Event(_) => {}
            }
        }
    }
}
