//! A subscriber receives one continuous stream, whatever layers it consists of and whatever the network did.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Encoder, Forwarded, Published, Sim, Tag, continuous};
use proptest::prelude::*;
use systir_forwarding::{SubscriptionId, TrackId};
use systir_rtp::packet::{Layer, SenderReport};

/// 1/30 s of a scenario.
#[derive(Debug, Clone)]
struct Tick {
    /// Change of the target: none, a pause (`Some(None)`), or a layer.
    target: Option<Option<u8>>,
    /// Packets of a frame, per layer.
    packets: [u8; 3],
    /// Padding packets after the frame, per layer.
    padding: [u8; 3],
    /// Key frames that the publisher sends without a request.
    key: [bool; 3],
    report: bool,
    muted: Option<bool>,
}

fn tick() -> impl Strategy<Value = Tick> {
    let target = prop_oneof![
        6 => Just(None),
        2 => (0..3u8).prop_map(|layer| Some(Some(layer))),
        1 => Just(Some(None)),
    ];
    let padding = prop::array::uniform3(prop_oneof![6 => Just(0u8), 1 => 1..4u8]);
    let muted = prop_oneof![20 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (
        target,
        prop::array::uniform3(1..5u8),
        padding,
        prop::array::uniform3(prop::bool::weighted(0.05)),
        prop::bool::weighted(0.3),
        muted,
    )
        .prop_map(|(target, packets, padding, key, report, muted)| Tick {
            target,
            packets,
            padding,
            key,
            report,
            muted,
        })
}

/// First sequence number, timestamp and picture id of each layer: often just before they wrap.
fn first_numbers() -> impl Strategy<Value = [(u64, u32, u16); 3]> {
    let seq = prop_oneof![Just(0x1_FFF0u64), 1..0x1_0000u64];
    let timestamp = prop_oneof![Just(u32::MAX - 20_000), any::<u32>()];
    let picture = prop_oneof![Just(0x7FF8u16), 0..0x8000u16];
    prop::array::uniform3((seq, timestamp, picture))
}

struct Scenario {
    sim: Sim,
    track: TrackId,
    sub: SubscriptionId,
    encoders: Vec<Encoder>,
    ntp: u64,
    handled_requests: usize,
}

impl Scenario {
    fn new(seed: u64, first_numbers: [(u64, u32, u16); 3], narrow: bool) -> Self {
        let mut sim = Sim::new(seed);
        let track = sim.video(0b111);
        let sub = sim.subscriber(track, 2);
        let encoders = (0..3).zip(first_numbers).map(|(layer, (seq, timestamp, picture_id))| Encoder {
            narrow,
            ..Encoder::new(layer, seq, timestamp, picture_id)
        });
        Self {
            sim,
            track,
            sub,
            encoders: encoders.collect(),
            ntp: 0xE000_0000_0000_0000,
            handled_requests: 0,
        }
    }

    /// The packets that the publisher sends in this tick. It answers new requests with key frames.
    fn publish(&mut self, tick: &Tick) -> Vec<Published> {
        let requested: Vec<u8> =
            self.sim.log.key_frames[self.handled_requests..].iter().map(|(_, layer)| layer.0).collect();
        self.handled_requests = self.sim.log.key_frames.len();
        let mut published = Vec::new();
        for (index, encoder) in self.encoders.iter_mut().enumerate() {
            let key = encoder.frame == 0 || tick.key[index] || requested.contains(&encoder.layer);
            published.extend(encoder.frame(key, tick.packets[index]));
            published.extend((0..tick.padding[index]).map(|_| encoder.padding()));
        }
        published
    }

    fn run(&mut self, tick: &Tick, send: impl FnOnce(&mut Self, Vec<Published>)) {
        if let Some(muted) = tick.muted {
            self.sim.core.set_muted(self.track, muted);
        }
        if let Some(target) = tick.target {
            self.sim.target(self.sub, target);
        }
        let published = self.publish(tick);
        if tick.report {
            for encoder in &self.encoders {
                let report = SenderReport { ntp: self.ntp, timestamp: encoder.timestamp };
                let layer = Layer(encoder.layer);
                let Sim { core, now, log } = &mut self.sim;
                core.sender_report(*now, self.track, layer, report, log);
            }
        }
        send(self, published);
        self.sim.advance(33);
        self.ntp = self.ntp.wrapping_add((1 << 32) / 30);
    }
}

fn is_after(later: u32, earlier: u32) -> bool {
    (later.wrapping_sub(earlier) as i32) > 0
}

/// Checks two consecutive packets of a subscriber's stream.
fn check_pair(before: &Forwarded, after: &Forwarded, lossless: bool) -> Result<(), TestCaseError> {
    let (a, b) = (before.tag(), after.tag());
    let step = |high: u16, low: u16, bits: u16| high.wrapping_sub(low) & ((1 << bits) - 1);
    let picture = step(after.descriptor().picture_id.unwrap(), before.descriptor().picture_id.unwrap(), 15);
    let tl0 = after.descriptor().tl0.unwrap().wrapping_sub(before.descriptor().tl0.unwrap());
    let key = step(
        u16::from(after.descriptor().key_index().unwrap()),
        u16::from(before.descriptor().key_index().unwrap()),
        5,
    );
    if (a.layer, a.frame) == (b.layer, b.frame) && b.index > a.index {
        prop_assert_eq!((picture, tl0, key), (0, 0, 0));
        prop_assert_eq!(after.timestamp, before.timestamp);
        return Ok(());
    }
    prop_assert!(is_after(after.timestamp, before.timestamp), "{:?} -> {:?}", a, b);
    if lossless {
        prop_assert_eq!((picture, tl0), (1, 1));
        prop_assert_eq!(key, u16::from(b.key));
        prop_assert_eq!(b.index, 0);
        let follows = a.layer == b.layer && b.frame == a.frame + 1;
        prop_assert!(follows || b.key, "{:?} -> {:?} without a key frame", a, b);
    } else {
        prop_assert!(picture > 0 && picture < 0x4000, "{:?} -> {:?} by {}", before, after, picture);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn without_loss_all_numbers_are_continuous(
        seed: u64, first_numbers in first_numbers(), narrow: bool, ticks in prop::collection::vec(tick(), 1..120),
    ) {
        let mut scenario = Scenario::new(seed, first_numbers, narrow);
        for tick in &ticks {
            scenario.run(tick, |scenario, published| scenario.sim.put_all(scenario.track, &published));
        }
        let sent = scenario.sim.log.of(scenario.sub);
        prop_assert!(continuous(&sent));
        prop_assert!(sent.iter().all(|sent| !sent.payload.is_empty()));
        for pair in sent.windows(2) {
            check_pair(&pair[0], &pair[1], true)?;
        }
    }

    #[test]
    fn with_loss_and_reordering_numbers_keep_the_order_of_packets(
        seed: u64, first_numbers in first_numbers(), narrow: bool, ticks in prop::collection::vec(tick(), 1..120),
        outcomes in prop::collection::vec((0..12u8, 0..8usize), 64),
    ) {
        let mut scenario = Scenario::new(seed, first_numbers, narrow);
        let mut outcomes = outcomes.into_iter().cycle();
        let mut late: Vec<(usize, Published)> = Vec::new();
        for tick in &ticks {
            scenario.run(tick, |scenario, published| {
                // Some packets are lost, some arrive twice, some arrive after several later ones.
                for published in published {
                    let (outcome, delay) = outcomes.next().unwrap();
                    match outcome {
                        0 => {}
                        1 => late.push((delay, published)),
                        2 => {
                            scenario.sim.put(scenario.track, &published);
                            scenario.sim.put(scenario.track, &published);
                        }
                        _ => scenario.sim.put(scenario.track, &published),
                    }
                    late.iter_mut().for_each(|(delay, _)| *delay = delay.saturating_sub(1));
                    let due: Vec<Published> =
                        late.extract_if(.., |(delay, _)| *delay == 0).map(|(_, published)| published).collect();
                    scenario.sim.put_all(scenario.track, &due);
                }
            });
        }
        let sent = scenario.sim.log.of(scenario.sub);
        let mut by_seq: BTreeMap<u64, Forwarded> = BTreeMap::new();
        let mut highest = 0x10_0000u64 + u64::from(sent.first().map_or(0, |sent| sent.seq));
        let mut tags: Vec<Tag> = Vec::new();
        for sent in sent {
            let seq = highest.checked_add_signed(i64::from(sent.seq.wrapping_sub(highest as u16) as i16)).unwrap();
            highest = highest.max(seq);
            if !sent.payload.is_empty() {
                tags.push(sent.tag());
            }
            prop_assert!(by_seq.insert(seq, sent).is_none(), "number {} was used twice", seq);
        }
        let count = tags.len();
        tags.sort();
        tags.dedup();
        prop_assert_eq!(tags.len(), count, "a packet was sent twice");
        let full: Vec<&Forwarded> = by_seq.values().filter(|sent| !sent.payload.is_empty()).collect();
        for pair in full.windows(2) {
            check_pair(pair[0], pair[1], false)?;
        }
        // Each sent packet can be requested again, unchanged, for about a second.
        let end = by_seq.values().next_back().map_or(0, |last| last.timestamp);
        let newest = by_seq.values().rev().take(8).filter(|sent| end.wrapping_sub(sent.timestamp) < 60_000);
        let newest: Vec<&Forwarded> = newest.collect();
        if scenario.sim.core.subscription_stats(scenario.sub).unwrap().current.is_some() {
            for first in newest {
                scenario.sim.log.sent.clear();
                scenario.sim.nack(scenario.sub, &[first.seq]);
                prop_assert_eq!(scenario.sim.log.sent.len(), 1);
                let again = Forwarded { retransmission: false, ..scenario.sim.log.sent[0].clone() };
                prop_assert_eq!(&again, first);
            }
        }
    }
}

#[test]
fn sender_reports_align_the_layers_exactly() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b011);
    let sub = sim.subscriber(track, 0);
    let mut low = Encoder::new(0, 10, 1000, 5);
    let mut high = Encoder::new(1, 9000, 4_000_000_000, 900);
    // The report of the high layer is half a second later.
    let reports = [(0, low.timestamp), (1, high.timestamp.wrapping_add(45_000))];
    for (layer, timestamp) in reports {
        let ntp = 77 << 32 | if layer == 1 { 1 << 31 } else { 0 };
        let report = SenderReport { ntp, timestamp };
        sim.core.sender_report(sim.now, track, Layer(layer), report, &mut sim.log);
    }
    for key in [true, false, false] {
        sim.put_all(track, &low.frame(key, 1));
        high.frame(false, 1);
        sim.advance(33);
    }
    sim.target(sub, Some(1));
    // The switch happens seven frames later, plus network delay.
    for _ in 0..6 {
        high.frame(false, 1);
    }
    sim.advance(33 * 6 + 21);
    sim.put_all(track, &high.frame(true, 1));
    let sent = sim.log.of(sub);
    let [.., before, after] = sent.as_slice() else { panic!("too few packets were sent") };
    assert_eq!((before.tag().layer, after.tag().layer), (0, 1));
    assert_eq!(after.timestamp.wrapping_sub(before.timestamp), 7 * 3000);
}

#[test]
fn without_sender_reports_the_elapsed_time_aligns_the_layers() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b011);
    let sub = sim.subscriber(track, 0);
    let (mut low, mut high) = (Encoder::new(0, 10, 1000, 5), Encoder::new(1, 9000, 7, 900));
    sim.put_all(track, &low.frame(true, 1));
    sim.target(sub, Some(1));
    sim.advance(500);
    sim.put_all(track, &high.frame(true, 1));
    sim.target(sub, Some(0));
    sim.put_all(track, &low.frame(true, 1));
    let steps: Vec<u32> =
        sim.log.of(sub).windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp)).collect();
    assert_eq!(steps, [45_000, 3000]);
}

#[test]
fn a_key_frame_whose_first_packet_is_late_is_completed_from_the_cache() {
    let mut sim = Sim::new(3);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = Encoder::new(0, 10, 1000, 5);
    let frame = encoder.frame(true, 4);
    let next = encoder.frame(false, 2);
    sim.put_all(track, &frame[1..]);
    sim.put_all(track, &next);
    assert!(sim.log.sent.is_empty());
    sim.put(track, &frame[0]);
    let sent = sim.log.of(sub);
    assert!(continuous(&sent));
    assert_eq!(sent.iter().map(|sent| sent.tag().index).collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1]);
}

#[test]
fn padding_that_arrives_too_late_to_be_skipped_uses_its_sequence_number() {
    let mut sim = Sim::new(3);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = Encoder::new(0, 10, 1000, 5);
    sim.put_all(track, &encoder.frame(true, 1));
    let (first, second) = (encoder.padding(), encoder.padding());
    sim.put(track, &second);
    sim.put_all(track, &encoder.frame(false, 1));
    sim.put(track, &first);
    sim.put_all(track, &encoder.frame(false, 1));
    let sent = sim.log.of(sub);
    let start = sent[0].seq;
    let seen: Vec<(u16, bool)> =
        sent.iter().map(|sent| (sent.seq.wrapping_sub(start), sent.payload.is_empty())).collect();
    assert_eq!(seen, [(0, false), (2, false), (1, true), (3, false)]);
}

#[test]
fn a_restarted_publisher_continues_the_same_stream() {
    let mut sim = Sim::new(3);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = Encoder::new(0, 10, 1000, 5);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.advance(100);
    let mut restarted = Encoder::new(0, 0x3_1234, 3_000_000_000, 4000);
    sim.put_all(track, &restarted.frame(false, 2));
    assert_eq!(sim.log.of(sub).len(), 2, "sent before a key frame");
    assert_eq!(sim.log.key_frames.len(), 1, "too soon after the last request");
    sim.advance(450);
    assert_eq!(sim.log.key_frames.len(), 2);
    sim.put_all(track, &restarted.frame(true, 2));
    let sent = sim.log.of(sub);
    assert!(continuous(&sent));
    for pair in sent.windows(2) {
        check_pair(&pair[0], &pair[1], true).unwrap();
    }
}
