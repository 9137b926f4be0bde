//! What is queued for subscribers is sent when it is pulled: in order, once, and without the temporal layers that were
//! dropped.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Encoder, Sim, continuous};
use systir_rtp::packet::Layer;

fn encoder(layer: u8) -> Encoder {
    Encoder::new(layer, 70_000 + 1000 * u64::from(layer), 1, 1)
}

#[test]
fn nothing_is_sent_before_it_is_pulled() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let (sub, other) = (sim.subscriber(track, 0), sim.subscriber(track, 0));
    for published in encoder(0).frame(true, 3) {
        sim.queue(track, &published);
    }
    assert!(sim.log.sent.is_empty());
    assert_eq!(sim.log.queued, [sub, other], "each is listed once");
    assert!(sim.core.next_arrived(other).is_some());
    assert!(sim.core.pull(other, &mut sim.log) && sim.core.has_pending(other));
    assert_eq!((sim.log.of(sub).len(), sim.log.of(other).len()), (0, 1));
    sim.pull_all();
    assert!(!sim.core.pull(sub, &mut sim.log) && !sim.core.has_pending(sub));
    assert_eq!(sim.core.next_arrived(sub), None);
    assert_eq!((sim.log.of(sub).len(), sim.log.of(other).len()), (3, 3));
    assert!(continuous(&sim.log.of(other)));
}

#[test]
fn a_layer_that_was_left_is_sent_to_its_end_before_the_next_one() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    let sub = sim.subscriber(track, 2);
    let (mut low, mut high) = (encoder(0), encoder(2));
    let frames = [high.frame(true, 2), high.frame(false, 2), low.frame(true, 1), high.frame(false, 2)];
    for (index, published) in frames.iter().enumerate() {
        if index == 2 {
            sim.target(sub, Some(0));
        }
        published.iter().for_each(|published| sim.queue(track, published));
    }
    sim.pull_all();
    let sent = sim.log.of(sub);
    assert_eq!(sent.iter().map(|sent| sent.tag().layer).collect::<Vec<_>>(), [2, 2, 2, 2, 0]);
    assert!(continuous(&sent));
}

#[test]
fn what_has_left_the_cache_before_it_was_sent_asks_for_a_key_frame() {
    for key_frame_waits in [false, true] {
        let mut sim = Sim::new(1);
        let track = sim.video(0b001);
        let sub = sim.subscriber(track, 0);
        let mut encoder = encoder(0);
        sim.put_all(track, &encoder.frame(true, 1));
        sim.advance(600);
        sim.log.key_frames.clear();
        for frame in 0..100 {
            for published in encoder.frame(key_frame_waits && frame == 80, 1) {
                sim.queue(track, &published);
            }
            sim.advance(33);
        }
        sim.pull_all();
        let lost = sim.core.subscription_stats(sub).unwrap().expired;
        assert!(lost > 0);
        assert_eq!(sim.core.expired(), lost);
        let expected = if key_frame_waits { vec![] } else { vec![(track, Layer(0))] };
        assert_eq!(sim.log.key_frames, expected);
    }
}

#[test]
fn what_has_left_the_cache_is_counted() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    for frame in 0..600 {
        for published in encoder.frame(frame == 0, 1) {
            sim.queue(track, &published);
        }
        sim.advance(2);
    }
    sim.pull_all();
    let stats = sim.core.subscription_stats(sub).unwrap();
    assert_eq!((stats.packets, stats.expired), (512, 88));
}

#[test]
fn dropped_temporal_layers_leave_no_gaps() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    let mut sent_layers = Vec::new();
    // One of four frames is of layer 0, one of layer 1, two of layer 2.
    for frame in 0..64 {
        match frame {
            16 => sim.core.set_temporal_target(sub, 1, 1),
            32 => sim.core.set_temporal_target(sub, 0, 0),
            50 => sim.core.set_temporal_target(sub, 2, 2),
            _ => {}
        }
        let layer = [0, 2, 1, 2][frame % 4];
        let published = encoder.temporal_frame(frame == 0, 2, layer, frame % 4 < 3);
        let before = sim.log.sent.len();
        sim.put_all(track, &published);
        sent_layers.push((sim.log.sent.len() > before).then_some(layer));
    }
    let sent = sim.log.of(sub);
    assert!(continuous(&sent));
    let pictures: Vec<u16> = sent.iter().map(|sent| sent.descriptor().picture_id.unwrap()).collect();
    assert!(pictures.chunks(2).all(|pair| pair[0] == pair[1]));
    assert!(
        pictures.chunks(2).collect::<Vec<_>>().windows(2).all(|two| two[1][0] == two[0][0] + 1),
        "{pictures:?}"
    );
    let highest = |from: usize, to: usize| sent_layers[from..to].iter().flatten().max().copied();
    assert_eq!([highest(0, 16), highest(16, 32), highest(32, 50), highest(52, 64)], [2, 1, 0, 2].map(Some));
}

#[test]
fn a_late_packet_of_a_dropped_frame_uses_its_number_as_padding() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 1));
    sim.core.set_temporal_target(sub, 0, 0);
    // It is not known yet that the missing packets are of a dropped frame.
    let dropped = encoder.temporal_frame(false, 1, 2, true);
    sim.put_all(track, &encoder.frame(false, 1));
    sim.put_all(track, &dropped);
    sim.put_all(track, &encoder.frame(false, 1));
    let sent = sim.log.of(sub);
    let payloads: Vec<bool> = sent.iter().map(|sent| sent.payload.is_empty()).collect();
    assert_eq!(payloads, [false, false, true, false]);
    let mut numbers: Vec<u16> = sent.iter().map(|sent| sent.seq).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn recent_packets_are_sent_again_to_probe() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    assert!(!sim.core.resend(sub, 0, &mut sim.log), "nothing was sent yet");
    sim.put_all(track, &encoder(0).frame(true, 3));
    for back in 0..3 {
        assert!(sim.core.resend(sub, back, &mut sim.log));
    }
    assert!(!sim.core.resend(sub, 3, &mut sim.log));
    let sent = sim.log.of(sub);
    assert!(sent[3..].iter().all(|sent| sent.retransmission));
    let again: Vec<u16> = sent[3..].iter().map(|sent| sent.seq).rev().collect();
    assert_eq!(again, sent[..3].iter().map(|sent| sent.seq).collect::<Vec<_>>());
}

#[test]
fn a_packet_that_waited_for_the_pacer_is_sent_again_a_round_trip_later() {
    /// Milliseconds; a packet arrives in each one.
    const WAIT: usize = 500;
    const ROUND_TRIP: usize = 300;
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    let mut requested = 0;
    for at in 0..2000 {
        for published in encoder.frame(at == 0, 1) {
            sim.queue(track, &published);
        }
        if at >= WAIT {
            assert!(sim.core.pull(sub, &mut sim.log));
        }
        if at >= WAIT + ROUND_TRIP && at % 10 == 0 {
            let lost = sim
                .log
                .of(sub)
                .iter()
                .filter(|sent| !sent.retransmission)
                .nth(at - WAIT - ROUND_TRIP)
                .unwrap()
                .seq;
            sim.nack(sub, &[lost]);
            requested += 1;
        }
        sim.advance(1);
    }
    let again = sim.log.of(sub).iter().filter(|sent| sent.retransmission).count();
    assert_eq!(again, requested);
    assert_eq!(sim.core.subscription_stats(sub).unwrap().expired, 0);
}
