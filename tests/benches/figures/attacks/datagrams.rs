//! Floods of datagrams from several addresses.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::flood::Flood;

const ADDRESSES: u8 = 8;
const INTERVAL: Duration = Duration::from_millis(1);

/// Sends so many datagrams a second.
pub(super) fn send(
    to: SocketAddr,
    rate: u32,
    make: impl Fn(&mut fastrand::Rng) -> Vec<u8> + Send + 'static,
) -> Result<Flood> {
    let bound = (2..2 + ADDRESSES).map(|last| UdpSocket::bind(SocketAddr::from(([127, 0, 0, last], 0))));
    let sockets = bound.collect::<std::io::Result<Vec<_>>>()?;
    Flood::start(move |attacker| {
        let mut random = fastrand::Rng::with_seed(1);
        let begun = Instant::now();
        let mut sent = 0_u64;
        while !attacker.is_stopped() {
            let due = begun.elapsed().as_micros() as u64 * u64::from(rate) / 1_000_000;
            // What a busy machine did not send in time is left out.
            let count = due.saturating_sub(sent).min(u64::from(rate) / 100);
            sent = due;
            for number in 0..count {
                let datagram = make(&mut random);
                if let Some(socket) = sockets.get(number as usize % sockets.len()) {
                    // A full buffer loses it, as the network would.
                    let _ = socket.send_to(&datagram, to);
                }
            }
            attacker.made(count);
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    })
}

fn bytes(random: &mut fastrand::Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    random.fill(&mut bytes);
    bytes
}

/// Bytes that look like SRTP (first byte 0x80) in half of the cases.
pub(super) fn random_packet(random: &mut fastrand::Rng) -> Vec<u8> {
    let count = random.usize(1..300);
    let mut datagram = bytes(random, count);
    if random.bool()
        && let Some(first) = datagram.first_mut()
    {
        *first = 0x80;
    }
    datagram
}

/// A STUN binding request (RFC 8489) with a username that nobody has, and a wrong integrity check.
pub(super) fn unknown_check(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut attributes = vec![0, 0x06, 0, 9];
    for _ in 0..4 {
        attributes.push(random.lowercase() as u8);
    }
    attributes.extend_from_slice(b":user\0\0\0");
    attributes.extend_from_slice(&[0, 0x08, 0, 20]);
    attributes.extend_from_slice(&bytes(random, 20));
    let mut datagram = vec![0, 1];
    datagram.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    datagram.extend_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
    datagram.extend_from_slice(&bytes(random, 12));
    datagram.extend_from_slice(&attributes);
    datagram
}

/// A QUIC version 1 Initial packet (RFC 9000 section 17.2.2) with a new connection id and a payload that is not encrypted
/// for it.
pub(super) fn quic_initial(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut datagram = vec![0xC0 | random.u8(..4), 0, 0, 0, 1, 8];
    datagram.extend_from_slice(&bytes(random, 8));
    // No source connection id, no token; the rest is the length.
    datagram.extend_from_slice(&[0, 0]);
    let rest = 1200 - datagram.len() - 2;
    datagram.extend_from_slice(&(0x4000 | rest as u16).to_be_bytes());
    datagram.extend_from_slice(&bytes(random, rest));
    datagram
}
