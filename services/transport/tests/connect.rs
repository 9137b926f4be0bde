//! ICE and DTLS with an independent peer.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Setup, World, ours, theirs};
use proptest::prelude::*;
use str0m::Event;
use systir_transport::{CloseReason, IceCredentials, SrtpProfile, TransportEvent};

#[test]
fn a_client_connects_in_either_dtls_role() {
    for client_is_active in [true, false] {
        let world = World::connected(&Setup { client_is_active });
        assert!(world.events.contains(&TransportEvent::Connected { profile: SrtpProfile::Aes256Gcm }));
        assert!(world.transport.is_authenticated(theirs()));
        assert_eq!(world.transport.remote_addr(), Some(theirs()));
    }
}

#[test]
fn checks_that_overtake_the_description_are_held_and_then_answered() {
    let setup = Setup::default();
    let mut world = World::new(&setup);
    world.run(Duration::from_millis(300));
    assert!(!world.transport.is_authenticated(theirs()));
    // From now on the client's packets are lost: only what was held can connect its ICE.
    world.deaf = true;
    world.introduce(&setup);
    assert!(world.transport.is_authenticated(theirs()));
    world.exchange();
    world.deaf = false;
    world.until("connected", |world| world.is_connected() && world.rtc.is_connected());
}

#[test]
fn a_client_hello_that_overtakes_the_description_is_held_and_then_answered() {
    let setup = Setup::default();
    let mut world = World::new(&setup);
    world.run(Duration::from_millis(300));
    world.transport.handle(world.now, theirs(), ours(), &client_hello(world.now));
    assert_eq!(world.transport.poll_transmit(&mut Vec::new()), None);
    world.introduce(&setup);
    assert!(dtls_records(&mut world) > 0, "the server's flight answers the held ClientHello");
}

fn dtls_records(world: &mut World) -> usize {
    let (mut out, mut records) = (Vec::new(), 0);
    while world.transport.poll_transmit(&mut out).is_some() {
        records += usize::from(out.first() == Some(&22));
        out.clear();
    }
    records
}

fn client_hello(now: Instant) -> Vec<u8> {
    let mut client = dimpl::Dtls::new_12(
        std::sync::Arc::new(dimpl::Config::default()),
        dimpl::certificate::generate_self_signed_certificate().unwrap(),
        now,
    );
    client.set_active(true);
    client.handle_timeout(now).unwrap();
    let mut buffer = vec![0; 4096];
    loop {
        if let dimpl::Output::Packet(packet) = client.poll_output(&mut buffer) {
            return packet.to_vec();
        }
    }
}

#[test]
fn dtls_from_an_address_that_has_not_authenticated_is_ignored() {
    let setup = Setup::default();
    let mut world = World::new(&setup);
    world.run(Duration::from_millis(300));
    let (stranger, hello) = ("10.0.0.66:9".parse().unwrap(), client_hello(world.now));
    world.transport.handle(world.now, stranger, ours(), &hello);
    world.introduce(&setup);
    world.transport.handle(world.now, stranger, ours(), &hello);
    assert!(world.transport.is_authenticated(theirs()));
    assert_eq!(dtls_records(&mut world), 0);
    // The very same bytes count from the address that authenticated.
    world.transport.handle(world.now, theirs(), ours(), &hello);
    assert!(dtls_records(&mut world) > 0);
}

#[test]
fn a_certificate_that_was_not_announced_is_refused() {
    for client_is_active in [true, false] {
        let setup = Setup { client_is_active };
        let mut world = World::new(&setup);
        let mut remote = world.remote(&setup);
        remote.fingerprint[31] ^= 1;
        world.transport.set_remote(world.now, remote);
        world.until("closed", |world| world.closed().is_some());
        assert_eq!(world.closed(), Some(&CloseReason::WrongCertificate));
        assert!(!world.is_connected());
        assert!(!world.transport.is_connected());
    }
}

#[test]
fn an_ice_restart_of_the_client_keeps_the_connection() {
    let setup = Setup::default();
    let mut world = World::connected(&setup);
    // The client restarts and comes from another address; we keep our credentials.
    world.client_ice = IceCredentials { ufrag: "restarted".into(), pwd: "another-password-22chars".into() };
    world.rtc.direct_api().set_local_ice_credentials(str0m::IceCreds {
        ufrag: world.client_ice.ufrag.clone(),
        pass: world.client_ice.pwd.clone(),
    });
    world.introduce(&setup);
    world.client_addr = "10.0.0.3:40001".parse().unwrap();
    world.until("moved", |world| world.transport.remote_addr() == Some(world.client_addr));
    world.run(Duration::from_secs(60));
    assert_eq!(world.closed(), None);
    assert!(world.transport.is_connected());
}

#[test]
fn our_ice_restart_accepts_checks_with_old_and_new_credentials() {
    let setup = Setup::default();
    let mut world = World::connected(&setup);
    let fresh = IceCredentials { ufrag: "v1n1w0wxyz".into(), pwd: "zyxwvutsrqponmlkjihgfedcba".into() };
    world.transport.set_local(fresh.clone());
    world.run(Duration::from_secs(20));
    assert_eq!(world.closed(), None);
    world
        .rtc
        .direct_api()
        .set_remote_ice_credentials(str0m::IceCreds { ufrag: fresh.ufrag, pass: fresh.pwd });
    world.run(Duration::from_secs(20));
    assert_eq!(world.closed(), None);
}

#[test]
fn another_certificate_in_a_later_description_ends_the_connection() {
    let setup = Setup::default();
    let mut world = World::connected(&setup);
    let mut remote = world.remote(&setup);
    remote.fingerprint = [7; 32];
    world.transport.set_remote(world.now, remote);
    world.exchange();
    assert_eq!(world.closed(), Some(&CloseReason::ChangedCertificate));
}

#[test]
fn a_silent_client_is_closed_and_a_live_one_is_not() {
    let mut world = World::connected(&Setup::default());
    world.run(Duration::from_secs(60));
    assert_eq!(world.closed(), None);
    world.deaf = true;
    world.until("closed", |world| world.closed().is_some());
    assert_eq!(world.closed(), Some(&CloseReason::Silent));
    assert_eq!(world.transport.poll_timeout(), None);
}

#[test]
fn a_client_that_never_comes_is_given_up_only_after_its_description() {
    let setup = Setup::default();
    let mut world = World::new(&setup);
    world.deaf = true;
    world.run(Duration::from_secs(120));
    assert_eq!(world.closed(), None);
    world.introduce(&setup);
    world.run(Duration::from_secs(31));
    assert_eq!(world.closed(), Some(&CloseReason::NeverConnected));
}

#[test]
fn goodbye_is_heard_on_both_sides() {
    let mut world = World::connected(&Setup::default());
    world.transport.close(world.now);
    world.exchange();
    assert_eq!(world.closed(), Some(&CloseReason::Local));
    world.run(Duration::from_secs(1));
    assert!(
        !world.rtc.is_alive()
            || world.client_events.iter().any(|event| {
                matches!(event, Event::IceConnectionStateChange(str0m::IceConnectionState::Disconnected))
            }),
        "{:?}",
        world.client_events
    );

    let mut world = World::connected(&Setup::default());
    world.rtc.close().unwrap();
    world.until("closed", |world| world.closed().is_some());
    assert_eq!(world.closed(), Some(&CloseReason::Peer));
}

#[test]
fn timeouts_lie_ahead_and_are_few() {
    let mut world = World::connected(&Setup::default());
    let (mut wakeups, mut out) = (0, Vec::new());
    while let Some(at) = world.transport.poll_timeout() {
        assert!(at > world.now, "the clock stands still");
        world.now = at;
        world.transport.handle_timeout(at);
        while world.transport.poll_transmit(&mut out).is_some() {}
        wakeups += 1;
    }
    assert!(wakeups < 10, "{wakeups}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_client_that_speaks_broken_dtls_does_not_make_us_panic(
        wounds in proptest::collection::vec((0_usize..30, any::<usize>(), any::<u8>(), 0_u8..3), 1..6),
        client_is_active: bool,
    ) {
        let setup = Setup { client_is_active };
        let mut world = World::new(&setup);
        world.wounds = wounds;
        world.introduce(&setup);
        world.run(Duration::from_secs(3));
    }

    #[test]
    fn arbitrary_datagrams_never_panic_nor_end_a_connection_from_elsewhere(
        datagrams in proptest::collection::vec((0_u8..64, proptest::collection::vec(any::<u8>(), 0..300)), 1..40),
        introduced: bool,
    ) {
        let setup = Setup::default();
        let mut world = World::new(&setup);
        if introduced {
            world.introduce(&setup);
        }
        let stranger = "10.9.9.9:9".parse().unwrap();
        for (first, mut datagram) in datagrams {
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            world.transport.handle(world.now, stranger, ours(), &datagram);
            let _ = world.transport.open_rtp(&mut datagram.clone());
            let _ = world.transport.open_rtcp(&mut datagram);
        }
        world.introduce(&setup);
        world.until("connected", |world| world.is_connected() && world.rtc.is_connected());
        prop_assert_eq!(world.closed(), None);
    }
}
