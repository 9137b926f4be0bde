//! Simulcast of H.264: a layer starts at its parameter sets, however its encoder packs them.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Forwarded, Published, Sim, continuous};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

/// How an encoder packs a key frame.
#[derive(Clone, Copy)]
enum KeyFramePacking {
    /// Parameter sets and slices in packets of their own, the slice in two fragments.
    Separate,
    /// Parameter sets in an aggregate, the slice in two fragments.
    Aggregated,
    /// All in one aggregate.
    Whole,
}

/// One layer of H.264.
struct H264Encoder {
    layer: u8,
    seq: u64,
    timestamp: u32,
}

impl H264Encoder {
    fn new(layer: u8) -> Self {
        Self { layer, seq: 1000 * u64::from(layer), timestamp: 7000 * u32::from(layer) }
    }

    fn frame(&mut self, payloads: &[&[u8]]) -> Vec<Published> {
        self.timestamp += 3000;
        let count = payloads.len();
        let packets = payloads.iter().enumerate().map(|(index, payload)| {
            self.seq += 1;
            Published {
                layer: Layer(self.layer),
                codec: Codec::H264,
                seq: self.seq,
                timestamp: self.timestamp,
                marker: index + 1 == count,
                // The last byte names the layer.
                payload: [*payload, &[self.layer]].concat(),
            }
        });
        packets.collect()
    }

    fn picture(&mut self) -> Vec<Published> {
        self.frame(&[&[0x41, 9], &[0x41, 8]])
    }

    fn key_frame(&mut self, packing: KeyFramePacking) -> Vec<Published> {
        let slice: [&[u8]; 2] = [&[0x7C, 0x85, 3], &[0x7C, 0x45, 3]];
        match packing {
            KeyFramePacking::Separate => self.frame(&[&[0x67, 1], &[0x68, 2], slice[0], slice[1]]),
            KeyFramePacking::Aggregated => {
                self.frame(&[&[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 2], slice[0], slice[1]])
            }
            KeyFramePacking::Whole => self.frame(&[&[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 2, 0, 2, 0x65, 3]]),
        }
    }
}

#[test]
fn layers_of_h264_change_at_their_parameter_sets() {
    for packing in [KeyFramePacking::Separate, KeyFramePacking::Aggregated, KeyFramePacking::Whole] {
        let mut sim = Sim::new(1);
        let track = sim.core.add_track(1, Kind::Video, Codec::H264, LayerSet(0b111));
        let sub = sim.subscriber(track, 0);
        let mut encoders = [0, 1, 2].map(H264Encoder::new);
        for target in [0, 2, 1, 0, 2] {
            sim.target(sub, Some(target));
            let before = sim.core.subscription_stats(sub).unwrap();
            // Pictures that depend on earlier ones start nothing.
            for encoder in &mut encoders {
                sim.put_all(track, &encoder.picture());
            }
            assert_eq!(sim.core.current_layer(sub), before.current);
            let requested = sim.log.key_frames.contains(&(track, Layer(target)));
            assert!(requested, "a key frame of layer {target} is requested");
            let sent = sim.log.of(sub).len();
            let key_frame = encoders[usize::from(target)].key_frame(packing);
            sim.put_all(track, &key_frame);
            assert_eq!(sim.core.current_layer(sub), Some(Layer(target)));
            let started: Vec<_> = sim.log.of(sub).drain(sent..).map(|sent| sent.payload).collect();
            let whole: Vec<_> = key_frame.iter().map(|packet| packet.payload.clone()).collect();
            assert_eq!(started, whole, "the layer starts with its parameter sets");
            for _ in 0..20 {
                for encoder in &mut encoders {
                    sim.put_all(track, &encoder.picture());
                }
                sim.advance(33);
            }
            let newest = sim.log.of(sub).pop().unwrap();
            assert_eq!(newest.payload.last(), Some(&target));
            sim.log.key_frames.clear();
        }
        let sent = sim.log.of(sub);
        assert!(continuous(&sent));
        let increases = |pair: &[Forwarded]| pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 1 << 31;
        assert!(sent.windows(2).all(increases), "timestamps never go back");
        assert_eq!(sim.core.subscription_stats(sub).unwrap().switches, 5);
    }
}

/// Parameter sets are sent only now and then by some encoders: a slice starts a layer, unless the packet before it is
/// missing, which may hold them.
#[test]
fn a_layer_of_h264_does_not_start_at_a_slice_behind_a_missing_packet() {
    let mut sim = Sim::new(1);
    let track = sim.core.add_track(1, Kind::Video, Codec::H264, LayerSet(0b001));
    let sub = sim.subscriber(track, 0);
    let mut encoder = H264Encoder::new(0);
    sim.put_all(track, &encoder.picture());
    let frame = encoder.key_frame(KeyFramePacking::Separate);
    sim.put(track, &frame[2]);
    sim.put(track, &frame[3]);
    assert_eq!(sim.core.current_layer(sub), None);
    sim.put(track, &frame[1]);
    sim.put(track, &frame[0]);
    assert_eq!(sim.core.current_layer(sub), Some(Layer(0)));
    let sent: Vec<_> = sim.log.of(sub).into_iter().map(|sent| sent.payload).collect();
    let whole: Vec<_> = frame.iter().map(|packet| packet.payload.clone()).collect();
    assert_eq!(sent, whole);
}
