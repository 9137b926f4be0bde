#![no_main]

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use systir_transport::{Certificate, Config, IceCredentials, Remote, Transport};

static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(|| Certificate::generate().expect("randomness"));

// Each datagram is a length byte and that many bytes.
fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let addr = |port| std::net::SocketAddr::from(([10, 0, 0, 1], port));
    let credentials =
        |name: &str| IceCredentials { ufrag: name.into(), pwd: "0123456789abcdefghijkl".into() };
    let config = Config {
        local: credentials("ours"),
        certificate: CERTIFICATE.clone(),
        candidates: vec![addr(1)],
        ice_lite: true,
        mtu: 1200,
    };
    let mut transport = Transport::new(config, now);
    transport.set_remote(
        now,
        Remote { ice: credentials("them"), fingerprint: [0; 32], client_is_active: true },
    );
    let (mut rest, mut out) = (data, Vec::new());
    while let [len, tail @ ..] = rest {
        let (datagram, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = tail;
        transport.handle(now, addr(2), addr(1), datagram);
        let _ = transport.open_rtp(&mut datagram.to_vec());
        let _ = transport.open_rtcp(&mut datagram.to_vec());
        now += Duration::from_millis(20);
        transport.handle_timeout(now);
        while transport.poll_transmit(&mut out).is_some() {}
        while transport.poll_event().is_some() {}
        out.clear();
    }
});
