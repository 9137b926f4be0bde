//! What every server must do for a packet: seal it and hand it to the kernel, which wakes the receiver. Here
//! each receiver sleeps; one that is still awake from the packet before costs the sender less, so a server
//! whose clients are busy can stay below this.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use quinn_udp::{Transmit, UdpSocketState};

use crate::proc::own_thread_time;

/// The packets of one track.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    /// Of a packet.
    pub(crate) bytes: usize,
    /// Packets that are sent together: those of a video frame.
    pub(crate) burst: u32,
    /// Bursts a second.
    pub(crate) rate: u32,
}

/// An RTP header, which is sent in the clear.
const HEADER: usize = 12;
const TAG: usize = 16;

/// Sends each publisher's streams to sockets whose readers sleep until a packet comes, each packet sealed
/// as in SRTP (AES-128-GCM, RFC 7714), all packets of a burst to one receiver in one system call. The
/// processor time of the sending thread per packet.
pub(crate) fn microseconds_per_packet(
    receivers: u32,
    publishers: u32,
    streams: &[Stream],
    seconds: u64,
) -> Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut addresses = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..receivers {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        addresses.push(socket.local_addr()?);
        let stop = stop.clone();
        readers.push(std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !stop.load(Ordering::Relaxed) {
                // Times out while nothing is sent.
                let _ = socket.recv(&mut buffer);
            }
        }));
    }
    let sending = std::thread::spawn({
        let streams = streams.to_vec();
        move || send(&addresses, publishers, &streams, Duration::from_secs(seconds))
    });
    let cost = sending.join().map_err(|_| anyhow::anyhow!("the sender failed"))?;
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        let _ = reader.join();
    }
    cost
}

fn send(
    addresses: &[std::net::SocketAddr],
    publishers: u32,
    streams: &[Stream],
    length: Duration,
) -> Result<f64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let state = UdpSocketState::new((&socket).into())?;
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_| anyhow::anyhow!("no key"))?;
    let key = LessSafeKey::new(key);
    let (begun, used) = (Instant::now(), own_thread_time()?);
    let mut packets = 0_u64;
    // Each publisher's tracks send at times of their own.
    let mut due: Vec<(Duration, Stream)> = (0..publishers)
        .flat_map(|publisher| {
            streams.iter().map(move |stream| (Duration::from_millis(7 * u64::from(publisher)), *stream))
        })
        .collect();
    while begun.elapsed() < length {
        let (at, stream) = due.iter_mut().min_by_key(|(at, _)| *at).context("nothing is sent")?;
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        for address in addresses {
            let mut burst = Vec::with_capacity(stream.burst as usize * stream.bytes);
            for _ in 0..stream.burst {
                let start = burst.len();
                burst.resize(start + stream.bytes - TAG, 0);
                packets += 1;
                let mut nonce = [0; NONCE_LEN];
                nonce[..8].copy_from_slice(&packets.to_le_bytes());
                let (header, payload) = burst[start..].split_at_mut(HEADER);
                let tag = key
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::from(&*header),
                        payload,
                    )
                    .map_err(|_| anyhow::anyhow!("a packet cannot be sealed"))?;
                burst.extend_from_slice(tag.as_ref());
            }
            state.try_send(
                (&socket).into(),
                &Transmit {
                    destination: *address,
                    ecn: None,
                    contents: &burst,
                    segment_size: (stream.burst > 1).then_some(stream.bytes),
                    src_ip: None,
                },
            )?;
        }
        *at += Duration::from_secs(1) / stream.rate;
    }
    let used = own_thread_time()?.saturating_sub(used);
    Ok(used.as_secs_f64() * 1e6 / packets.max(1) as f64)
}
