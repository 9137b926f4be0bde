//! A running stream allocates nothing.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::System;
use std::time::Duration;

use common::Encoder;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use systir_forwarding::batch::Priority;
use systir_forwarding::{Core, Egress, Forward, SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet, Packet, SenderReport};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Debug)]
struct Count {
    forwarded: usize,
    retransmitted: usize,
    fed: usize,
    requested: usize,
    /// Last sequence number of each subscriber.
    last: [u16; 100],
    queued: Vec<SubscriptionId>,
}

impl Egress for Count {
    fn queued(&mut self, sub: SubscriptionId) {
        self.queued.push(sub);
    }

    fn forward(&mut self, sub: SubscriptionId, out: &Forward<'_>) {
        self.forwarded += 1;
        self.retransmitted += usize::from(out.retransmission);
        self.last[sub.index()] = out.seq;
    }

    fn feed(&mut self, _: u32, _: u32, _: Priority, _: &Packet<'_>) {
        self.fed += 1;
    }

    fn feed_report(&mut self, _: u32, _: u32, _: SenderReport) {}

    fn request_key_frame(&mut self, _: TrackId, _: Layer) {
        self.requested += 1;
    }

    fn request_retransmission(&mut self, _: TrackId, _: Layer, seqs: &[u16]) {
        self.requested += seqs.len();
    }
}

/// Frames of three layers with loss, feedback, layer switches and timeouts. It is the only test in this
/// binary: other tests would allocate on their threads.
#[test]
fn steady_forwarding_allocates_nothing() {
    let mut now = std::time::Instant::now();
    let mut egress =
        Count { forwarded: 0, retransmitted: 0, fed: 0, requested: 0, last: [0; 100], queued: Vec::new() };
    let mut core = Core::new(1);
    let track = core.add_track(1, Kind::Video, Codec::Vp8, LayerSet(0b111));
    let subs: Vec<_> = (0..100).map(|_| core.subscribe(track).unwrap()).collect();
    core.feed(track, Layer(2), 7, 70);
    let mut encoders: Vec<_> =
        (0..3u8).map(|layer| Encoder::new(layer, 70_000, u32::from(layer) * 1000, 7)).collect();
    // All packets are made in advance: the publisher may allocate, the core may not.
    let ticks: Vec<Vec<_>> = (0..1200)
        .map(|tick| {
            encoders
                .iter_mut()
                .flat_map(|encoder| encoder.frame(tick % 30 == 0, 1 + encoder.layer * 3))
                .collect()
        })
        .collect();

    let mut run = |from: usize, to: usize| {
        for (tick, published) in ticks.iter().enumerate().take(to).skip(from) {
            for (index, sub) in subs.iter().enumerate() {
                let layer = ((index + tick / 100) % 3) as u8;
                core.set_target(now, *sub, Some(Layer(layer)), &mut egress);
            }
            for (index, published) in published.iter().enumerate() {
                // A cache slot allocates when it is first used: the first 200 ticks fill all slots.
                if tick < 200 || (tick * 13 + index) % 41 != 0 {
                    core.ingest(now, track, published.layer, &published.packet(), &mut egress);
                }
            }
            while let Some(sub) = egress.queued.pop() {
                while core.pull(sub, &mut egress) {}
            }
            for sub in &subs {
                let last = egress.last[sub.index()];
                core.nack(now, *sub, (0..8).map(|back| last.wrapping_sub(back)), None, &mut egress);
            }
            core.feed_nack(
                now,
                7,
                70,
                std::iter::once(published[published.len() - 1].seq as u16),
                &mut egress,
            );
            now += Duration::from_millis(33);
            core.handle_timeout(now, &mut egress);
            while core.poll_wanted().is_some() {}
        }
    };
    run(0, 600);
    let region = Region::new(ALLOCATOR);
    run(600, 1200);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0));
    assert!(egress.forwarded > 100_000 && egress.fed > 8000 && egress.requested > 100, "{egress:?}");
    assert!(egress.retransmitted > 1000, "{egress:?}");
}
