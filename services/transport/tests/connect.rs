//! ICE and DTLS against str0m, an independent implementation.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Pair, Setup, client_hellos, ours, theirs};
use proptest::prelude::*;
use str0m::{Event, Input, Output};
use systir_transport::{CloseReason, IceCredentials, SrtpProfile, TransportEvent};

#[test]
fn client_connects_in_either_dtls_role() {
    for client_is_active in [true, false] {
        let pair = Pair::connected(&Setup { client_is_active });
        assert!(pair.events.contains(&TransportEvent::Connected { profile: SrtpProfile::Aes256Gcm }));
        assert!(pair.transport.is_authenticated(theirs()));
        assert_eq!(pair.transport.remote_addr(), Some(theirs()));
    }
}

#[test]
fn checks_before_the_description_are_answered_once_it_is_set() {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    pair.run(Duration::from_millis(300));
    assert!(!pair.transport.is_authenticated(theirs()));
    // From now on the client's packets are lost: only early datagrams can connect its ICE.
    pair.drop_client_packets = true;
    pair.describe_client(&setup);
    assert!(pair.transport.is_authenticated(theirs()));
    pair.exchange();
    pair.drop_client_packets = false;
    pair.run_until("connected", |pair| pair.is_connected() && pair.rtc.is_connected());
}

#[test]
fn response_to_an_early_check_leaves_from_the_address_that_the_check_arrived_at() {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    let check = loop {
        match pair.rtc.poll_output().unwrap() {
            Output::Transmit(transmit) => break transmit.contents.to_vec(),
            Output::Timeout(at) => pair.rtc.handle_input(Input::Timeout(at)).unwrap(),
            Output::Event(_) => {}
        }
    };
    let other: SocketAddr = "10.0.0.9:7882".parse().unwrap();
    for own in [ours(), other] {
        pair.transport.handle(pair.now, theirs(), own, &check);
    }
    pair.describe_client(&setup);
    let (mut out, mut responses) = (Vec::new(), Vec::new());
    loop {
        let from = pair.transport.transmit_from();
        if pair.transport.poll_transmit(&mut out).is_none() {
            break;
        }
        if out.starts_with(&[1, 1]) {
            responses.push(from);
        }
        out.clear();
    }
    assert_eq!(responses, [Some(ours()), Some(other)]);
}

#[test]
fn client_hello_before_the_description_is_answered_once_it_is_set() {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    pair.run(Duration::from_millis(300));
    pair.transport.handle(pair.now, theirs(), ours(), &client_hellos(pair.now, 1)[0]);
    assert_eq!(pair.transport.poll_transmit(&mut Vec::new()), None);
    pair.describe_client(&setup);
    assert!(dtls_records(&mut pair) > 0, "the server's flight answers the early ClientHello");
}

/// The DTLS datagrams that the transport sends. The client answers checks meanwhile, and gets nothing else.
fn dtls_records(pair: &mut Pair) -> usize {
    let (mut out, mut records) = (Vec::new(), 0);
    while pair.transport.poll_transmit(&mut out).is_some() {
        records += usize::from(out.first() == Some(&22));
        if out.starts_with(&[0, 1]) {
            pair.deliver(&out);
            while let Ok(output) = pair.rtc.poll_output() {
                match output {
                    Output::Transmit(sent) if sent.contents.starts_with(&[1, 1]) => {
                        pair.client_sends(&sent.contents);
                    }
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
        }
        out.clear();
    }
    records
}

#[test]
fn dtls_from_an_unauthenticated_address_is_ignored() {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    pair.run(Duration::from_millis(300));
    let (unauthenticated, hello) = ("10.0.0.66:9".parse().unwrap(), client_hellos(pair.now, 1).remove(0));
    pair.transport.handle(pair.now, unauthenticated, ours(), &hello);
    pair.describe_client(&setup);
    pair.transport.handle(pair.now, unauthenticated, ours(), &hello);
    assert!(pair.transport.is_authenticated(theirs()));
    assert_eq!(dtls_records(&mut pair), 0);
    // The same bytes are handled when they arrive from the authenticated address.
    pair.transport.handle(pair.now, theirs(), ours(), &hello);
    assert!(dtls_records(&mut pair) > 0);
}

#[test]
fn certificate_that_was_not_announced_is_refused() {
    for client_is_active in [true, false] {
        let setup = Setup { client_is_active };
        let mut pair = Pair::new(&setup);
        let mut remote = pair.remote(&setup);
        remote.fingerprint[31] ^= 1;
        pair.transport.set_remote(pair.now, remote);
        pair.run_until("closed", |pair| pair.closed().is_some());
        assert_eq!(pair.closed(), Some(&CloseReason::WrongCertificate));
        assert!(!pair.is_connected());
        assert!(!pair.transport.is_connected());
    }
}

#[test]
fn ice_restart_of_the_client_keeps_the_connection() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    // The client restarts on another address; our credentials stay.
    pair.client_ice = IceCredentials { ufrag: "restarted".into(), pwd: "another-password-22chars".into() };
    pair.rtc.direct_api().set_local_ice_credentials(str0m::IceCreds {
        ufrag: pair.client_ice.ufrag.clone(),
        pass: pair.client_ice.pwd.clone(),
    });
    pair.describe_client(&setup);
    pair.client_addr = "10.0.0.3:40001".parse().unwrap();
    pair.run_until("the new address is selected", |pair| {
        pair.transport.remote_addr() == Some(pair.client_addr)
    });
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.closed(), None);
    assert!(pair.transport.is_connected());
}

#[test]
fn after_our_ice_restart_checks_with_old_and_new_credentials_are_accepted() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    let fresh = IceCredentials { ufrag: "v1n1w0wxyz".into(), pwd: "zyxwvutsrqponmlkjihgfedcba".into() };
    pair.transport.set_local(fresh.clone());
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.closed(), None);
    pair.rtc.direct_api().set_remote_ice_credentials(str0m::IceCreds { ufrag: fresh.ufrag, pass: fresh.pwd });
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.closed(), None);
}

#[test]
fn another_certificate_in_a_later_description_closes_the_connection() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    let mut remote = pair.remote(&setup);
    remote.fingerprint = [7; 32];
    pair.transport.set_remote(pair.now, remote);
    pair.exchange();
    assert_eq!(pair.closed(), Some(&CloseReason::ChangedCertificate));
}

#[test]
fn only_an_unreachable_client_times_out() {
    let mut pair = Pair::connected(&Setup::default());
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.closed(), None);
    pair.drop_client_packets = true;
    pair.run_until("closed", |pair| pair.closed().is_some());
    assert_eq!(pair.closed(), Some(&CloseReason::TimedOut));
    assert_eq!(pair.transport.poll_timeout(), None);
}

#[test]
fn connect_timeout_begins_with_the_description() {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    pair.drop_client_packets = true;
    pair.run(Duration::from_secs(120));
    assert_eq!(pair.closed(), None);
    pair.describe_client(&setup);
    pair.run(Duration::from_secs(31));
    assert_eq!(pair.closed(), Some(&CloseReason::NeverConnected));
}

#[test]
fn close_reaches_the_other_side_in_both_directions() {
    let mut pair = Pair::connected(&Setup::default());
    pair.transport.close(pair.now);
    pair.exchange();
    assert_eq!(pair.closed(), Some(&CloseReason::Local));
    pair.run(Duration::from_secs(1));
    assert!(
        !pair.rtc.is_alive()
            || pair.client_events.iter().any(|event| {
                matches!(event, Event::IceConnectionStateChange(str0m::IceConnectionState::Disconnected))
            }),
        "{:?}",
        pair.client_events
    );

    let mut pair = Pair::connected(&Setup::default());
    pair.rtc.close().unwrap();
    pair.run_until("closed", |pair| pair.closed().is_some());
    assert_eq!(pair.closed(), Some(&CloseReason::Peer));
}

#[test]
fn timeouts_are_in_the_future_and_few() {
    let mut pair = Pair::connected(&Setup::default());
    let (mut timeouts, mut out) = (0, Vec::new());
    while let Some(at) = pair.transport.poll_timeout() {
        assert!(at > pair.now, "a timeout that is not in the future");
        pair.now = at;
        pair.transport.handle_timeout(at);
        while pair.transport.poll_transmit(&mut out).is_some() {}
        timeouts += 1;
    }
    assert!(timeouts < 10, "{timeouts}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn corrupted_dtls_datagrams_never_cause_a_panic(
        corruptions in proptest::collection::vec((0_usize..30, any::<usize>(), any::<u8>(), 0_u8..3), 1..6),
        client_is_active: bool,
    ) {
        let setup = Setup { client_is_active };
        let mut pair = Pair::new(&setup);
        pair.corruptions = corruptions;
        pair.describe_client(&setup);
        pair.run(Duration::from_secs(3));
    }

    #[test]
    fn datagrams_from_other_addresses_never_panic_or_close_the_connection(
        datagrams in proptest::collection::vec((0_u8..64, proptest::collection::vec(any::<u8>(), 0..300)), 1..40),
        described: bool,
    ) {
        let setup = Setup::default();
        let mut pair = Pair::new(&setup);
        if described {
            pair.describe_client(&setup);
        }
        let unauthenticated = "10.9.9.9:9".parse().unwrap();
        for (first, mut datagram) in datagrams {
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            pair.transport.handle(pair.now, unauthenticated, ours(), &datagram);
            let _ = pair.transport.open_rtp(&mut datagram.clone());
            let _ = pair.transport.open_rtcp(&mut datagram);
        }
        pair.describe_client(&setup);
        pair.run_until("connected", |pair| pair.is_connected() && pair.rtc.is_connected());
        prop_assert_eq!(pair.closed(), None);
    }
}
