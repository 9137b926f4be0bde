//! One publisher, two subscribers, no sockets: how a program drives the forwarding core.
//!
//! The publisher sends VP8 in two simulcast layers. Anna receives the low layer, Bo the high one. Then a
//! packet to Bo is lost and Bo switches to the low layer. Run it with
//! `cargo run -p systir-forwarding --example one_to_two`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use systir_forwarding::batch::Priority;
use systir_forwarding::{Core, Egress, Forward, SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Extensions, Kind, Layer, LayerSet, Packet, SenderReport};

const LOW: Layer = Layer(0);
const HIGH: Layer = Layer(1);

/// Records what the core sends. A node writes to sockets here.
#[derive(Default)]
struct Recorder {
    /// Subscription, RTP sequence number, layer (the last byte of the payload), retransmission.
    sent: Vec<(SubscriptionId, u16, Layer, bool)>,
    key_frame_requests: Vec<Layer>,
    /// Subscriptions with queued packets.
    queued: Vec<SubscriptionId>,
}

impl Egress for Recorder {
    fn queued(&mut self, sub: SubscriptionId) {
        self.queued.push(sub);
    }

    fn forward(&mut self, sub: SubscriptionId, out: &Forward<'_>) {
        let layer = Layer(*out.payload.last().unwrap());
        self.sent.push((sub, out.seq, layer, out.retransmission));
    }

    fn feed(&mut self, _peer: u32, _flow: u32, _priority: Priority, _packet: &Packet<'_>) {}

    fn feed_report(&mut self, _peer: u32, _flow: u32, _report: SenderReport) {}

    fn request_key_frame(&mut self, _track: TrackId, layer: Layer) {
        self.key_frame_requests.push(layer);
    }

    fn request_retransmission(&mut self, _track: TrackId, _layer: Layer, _seqs: &[u16]) {}
}

impl Recorder {
    /// Sequence numbers, layers and retransmissions of one subscriber.
    fn sent_to(&self, sub: SubscriptionId) -> Vec<(u16, Layer, bool)> {
        let sent = self.sent.iter().filter(|(to, ..)| *to == sub);
        sent.map(|(_, seq, layer, again)| (*seq, *layer, *again)).collect()
    }
}

/// The publisher's frames: one packet of each layer, with unrelated sequence numbers.
struct Publisher {
    frame: u64,
    track: TrackId,
}

impl Publisher {
    fn publish(&mut self, now: Instant, key_frame: bool, core: &mut Core, egress: &mut Recorder) {
        self.frame += 1;
        for layer in [LOW, HIGH] {
            // A VP8 descriptor with a PictureID (RFC 7741), the frame's first byte, and the layer.
            let payload = [0x90, 0x80, self.frame as u8 & 0x7F, u8::from(!key_frame), layer.0];
            let packet = Packet {
                codec: Codec::Vp8,
                seq: 10_000 * (1 + u64::from(layer.0)) + self.frame,
                timestamp: self.frame as u32 * 3000,
                marker: true,
                ext: Extensions::default(),
                payload: &payload,
            };
            core.ingest(now, self.track, layer, &packet, egress);
        }
        // A node sends to each subscriber at the pace of its connection.
        for sub in std::mem::take(&mut egress.queued) {
            while core.pull(sub, egress) {}
        }
    }
}

fn main() {
    let (mut core, mut egress) = (Core::new(1), Recorder::default());
    let mut now = Instant::now();
    let track = core.add_track(0, Kind::Video, Codec::Vp8, LayerSet::NONE.with(LOW).with(HIGH));
    let mut publisher = Publisher { frame: 0, track };

    let (anna, bo) = (core.subscribe(track).unwrap(), core.subscribe(track).unwrap());
    core.set_target(now, anna, Some(LOW), &mut egress);
    core.set_target(now, bo, Some(HIGH), &mut egress);
    println!("Key frames requested of layers {:?}", egress.key_frame_requests);
    assert_eq!(egress.key_frame_requests, [LOW, HIGH]);
    // The publisher need not send a layer that nobody receives: `poll_wanted` reports changes.
    assert_eq!(core.poll_wanted(), Some((track, LayerSet::NONE.with(LOW).with(HIGH))));

    publisher.publish(now, true, &mut core, &mut egress);
    for _ in 0..3 {
        now += Duration::from_millis(33);
        publisher.publish(now, false, &mut core, &mut egress);
    }
    let layers = |egress: &Recorder, sub| -> Vec<u8> {
        egress.sent_to(sub).iter().map(|(_, layer, _)| layer.0).collect()
    };
    println!("Anna received packets of layers {:?}", layers(&egress, anna));
    assert_eq!(layers(&egress, anna), [0, 0, 0, 0]);
    // The low layer arrived first. Bo received it until the key frame of the high layer.
    println!("Bo received packets of layers {:?}", layers(&egress, bo));
    assert_eq!(layers(&egress, bo), [0, 1, 1, 1, 1]);

    let (lost, ..) = egress.sent_to(bo)[2];
    core.nack(now, bo, std::iter::once(lost), None, &mut egress);
    println!("Bo requested packet {lost} again and received it from the cache");
    assert_eq!(egress.sent_to(bo).last(), Some(&(lost, HIGH, true)));

    core.set_target(now, bo, Some(LOW), &mut egress);
    now += Duration::from_millis(33);
    publisher.publish(now, false, &mut core, &mut egress);
    assert_eq!(egress.sent_to(bo).last().unwrap().1, HIGH, "the old layer continues until a key frame");
    now += Duration::from_millis(33);
    publisher.publish(now, true, &mut core, &mut egress);
    assert_eq!(egress.sent_to(bo).last().unwrap().1, LOW);

    let seqs: Vec<u16> = egress.sent_to(bo).iter().filter(|sent| !sent.2).map(|sent| sent.0).collect();
    println!("Bo switched to layer 0; all sequence numbers: {seqs:?}");
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "numbers are continuous");
    assert_eq!(core.subscription_stats(bo).unwrap().current, Some(LOW));
}

#[cfg(test)]
#[test]
fn the_example_runs() {
    main();
}
