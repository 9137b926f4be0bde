//! Datagrams of unauthenticated addresses: they lose no session, and the transport sends nothing there.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Pair, Setup, client_hellos, ours, theirs};
use is::stun::{StunMessage, TransId};
use str0m::{Input, Output};

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

const VICTIM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 6, 6, 6)), 666);

fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = aws_lc_rs::hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().unwrap()
}

fn written(message: &StunMessage<'_>, password: &str) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, hmac_sha1).unwrap();
    bytes.truncate(length);
    bytes
}

/// A check with USE-CANDIDATE of the highest priority and with valid integrity: the participant itself forges its address.
fn nomination(pair: &Pair) -> Vec<u8> {
    let local = Pair::local_ice();
    let username = format!("{}:{}", local.ufrag, pair.client_ice.ufrag);
    let check = StunMessage::binding_request(&username, TransId::new(), true, 7, u32::MAX, true);
    written(&check, &local.pwd)
}

/// What the transport sends to an address.
fn sent_to(pair: &mut Pair, address: SocketAddr) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    loop {
        let mut out = Vec::new();
        match pair.transport.poll_transmit(&mut out) {
            Some(to) if to == address => sent.push(out),
            Some(_) => {}
            None => return sent,
        }
    }
}

#[test]
fn nominated_address_that_never_answers_gets_no_media() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    for _ in 0..500 {
        let check = nomination(&pair);
        pair.transport.handle(pair.now, VICTIM, ours(), &check);
        assert_eq!(pair.transport.remote_addr(), Some(theirs()));
        pair.step(Duration::from_millis(10));
    }
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.transport.remote_addr(), Some(theirs()));
    assert_eq!(pair.closed(), None);
}

#[test]
fn address_of_the_first_nomination_must_answer_too() {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    pair.drop_client_packets = true;
    pair.describe_client(&setup);
    let (check, hello) = (nomination(&pair), client_hellos(pair.now, 1).remove(0));
    pair.transport.handle(pair.now, VICTIM, ours(), &check);
    pair.transport.handle(pair.now, VICTIM, ours(), &hello);
    let sent = sent_to(&mut pair, VICTIM);
    assert!(sent.iter().all(|datagram| datagram.first() < Some(&2)), "only STUN: {sent:02x?}");
    assert_eq!(pair.transport.remote_addr(), None);
}

#[test]
fn nominated_address_that_answers_gets_media() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    let check = nomination(&pair);
    sent_to(&mut pair, VICTIM);
    pair.transport.handle(pair.now, VICTIM, ours(), &check);
    let sent = sent_to(&mut pair, VICTIM);
    let asked = sent.iter().map(|datagram| StunMessage::parse(datagram).unwrap());
    let asked = asked.into_iter().find(|message| message.is_binding_request()).expect("a check of ours");
    let answer = written(&StunMessage::binding_reply(asked.trans_id(), VICTIM), &pair.client_ice.pwd);
    pair.transport.handle(pair.now, VICTIM, ours(), &answer);
    assert_eq!(pair.transport.remote_addr(), Some(VICTIM));
}

/// What someone gets whose address is forged in checks, for each byte of them. The page of the security model has the figures.
#[test]
fn forged_checks_are_answered_with_few_bytes() {
    let setup = Setup::default();
    let mut pair = Pair::connected(&setup);
    let (mut received, mut first, mut later) = (0, 0, 0);
    for number in 0..100 {
        let check = nomination(&pair);
        pair.transport.handle(pair.now, VICTIM, ours(), &check);
        let sent: usize = sent_to(&mut pair, VICTIM).iter().map(Vec::len).sum();
        received += check.len();
        if number < 8 { first += sent } else { later += sent }
    }
    let (each, first, later) = (received as f64 / 100.0, first as f64 / 8.0, later as f64 / 92.0);
    println!("a forged check of {each} bytes: {first} bytes for each of the first 8, then {later}");
    assert!(first < 2.0 * each && later < each, "{each} {first} {later}");
}

/// Simulated time from the description until both are connected, on a path with this delay in each direction.
fn time_to_connect(delay: Duration) -> Duration {
    let setup = Setup::default();
    let mut pair = Pair::new(&setup);
    pair.describe_client(&setup);
    let start = pair.now;
    let mut flying: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
    for _ in 0..5_000 {
        pair.now += Duration::from_millis(1);
        let now = pair.now;
        let due: Vec<_> = flying.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, to_client, datagram) in due {
            if to_client { pair.deliver(&datagram) } else { pair.client_sends(&datagram) }
        }
        if pair.transport.poll_timeout().is_some_and(|at| at <= now) {
            pair.transport.handle_timeout(now);
        }
        pair.rtc.handle_input(Input::Timeout(now)).unwrap();
        let mut out = Vec::new();
        while pair.transport.poll_transmit(&mut out).is_some() {
            flying.push((now + delay, true, std::mem::take(&mut out)));
        }
        loop {
            match pair.rtc.poll_output().unwrap() {
                Output::Transmit(transmit) => flying.push((now + delay, false, transmit.contents.to_vec())),
                Output::Event(_) => {}
                Output::Timeout(_) => break,
            }
        }
        while let Some(event) = pair.transport.poll_event() {
            pair.events.push(event);
        }
        if pair.is_connected() && pair.rtc.is_connected() {
            return now - start;
        }
    }
    panic!("not connected");
}

/// One for ICE and two for DTLS 1.2; to wait for the client's answer to our check adds none.
#[test]
fn client_connects_in_three_round_trips() {
    for delay in [5, 40, 150].map(Duration::from_millis) {
        let took = time_to_connect(delay);
        println!("{took:?} with {delay:?} in each direction");
        assert!(took <= delay * 6 + Duration::from_millis(2), "{took:?} with {delay:?} in each direction");
    }
}
