//! Datagrams of unauthenticated addresses: they lose no session, and the transport sends nothing there.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Pair, Setup, client_hellos, ours, theirs};

/// Does the client connect when another ClientHello arrives from this address at this step, and again at each
/// later one?
fn connects(from: SocketAddr, at: usize, hello: &[u8]) -> bool {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    for step in 0..300 {
        if step == 4 {
            pair.describe_client(&setup);
        }
        if step >= at {
            pair.transport.handle(pair.now, from, ours(), hello);
        }
        pair.step(Duration::from_millis(10));
        if pair.is_connected() && pair.rtc.is_connected() {
            // The sender goes on for a while.
            for _ in 0..10 {
                pair.transport.handle(pair.now, from, ours(), hello);
                pair.step(Duration::from_millis(10));
            }
            return pair.closed().is_none() && pair.transport.is_connected();
        }
    }
    false
}

#[test]
fn a_thousand_client_hellos_of_unauthenticated_addresses_lose_no_session() {
    let unauthenticated: [SocketAddr; 2] = ["10.9.9.9:9".parse().unwrap(), "10.0.0.2:40001".parse().unwrap()];
    let hellos = client_hellos(Instant::now(), 50);
    let races =
        (0..1_000).map(|race| (unauthenticated[race % 2], race / 2 % 20, &hellos[race % hellos.len()]));
    let lost = races.filter(|(from, at, hello)| !connects(*from, *at, hello)).count();
    assert_eq!(lost, 0);
    // Whoever forges the address of the client itself.
    let lost = (0..200).filter(|race| !connects(theirs(), race % 20, &hellos[race % hellos.len()])).count();
    println!("of 200 sessions {lost} are lost to hellos with the forged address of the client");
}

/// Bytes that the transport sends, and to whom.
fn sent(pair: &mut Pair) -> usize {
    let (mut out, mut bytes) = (Vec::new(), 0);
    while pair.transport.poll_transmit(&mut out).is_some() {
        bytes += out.len();
        out.clear();
    }
    bytes
}

#[test]
fn unauthenticated_datagrams_are_answered_with_no_byte() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    sent(&mut pair);
    let check = client_check(&setup);
    let unauthenticated: SocketAddr = "10.9.9.9:9".parse().unwrap();
    let mut received = 0;
    let hello = client_hellos(pair.now, 1).remove(0);
    // Checks of which one byte is wrong, cut ones, and DTLS.
    let changed = (20..check.len()).map(|at| {
        let mut changed = check.clone();
        changed[at] ^= 1;
        changed
    });
    let cut = (0..check.len()).map(|length| check[..length].to_vec());
    for datagram in changed.chain(cut).chain([hello]) {
        received += datagram.len();
        pair.transport.handle(pair.now, unauthenticated, ours(), &datagram);
    }
    assert_eq!(sent(&mut pair), 0, "for {received} bytes");
    assert!(!pair.transport.is_authenticated(unauthenticated));
    assert_eq!(pair.closed(), None);
}

/// A check of a client, with valid integrity, for a transport with the credentials of [`Pair`].
fn client_check(setup: &Setup) -> Vec<u8> {
    let mut pair = Pair::new(setup);
    loop {
        match pair.rtc.poll_output().unwrap() {
            str0m::Output::Transmit(transmit) if transmit.contents.first() == Some(&0) => {
                return transmit.contents.to_vec();
            }
            str0m::Output::Timeout(at) => pair.rtc.handle_input(str0m::Input::Timeout(at)).unwrap(),
            _ => {}
        }
    }
}

/// str0m read a message of 19 bytes beyond its end (its issue 709).
#[test]
fn stun_messages_that_are_too_short_or_lie_about_their_length_change_nothing() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    sent(&mut pair);
    let check = client_check(&setup);
    for length in 0..check.len() {
        for claimed in [0, 1, 3, 4, length as u16, u16::MAX] {
            let mut datagram = check[..length].to_vec();
            if let Some(field) = datagram.get_mut(2..4) {
                field.copy_from_slice(&claimed.to_be_bytes());
            }
            pair.transport.handle(pair.now, theirs(), ours(), &datagram);
        }
        // The length of each attribute.
        for at in (22..check.len() - 1).step_by(2) {
            let mut datagram = check.clone();
            datagram[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
            pair.transport.handle(pair.now, theirs(), ours(), &datagram);
        }
    }
    assert_eq!(sent(&mut pair), 0);
    assert_eq!(pair.closed(), None);
    assert!(pair.transport.is_connected());
}
