//! The cost of forwarding one packet of one track to one of its subscribers.

#![allow(clippy::disallowed_methods)]
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use systir_forwarding::batch::Priority;
use systir_forwarding::{Core, Egress, Forward, SubscriptionId, TrackId};
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Kind, Layer, LayerSet, Packet, SenderReport};

/// An egress that does almost nothing, so that the core's own cost is measured.
#[derive(Default)]
struct Count(u64, Vec<SubscriptionId>);

impl Egress for Count {
    fn queued(&mut self, sub: SubscriptionId) {
        self.1.push(sub);
    }

    fn forward(&mut self, _: SubscriptionId, out: &Forward<'_>) {
        self.0 += black_box(out).payload.len() as u64;
    }

    fn feed(&mut self, _: u32, _: u32, _: Priority, packet: &Packet<'_>) {
        self.0 += black_box(packet).payload.len() as u64;
    }

    fn feed_report(&mut self, _: u32, _: u32, _: SenderReport) {}
    fn request_key_frame(&mut self, _: TrackId, _: Layer) {}
    fn request_retransmission(&mut self, _: TrackId, _: Layer, _: &[u16]) {}
}

fn forward(c: &mut Criterion) {
    const SUBSCRIBERS: u64 = 100;
    let cases = [("vp8", Kind::Video, Codec::Vp8, 1160), ("opus", Kind::Audio, Codec::Opus, 120)];
    for (name, kind, codec, len) in cases {
        let mut core = Core::new(1);
        let mut egress = Count::default();
        let mut now = Instant::now();
        let track = core.add_track(0, kind, codec, LayerSet(1));
        for _ in 0..SUBSCRIBERS {
            if let Some(sub) = core.subscribe(track) {
                core.set_target(now, sub, Some(Layer(0)), &mut egress);
            }
        }
        let mut payload = vec![0u8; len];
        payload[..6].copy_from_slice(&[0x90, 0xF0, 0x80, 0x01, 0x01, 0x01]);
        let mut seq = 70_000u64;
        let mut group = c.benchmark_group("forward");
        group.throughput(Throughput::Elements(SUBSCRIBERS));
        group.bench_function(format!("{name}, one packet to {SUBSCRIBERS} subscribers"), |b| {
            b.iter(|| {
                seq += 1;
                now += Duration::from_micros(3000);
                let audio_level = Some(AudioLevel { level: 20, voice: true });
                let packet = Packet {
                    codec,
                    seq,
                    timestamp: seq as u32 * 960,
                    marker: true,
                    ext: Extensions { audio_level, ..Extensions::default() },
                    payload: &payload,
                };
                core.ingest(now, track, Layer(0), &packet, &mut egress);
                while let Some(sub) = egress.1.pop() {
                    while core.pull(sub, &mut egress) {}
                }
            });
        });
        group.finish();
        assert!(egress.0 > 0, "nothing was forwarded");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = forward
}
criterion_main!(benches);
