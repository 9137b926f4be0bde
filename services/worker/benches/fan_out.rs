//! What a worker costs per packet: one publisher and many subscribers on loopback, with independent clients. It prints
//! the processor time of the worker's thread, which receives, forwards, seals and sends; the clients run on another one.
//!
//! ```sh
//! cargo bench -p systir-worker --bench fan_out -- video 50 10
//! ```

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout)]
// The tests' clients can do more.
#![allow(dead_code)]

#[path = "../tests/worker/client.rs"]
mod client;
#[path = "../tests/worker/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use client::{Client, publisher_ids, run_until};
use harness::{CAMERA, Harness, ROOM, VOICE, vp8};
use str0m::media::MediaKind;
use systir_media_control::{
    CaptureSource, Downtrack, ParticipantKey, ReceiveCodec, ReceiveSection, TrackSource, TrackSpec,
    WorkerCommand,
};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

/// A load: what the publisher sends.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    kind: Kind,
    /// Packets of a frame.
    packets: usize,
    bytes: usize,
    interval: Duration,
}

const LOADS: [Load; 2] = [
    Load { name: "audio", kind: Kind::Audio, packets: 1, bytes: 120, interval: Duration::from_millis(20) },
    Load { name: "video", kind: Kind::Video, packets: 6, bytes: 1100, interval: Duration::from_millis(33) },
];

/// Processor time of the worker's thread.
fn processor_time() -> Duration {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        if std::fs::read_to_string(path.join("comm")).unwrap().starts_with("media-") {
            let times = std::fs::read_to_string(path.join("schedstat")).unwrap();
            total += Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap());
        }
    }
    total
}

fn publish(harness: &Harness, load: Load, client: &mut Client) {
    let participant = ParticipantKey(1);
    let (track, codec, pt) = match load.kind {
        Kind::Audio => (VOICE, Codec::Opus, 111),
        Kind::Video => (CAMERA, Codec::Vp8, 96),
    };
    harness.command(WorkerCommand::AddTrack {
        room: ROOM,
        track,
        spec: TrackSpec { kind: load.kind, codec, layers: LayerSet::NONE.with(Layer(0)) },
        source: TrackSource::Participant(participant),
        publisher: "PA_alice".into(),
    });
    let section = ReceiveSection {
        mid: "0".into(),
        track: Some(track),
        codecs: vec![ReceiveCodec { pt, codec, rtx_pt: None, nack: true }],
        extensions: publisher_ids(),
        rids: Vec::new(),
        ssrcs: Vec::new(),
    };
    harness.command(WorkerCommand::Receive { participant, sections: vec![section] });
    let media = if load.kind == Kind::Audio { MediaKind::Audio } else { MediaKind::Video };
    client.send_stream("0", media, 1000, None, None);
}

fn subscribe(harness: &Harness, load: Load, key: u64, client: &mut Client) {
    let is_video = load.kind == Kind::Video;
    let media = if is_video { MediaKind::Video } else { MediaKind::Audio };
    client.expect_stream("0", media, 5000, is_video.then_some(7000));
    let downtrack = Downtrack {
        track: if is_video { CAMERA } else { VOICE },
        source: if is_video { CaptureSource::Camera } else { CaptureSource::Microphone },
        mid: "0".into(),
        ssrc: 5000,
        rtx_ssrc: is_video.then_some(7000),
        pt: if is_video { 96 } else { 111 },
        rtx_pt: is_video.then_some(97),
        transport_cc: false,
        opus_pt: None,
    };
    harness.command(WorkerCommand::Subscribe { participant: ParticipantKey(key), downtrack });
}

fn frame(load: Load, client: &mut Client, number: u64) {
    for part in 0..load.packets {
        let last = part + 1 == load.packets;
        let seq = number * load.packets as u64 + part as u64;
        match load.kind {
            Kind::Audio => client.write(1000, 111, seq, number as u32 * 960, false, vec![0xAA; load.bytes]),
            Kind::Video => {
                // The last packet of a frame is shorter.
                let bytes = if last { load.bytes / 2 } else { load.bytes };
                let payload = vp8(number as u16, part == 0, number % 300 == 1, bytes, 7);
                client.write(1000, 96, seq, number as u32 * 3000, last, payload);
            }
        }
    }
}

fn run(load: Load, subscribers: u64, seconds: u64) {
    let mut harness = Harness::new();
    let (mut publisher, _idle) = harness.join(1);
    publish(&harness, load, &mut publisher);
    let mut clients: Vec<Client> = Vec::new();
    for key in 2..2 + subscribers {
        let (_, mut subscriber) = harness.join(key);
        subscribe(&harness, load, key, &mut subscriber);
        clients.push(subscriber);
    }
    let mut all: Vec<_> = clients.iter_mut().chain([&mut publisher]).collect();
    run_until(&mut all, "all clients connect", |all| all.iter().all(|client| client.rtc.is_connected()));
    harness.take();
    let (mut number, mut next) = (0, Instant::now());
    let mut send = |clients: &mut [Client], publisher: &mut Client, end: Instant| {
        while Instant::now() < end {
            if Instant::now() >= next {
                next += load.interval;
                number += 1;
                frame(load, publisher, number);
            }
            publisher.poll();
            for client in clients.iter_mut() {
                client.poll();
                client.events.clear();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    send(&mut clients, &mut publisher, Instant::now() + Duration::from_secs(2));
    let (before, time) = (harness.counts(), processor_time());
    send(&mut clients, &mut publisher, Instant::now() + Duration::from_secs(seconds));
    let (after, time) = (harness.counts(), processor_time() - time);
    let packets = after.media_out - before.media_out;
    println!(
        "{} 1 to {subscribers}: {:.2} us of the worker's processor time per packet, {packets} packets, {:.1} per system call",
        load.name,
        time.as_secs_f64() * 1e6 / packets.max(1) as f64,
        packets as f64 / (after.sends - before.sends).max(1) as f64,
    );
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number =
        |index: usize, default| words.get(index).and_then(|word| word.parse().ok()).unwrap_or(default);
    for (load, subscribers) in LOADS.into_iter().zip([100, 50]) {
        if words.first().is_none_or(|name| name == load.name) {
            run(load, number(1, subscribers), number(2, 10));
        }
    }
}
