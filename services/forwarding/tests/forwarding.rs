//! What subscribers and downstreams receive, and what is requested from the source.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Encoder, Published, Sim, continuous};
use systir_forwarding::batch::Priority;
use systir_forwarding::{SenderInfo, TrackId};
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Kind, Layer, LayerSet, Packet, SenderReport};

const FIRST: Encoder = Encoder {
    layer: 0,
    seq: 70_000,
    timestamp: 1,
    picture_id: 1,
    narrow: false,
    tl0: 0,
    key_index: 0,
    frame: 0,
};

fn encoder(layer: u8) -> Encoder {
    Encoder { layer, seq: FIRST.seq + 1000 * u64::from(layer), ..FIRST }
}

fn opus(seq: u64) -> Published {
    let timestamp = (seq as u32).wrapping_mul(960);
    Published { layer: Layer(0), codec: Codec::Opus, seq, timestamp, marker: false, payload: vec![7; 40] }
}

#[test]
fn a_hundred_waiting_subscribers_cause_one_key_frame_request() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let subs: Vec<_> = (0..100).map(|_| sim.subscriber(track, 0)).collect();
    for sub in &subs {
        sim.core.key_frame_wanted(sim.now, *sub, &mut sim.log);
    }
    sim.core.feed_key_frame_wanted(sim.now, track, Layer(0), &mut sim.log);
    assert_eq!(sim.log.key_frames, [(track, Layer(0))]);
    sim.put_all(track, &encoder(0).frame(true, 1));
    assert_eq!(sim.log.sent.len(), 100);
    sim.advance(5000);
    assert_eq!(sim.log.key_frames.len(), 1, "requested again after the key frame");
}

#[test]
fn a_missing_key_frame_is_requested_again_at_growing_intervals() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    sim.advance(4000);
    let requests = sim.log.key_frames.len();
    assert!((4..=6).contains(&requests), "{requests} requests");
    sim.core.unsubscribe(sub);
    sim.advance(4000);
    assert_eq!(sim.log.key_frames.len(), requests, "requested without a subscriber");
    assert_eq!(sim.core.poll_timeout(), None);
}

#[test]
fn video_starts_at_a_key_frame_and_audio_at_once() {
    let mut sim = Sim::new(1);
    let (video, audio) = (sim.video(0b001), sim.core.add_track(1, Kind::Audio, Codec::Opus, LayerSet(1)));
    let (viewer, listener) = (sim.subscriber(video, 0), sim.subscriber(audio, 0));
    let mut encoder = encoder(0);
    sim.put_all(video, &encoder.frame(false, 2));
    sim.put(audio, &opus(5));
    assert_eq!((sim.log.of(viewer).len(), sim.log.of(listener).len()), (0, 1));
    sim.put_all(video, &encoder.frame(true, 2));
    sim.put(audio, &opus(6));
    assert_eq!((sim.log.of(viewer).len(), sim.log.of(listener).len()), (2, 2));
    assert_eq!(sim.log.of(listener)[0].priority, Priority::Audio);
    assert_eq!(sim.log.of(viewer)[0].priority, Priority::Base);
    assert!(sim.log.key_frames.iter().all(|(track, _)| *track == video));
}

#[test]
fn the_old_layer_continues_until_a_key_frame_of_the_new_one() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    let sub = sim.subscriber(track, 0);
    let (mut low, mut high) = (encoder(0), encoder(2));
    sim.put_all(track, &low.frame(true, 1));
    sim.target(sub, Some(2));
    assert_eq!(sim.core.wanted(track), LayerSet(0b101));
    for _ in 0..3 {
        sim.put_all(track, &high.frame(false, 1));
        sim.put_all(track, &low.frame(false, 1));
    }
    sim.put_all(track, &high.frame(true, 1));
    sim.put_all(track, &low.frame(false, 1));
    let sent = sim.log.of(sub);
    assert!(continuous(&sent));
    assert_eq!(sent.iter().map(|sent| sent.tag().layer).collect::<Vec<_>>(), [0, 0, 0, 0, 2]);
    assert_eq!(sim.core.wanted(track), LayerSet(0b100));
    let stats = sim.core.subscription_stats(sub).unwrap();
    assert_eq!((stats.current, stats.packets, stats.switches), (Some(Layer(2)), 5, 2));
}

#[test]
fn subscribers_of_a_layer_that_ends_receive_a_lower_one_and_return() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    let (sub, other) = (sim.subscriber(track, 2), sim.subscriber(track, 0));
    let (mut low, mut high) = (encoder(0), encoder(2));
    let mut frames = |sim: &mut Sim, count: u32, with_high: bool| {
        for _ in 0..count {
            let requests: Vec<u8> = sim.log.key_frames.drain(..).map(|(_, layer)| layer.0).collect();
            sim.put_all(track, &low.frame(requests.contains(&0), 1));
            if with_high {
                sim.put_all(track, &high.frame(requests.contains(&2), 1));
            }
            sim.advance(33);
        }
    };
    frames(&mut sim, 30, true);
    assert_eq!(sim.core.subscription_stats(sub).unwrap().current, Some(Layer(2)));
    frames(&mut sim, 90, false);
    assert_eq!(sim.core.subscription_stats(sub).unwrap().current, Some(Layer(0)));
    assert!(sim.core.wanted(track).contains(Layer(2)), "the ended layer may return");
    assert_eq!(sim.core.track_stats(track).unwrap().live, LayerSet(0b001));
    frames(&mut sim, 30, true);
    assert_eq!(sim.core.subscription_stats(sub).unwrap().current, Some(Layer(2)));
    assert!(continuous(&sim.log.of(sub)));
    assert!(continuous(&sim.log.of(other)));
}

/// A screen that stands still: its encoders send nothing until something changes.
#[test]
fn a_track_that_is_silent_keeps_its_layers() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    let sub = sim.subscriber(track, 2);
    let mut encoders = [0, 1, 2].map(encoder);
    let mut frames = |sim: &mut Sim, count: u32, key: bool| {
        for _ in 0..count {
            for encoder in &mut encoders {
                sim.put_all(track, &encoder.frame(key, 1));
                sim.advance(3);
            }
            sim.advance(24);
        }
    };
    frames(&mut sim, 1, true);
    frames(&mut sim, 60, false);
    sim.log.key_frames.clear();
    let before = sim.core.subscription_stats(sub).unwrap();
    for pause in [10_000, 1_400, 1_600, 400, 10_000] {
        sim.advance(pause);
        assert_eq!(sim.core.live_layers(track), LayerSet(0b111));
        frames(&mut sim, 1, false);
    }
    assert_eq!(sim.log.key_frames, [], "no layer was given up");
    let stats = sim.core.subscription_stats(sub).unwrap();
    assert_eq!((stats.current, stats.switches), (Some(Layer(2)), before.switches));
    assert!(continuous(&sim.log.of(sub)));
    // One layer ends while the others arrive.
    for _ in 0..60 {
        for encoder in &mut encoders[..2] {
            let key = sim.log.key_frames.contains(&(track, Layer(encoder.layer)));
            sim.put_all(track, &encoder.frame(key, 1));
        }
        sim.advance(33);
    }
    assert_eq!(sim.core.live_layers(track), LayerSet(0b011));
    assert_eq!(sim.core.subscription_stats(sub).unwrap().current, Some(Layer(1)));
}

#[test]
fn a_silent_layer_that_gives_no_key_frame_has_ended() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    let sub = sim.subscriber(track, 2);
    sim.put_all(track, &encoder(2).frame(true, 1));
    sim.core.unsubscribe(sub);
    sim.advance(10_000);
    // Its publisher has stopped it meanwhile, and does not start it again.
    sim.subscriber(track, 2);
    while sim.core.poll_wanted().is_some() {}
    sim.advance(2_000);
    assert!(sim.core.live_layers(track).is_empty());
    assert_eq!(sim.core.wanted(track), LayerSet(0b111), "a lower layer may come");
}

#[test]
fn when_the_target_layer_never_arrives_lower_layers_are_wanted() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    sim.subscriber(track, 2);
    assert_eq!(sim.core.poll_wanted(), Some((track, LayerSet(0b100))));
    sim.advance(2000);
    assert_eq!(sim.core.poll_wanted(), Some((track, LayerSet(0b111))));
    sim.put_all(track, &encoder(1).frame(true, 1));
    assert_eq!(sim.core.poll_wanted(), Some((track, LayerSet(0b110))));
    assert_eq!(sim.core.poll_wanted(), None);
}

#[test]
fn a_paused_subscriber_resumes_at_a_key_frame_with_the_next_sequence_number() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.target(sub, None);
    assert!(sim.core.wanted(track).is_empty());
    sim.put_all(track, &encoder.frame(true, 2));
    sim.advance(1000);
    sim.target(sub, Some(0));
    sim.put_all(track, &encoder.frame(false, 2));
    assert_eq!(sim.log.of(sub).len(), 2);
    assert_eq!(sim.log.key_frames.len(), 2);
    sim.put_all(track, &encoder.frame(true, 2));
    let sent = sim.log.of(sub);
    assert!(continuous(&sent));
    assert_eq!(sent.len(), 4);
    // Three frames of the publisher's time passed.
    assert_eq!(sent[2].timestamp.wrapping_sub(sent[1].timestamp), 3 * 3000);
}

#[test]
fn a_muted_track_sends_nothing() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    sim.core.feed(track, Layer(0), 9, 1);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    let first = sim.log.of(sub)[0].seq;
    sim.core.set_muted(track, true);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.nack(sub, &[first]);
    sim.core.feed_nack(sim.now, 9, 1, [encoder.seq as u16 - 2].into_iter(), &mut sim.log);
    sim.core.key_frame_wanted(sim.now, sub, &mut sim.log);
    sim.advance(3000);
    assert_eq!((sim.log.sent.len(), sim.log.fed.len(), sim.log.key_frames.len()), (2, 2, 1));
    sim.core.set_muted(track, false);
    sim.advance(0);
    assert_eq!(sim.log.key_frames.len(), 2);
    sim.put_all(track, &encoder.frame(false, 2));
    sim.put_all(track, &encoder.frame(true, 2));
    assert!(continuous(&sim.log.of(sub)));
    assert_eq!((sim.log.sent.len(), sim.log.fed.len()), (4, 6));
}

#[test]
fn unmuted_audio_continues_at_once_with_the_next_sequence_number() {
    let mut sim = Sim::new(1);
    let track = sim.core.add_track(1, Kind::Audio, Codec::Opus, LayerSet(1));
    let sub = sim.subscriber(track, 0);
    for seq in 100..200 {
        sim.core.set_muted(track, (120..160).contains(&seq));
        sim.put(track, &opus(seq));
        sim.advance(20);
    }
    let sent = sim.log.of(sub);
    assert_eq!(sent.len(), 60);
    assert!(continuous(&sent));
    assert_eq!(sent[20].timestamp.wrapping_sub(sent[19].timestamp), 41 * 960);
}

#[test]
fn a_nack_is_answered_from_the_cache_with_unchanged_packets() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b101);
    let sub = sim.subscriber(track, 0);
    let (mut low, mut high) = (encoder(0), encoder(2));
    sim.put_all(track, &low.frame(true, 3));
    sim.put(track, &low.padding());
    sim.put_all(track, &low.frame(false, 3));
    sim.target(sub, Some(2));
    sim.put_all(track, &high.frame(true, 3));
    let first = sim.log.of(sub);
    assert_eq!(first.len(), 9);
    let seqs: Vec<u16> = first.iter().map(|sent| sent.seq).collect();
    sim.log.sent.clear();
    sim.nack(sub, &seqs);
    sim.nack(sub, &seqs);
    let mut again = sim.log.of(sub);
    assert!(again.iter().all(|sent| sent.retransmission));
    again.iter_mut().for_each(|sent| sent.retransmission = false);
    assert_eq!(again, first, "not once within 20 ms");
    sim.advance(30);
    sim.nack(sub, &seqs[..2]);
    sim.nack(sub, &[seqs[0].wrapping_sub(1), seqs[8].wrapping_add(1), seqs[0].wrapping_add(0x8000)]);
    assert_eq!(sim.log.of(sub).len(), 11);
    let stats = sim.core.subscription_stats(sub).unwrap();
    assert_eq!((stats.packets, stats.retransmitted_packets), (9, 11));
}

#[test]
fn a_nack_for_what_the_cache_no_longer_has_asks_for_a_key_frame() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 1));
    // A second frame of which the publisher has not delivered the second packet yet.
    let mut late = Vec::new();
    for frame in 0..90 {
        let mut frame_packets = encoder.frame(false, 2);
        if frame == 89 {
            late.push(frame_packets.remove(0));
        }
        sim.put_all(track, &frame_packets);
        sim.advance(33);
    }
    sim.log.key_frames.clear();
    let sent = sim.log.of(sub);
    let (first, newest) = (sent[1].seq, sent.last().unwrap().seq);
    sim.nack(sub, &[newest.wrapping_sub(1), newest.wrapping_add(1), newest]);
    assert_eq!(sim.log.key_frames, [], "it may still come, was not sent yet, or is sent again");
    sim.nack(sub, &[first]);
    sim.nack(sub, &[first.wrapping_add(1)]);
    assert_eq!(sim.log.key_frames, [(track, Layer(0))]);
    sim.advance(600);
    sim.put_all(track, &encoder.frame(true, 1));
    sim.log.key_frames.clear();
    sim.advance(600);
    sim.nack(sub, &[first]);
    assert_eq!(sim.log.key_frames, [], "the decoder needs nothing of before the key frame");
}

#[test]
fn a_downstream_receives_one_copy_however_many_subscribers_are_local() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    for layer in 0..30 {
        sim.subscriber(track, layer % 3);
    }
    for _ in 0..3 {
        sim.core.feed(track, Layer(0), 5, 50);
        sim.core.feed(track, Layer(2), 5, 52);
        sim.core.feed(track, Layer(2), 6, 62);
    }
    let published: Vec<Published> = (0..3).flat_map(|layer| encoder(layer).frame(false, 2)).collect();
    sim.put_all(track, &published);
    sim.put_all(track, &published);
    let fed = std::mem::take(&mut sim.log.fed);
    let expected: Vec<_> = [(5, 50, 0), (5, 50, 1), (5, 52, 4), (6, 62, 4), (5, 52, 5), (6, 62, 5)]
        .map(|(peer, flow, index): (u32, u32, usize)| {
            (peer, flow, published[index].seq, published[index].payload.clone())
        })
        .into();
    assert_eq!(fed, expected);

    let seq = published[0].seq;
    sim.core.feed_nack(sim.now, 5, 50, [seq as u16, seq as u16, 1].into_iter(), &mut sim.log);
    assert_eq!(sim.log.fed, [(5, 50, seq, published[0].payload.clone())]);
    let report = SenderReport { ntp: 1, timestamp: 2 };
    sim.core.sender_report(sim.now, track, Layer(2), report, &mut sim.log);
    assert_eq!(sim.log.reports, [(5, 52, report), (6, 62, report)]);

    sim.log.fed.clear();
    sim.core.unfeed(track, Layer(2), 5);
    sim.core.feed(track, Layer(0), 5, 51);
    sim.put_all(track, &encoder(0).frame(false, 5)[2..3]);
    sim.core.feed_nack(sim.now, 5, 50, [seq as u16].into_iter(), &mut sim.log);
    assert_eq!(sim.log.fed.iter().map(|fed| (fed.0, fed.1)).collect::<Vec<_>>(), [(5, 51)]);
}

#[test]
fn feeds_keep_padding_so_that_sequence_numbers_have_no_gap() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    sim.core.feed(track, Layer(0), 5, 50);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 1));
    sim.put(track, &encoder.padding());
    assert_eq!(sim.log.fed.len(), 2);
    assert_eq!(sim.core.wanted(track), LayerSet(0b001));
}

#[test]
fn missing_packets_are_requested_until_they_arrive() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let frame = encoder(0).frame(true, 5);
    for published in [&frame[0], &frame[1], &frame[4]] {
        sim.put(track, published);
    }
    sim.advance(5);
    assert!(sim.log.lost.is_empty(), "a reordered packet was requested");
    sim.advance(10);
    let missing = vec![frame[2].seq as u16, frame[3].seq as u16];
    assert_eq!(sim.log.lost, [(track, Layer(0), missing)]);
    sim.put(track, &frame[3]);
    sim.advance(3000);
    let again = &sim.log.lost[1..];
    assert!((2..10).contains(&again.len()), "{again:?}");
    assert!(again.iter().all(|(_, _, seqs)| *seqs == [frame[2].seq as u16]));
    sim.put(track, &frame[2]);
    let mut sent = sim.log.of(sub);
    sent.sort_by_key(|sent| sent.tag().index);
    assert!(continuous(&sent));
    assert_eq!(sent.len(), 5);
}

#[test]
fn a_packet_lost_after_a_pause_of_the_publisher_is_requested() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    sim.subscriber(track, 0);
    while sim.core.poll_wanted().is_some() {}
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    // A screen that stands still: the next frame comes seconds later.
    sim.advance(3000);
    let frame = encoder.frame(false, 3);
    sim.put_all(track, &frame[1..]);
    sim.advance(20);
    assert_eq!(sim.log.lost, [(track, Layer(0), vec![frame[0].seq as u16])]);
}

#[test]
fn packets_that_were_not_sent_to_this_node_are_not_requested() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    while sim.core.poll_wanted().is_some() {}
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.target(sub, None);
    while sim.core.poll_wanted().is_some() {}
    // The other node stops its feed, and starts it again.
    sim.advance(1000);
    encoder.frame(false, 5);
    sim.target(sub, Some(0));
    while sim.core.poll_wanted().is_some() {}
    sim.put_all(track, &encoder.frame(true, 2));
    sim.advance(100);
    assert!(sim.log.lost.is_empty(), "{:?}", sim.log.lost);
    let frame = encoder.frame(false, 3);
    sim.put_all(track, &frame[1..]);
    sim.advance(20);
    assert_eq!(sim.log.lost.len(), 1, "later losses are requested");
}

#[test]
fn packets_that_were_dropped_while_muted_are_not_requested() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.core.set_muted(track, true);
    sim.put_all(track, &encoder.frame(false, 5));
    sim.core.set_muted(track, false);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.advance(100);
    assert!(sim.log.lost.is_empty(), "{:?}", sim.log.lost);
}

#[test]
fn a_key_frame_is_requested_when_a_missing_packet_is_given_up() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.log.key_frames.clear();
    let frame = encoder.frame(false, 3);
    sim.put_all(track, &frame[..1]);
    sim.put_all(track, &frame[2..]);
    while sim.log.key_frames.is_empty() {
        let requests = sim.log.lost.len();
        assert!(requests < 20, "the packet is never given up");
        sim.put_all(track, &encoder.frame(false, 1));
        sim.advance(33);
    }
    assert!(sim.log.lost.len() >= 5, "given up after {} requests", sim.log.lost.len());
    assert_eq!(sim.log.key_frames, [(track, Layer(0))]);
    // The key frame ends it.
    sim.put_all(track, &encoder.frame(true, 2));
    sim.advance(5000);
    assert_eq!(sim.log.key_frames.len(), 1);
}

#[test]
fn a_key_frame_is_requested_at_once_after_a_gap_that_is_too_large_to_fill() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.advance(1000);
    sim.log.key_frames.clear();
    encoder.frame(false, 200);
    sim.put_all(track, &encoder.frame(false, 2));
    sim.advance(10);
    assert!(sim.log.lost.is_empty());
    assert_eq!(sim.log.key_frames, [(track, Layer(0))]);
}

#[test]
fn losses_before_a_key_frame_need_no_other_one() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 2));
    sim.log.key_frames.clear();
    // A large gap right before a key frame, and a small one that is never filled.
    encoder.frame(false, 200);
    sim.put_all(track, &encoder.frame(true, 2));
    encoder.frame(false, 2);
    sim.put_all(track, &encoder.frame(false, 2));
    sim.put_all(track, &encoder.frame(true, 2));
    for _ in 0..100 {
        sim.put_all(track, &encoder.frame(false, 2));
        sim.advance(33);
    }
    assert!(!sim.log.lost.is_empty());
    assert!(sim.log.key_frames.is_empty(), "{:?}", sim.log.key_frames);
}

#[test]
fn nobody_asks_for_a_key_frame_of_lost_audio_or_of_an_unwanted_layer() {
    let mut sim = Sim::new(1);
    let audio = sim.core.add_track(1, Kind::Audio, Codec::Opus, LayerSet(1));
    sim.subscriber(audio, 0);
    let video = sim.video(0b001);
    let mut encoder = encoder(0);
    for seq in [100, 102, 103, 300] {
        sim.put(audio, &opus(seq));
        encoder.frame(false, 150);
        sim.put_all(video, &encoder.frame(false, 1));
        sim.advance(20);
    }
    sim.advance(3000);
    assert!(sim.log.key_frames.is_empty());
    assert_eq!(sim.core.poll_timeout(), None);
}

/// Key frames start this long after they are requested.
const KEY_FRAME_DELAY_MS: u64 = 30;

/// The publisher sends a frame every 10 ms, and a key frame soon after each request. `each` acts in each step.
/// Returns the times of the requests in ms.
fn key_frame_requests(
    sim: &mut Sim,
    track: TrackId,
    ms: u64,
    mut each: impl FnMut(&mut Sim, u64),
) -> Vec<u64> {
    let mut encoder = encoder(0);
    let (mut requests, mut due) = (Vec::new(), None);
    for step in 0..ms / 10 {
        let at = step * 10;
        let key = due.is_some_and(|due| due <= at);
        sim.put_all(track, &encoder.frame(key, 1));
        if key {
            due = None;
        }
        each(sim, at);
        let new = std::mem::take(&mut sim.log.key_frames).len();
        requests.extend(std::iter::repeat_n(at, new));
        if new > 0 {
            due = due.or(Some(at + KEY_FRAME_DELAY_MS));
        }
        sim.advance(10);
    }
    requests
}

#[test]
fn subscribers_that_lose_packets_cause_two_key_frames_per_second_at_most() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let subs: Vec<_> = (0..10).map(|_| sim.subscriber(track, 0)).collect();
    sim.core.feed(track, Layer(0), 5, 50);
    let requests = key_frame_requests(&mut sim, track, 10_000, |sim, at| {
        let sub = subs[(at / 10) as usize % subs.len()];
        sim.core.key_frame_wanted(sim.now, sub, &mut sim.log);
        sim.core.feed_key_frame_wanted(sim.now, track, Layer(0), &mut sim.log);
    });
    assert!((15..=21).contains(&requests.len()), "{} requests in 10 s", requests.len());
    // The first one is that of the first subscribers and of the new feed.
    let gaps = requests[1..].windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap >= 500), "{requests:?}");
}

#[test]
fn a_subscriber_that_has_no_picture_yet_waits_for_no_interval() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    sim.subscriber(track, 0);
    let requests = key_frame_requests(&mut sim, track, 1000, |sim, at| {
        if at == 200 {
            sim.subscriber(track, 0);
        }
    });
    assert_eq!(requests, [0, 200]);
}

#[test]
fn many_subscribers_that_join_share_key_frames() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let requests = key_frame_requests(&mut sim, track, 3000, |sim, _| {
        sim.subscriber(track, 0);
    });
    assert!(requests.len() <= 13, "{} requests for 300 subscribers in 3 s: {requests:?}", requests.len());
}

#[test]
fn without_subscribers_nothing_is_requested() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let frame = encoder(0).frame(true, 5);
    sim.put(track, &frame[0]);
    sim.put(track, &frame[4]);
    sim.advance(3000);
    assert!(sim.log.lost.is_empty() && sim.log.key_frames.is_empty());
    assert_eq!(sim.core.poll_timeout(), None);
}

#[test]
fn key_frames_of_other_codecs_are_recognised() {
    let dependency = |bytes: &'static [u8]| Extensions { dependency: Some(bytes), ..Extensions::default() };
    let none = Extensions::default();
    type Part<'a> = (Extensions<'a>, &'a [u8]);
    let cases: [(Codec, Part<'_>, Part<'_>); 5] = [
        (Codec::H264, (none, &[0x61, 1]), (none, &[0x78, 0, 1, 0x67, 0, 1, 0x68])),
        (Codec::H264, (none, &[0x7C, 0x05, 1]), (none, &[0x67, 1])),
        (Codec::Vp9, (none, &[0xE8, 0x81, 2, 0, 1]), (none, &[0xA8, 0x81, 3, 0, 1])),
        (Codec::Av1, (dependency(&[0x80, 0, 1]), &[0]), (dependency(&[0x80, 0, 2, 0x80, 1]), &[8])),
        (Codec::Av1, (none, &[0, 1]), (none, &[8, 1])),
    ];
    for (codec, (delta_ext, delta), (key_ext, key)) in cases {
        let mut sim = Sim::new(1);
        let track = sim.core.add_track(1, Kind::Video, codec, LayerSet(1));
        let sub = sim.subscriber(track, 0);
        for (seq, ext, payload) in [(10, delta_ext, delta), (11, key_ext, key), (12, delta_ext, delta)] {
            let packet = Packet { codec, seq, timestamp: seq as u32 * 3000, marker: true, ext, payload };
            sim.core.ingest(sim.now, track, Layer(0), &packet, &mut sim.log);
            sim.pull_all();
        }
        let sent = sim.log.of(sub);
        assert_eq!(sent.iter().map(|sent| &*sent.payload).collect::<Vec<_>>(), [key, delta], "{codec:?}");
    }
}

#[test]
fn an_idr_picture_waits_for_parameter_sets_that_may_be_missing() {
    let mut sim = Sim::new(1);
    let track = sim.core.add_track(1, Kind::Video, Codec::H264, LayerSet(1));
    let sub = sim.subscriber(track, 0);
    let put = |sim: &mut Sim, seq, timestamp, payload: &[u8]| {
        let codec = Codec::H264;
        let packet = Packet { codec, seq, timestamp, marker: false, ext: Extensions::default(), payload };
        sim.core.ingest(sim.now, track, Layer(0), &packet, &mut sim.log);
        sim.pull_all();
    };
    put(&mut sim, 10, 1, &[0x61]);
    put(&mut sim, 13, 2, &[0x7C, 0x85, 1]);
    put(&mut sim, 12, 2, &[0x68]);
    assert!(sim.log.of(sub).is_empty());
    put(&mut sim, 11, 2, &[0x67]);
    put(&mut sim, 14, 2, &[0x65]);
    let sent = sim.log.of(sub);
    assert!(continuous(&sent));
    assert_eq!(sent.iter().map(|sent| sent.payload[0]).collect::<Vec<_>>(), [0x67, 0x68, 0x7C, 0x65]);
    assert_eq!(sim.core.track_stats(track).unwrap().layers[0].key_frames, 1);
}

#[test]
fn malformed_packets_and_packets_of_other_codecs_and_layers_are_dropped() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let mut encoder = encoder(0);
    sim.put_all(track, &encoder.frame(true, 1));
    let mut damaged = encoder.padding();
    damaged.payload = vec![0x90, 0x80];
    sim.put(track, &damaged);
    let mut foreign = encoder.frame(false, 1);
    encoder.seq -= 1;
    foreign[0].codec = Codec::H264;
    sim.put_all(track, &foreign);
    for layer in [1, 2, 3, 8, 255] {
        let published = Published { layer: Layer(layer), ..encoder.clone().frame(true, 1).remove(0) };
        sim.put(track, &published);
        sim.core.feed(track, Layer(layer), 1, 1);
        sim.core.feed_key_frame_wanted(sim.now, track, Layer(layer), &mut sim.log);
    }
    sim.put_all(track, &encoder.frame(false, 1));
    assert_eq!(sim.log.of(sub).len(), 2);
    assert!(continuous(&sim.log.of(sub)));
    assert!(sim.log.fed.is_empty());
    assert_eq!(sim.core.track_stats(track).unwrap().layers[0].malformed, 1);
}

#[test]
fn a_sender_report_keeps_the_publishers_clock() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b001);
    let sub = sim.subscriber(track, 0);
    let frame = encoder(0).frame(true, 2);
    sim.put_all(track, &frame);
    assert_eq!(sim.core.sender_info(sim.now, sub), None);
    let report = SenderReport { ntp: 0xAB_0000_0000, timestamp: frame[0].timestamp + 90 };
    sim.core.sender_report(sim.now, track, Layer(0), report, &mut sim.log);
    let sent = sim.log.of(sub);
    let octets = sent.iter().map(|sent| sent.payload.len() as u32).sum();
    let info =
        SenderInfo { ntp: report.ntp, timestamp: sent[0].timestamp.wrapping_add(90), packets: 2, octets };
    assert_eq!(sim.core.sender_info(sim.now, sub), Some(info));
    sim.advance(1500);
    let later = sim.core.sender_info(sim.now, sub).unwrap();
    assert_eq!(later.ntp - info.ntp, 3 << 31);
    assert_eq!(later.timestamp.wrapping_sub(info.timestamp), 135_000);
}

#[test]
fn loudness_is_reported_with_the_group_and_only_when_it_changes() {
    let mut sim = Sim::new(1);
    let loud = sim.core.add_track(4, Kind::Audio, Codec::Opus, LayerSet(1));
    let quiet = sim.core.add_track(5, Kind::Audio, Codec::Opus, LayerSet(1));
    let talk = |sim: &mut Sim, level: u8, from: u64, to: u64| {
        for seq in from..to {
            for (track, level) in [(loud, level), (quiet, 90)] {
                let published = opus(seq);
                let ext = Extensions {
                    audio_level: Some(AudioLevel { level, voice: true }),
                    ..Extensions::default()
                };
                let packet = Packet { ext, ..published.packet() };
                sim.core.ingest(sim.now, track, Layer(0), &packet, &mut sim.log);
            }
            sim.advance(20);
        }
    };
    talk(&mut sim, 10, 100, 200);
    let changes = sim.core.loudness_changes(sim.now);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].group, changes[0].track, changes[0].active), (4, loud, true));
    assert!(changes[0].level > 0.0 && changes[0].level <= 1.0);
    sim.core.set_muted(loud, true);
    sim.advance(2000);
    let changes = sim.core.loudness_changes(sim.now);
    assert_eq!((changes.len(), changes[0].level, changes[0].active), (1, 0.0, false));
    assert!(sim.core.loudness_changes(sim.now).is_empty());
}

#[test]
fn a_removed_track_leaves_no_subscriptions_and_no_feeds() {
    let mut sim = Sim::new(1);
    let track = sim.video(0b111);
    let sub = sim.subscriber(track, 2);
    sim.core.feed(track, Layer(0), 5, 50);
    sim.core.remove_track(track);
    assert!(sim.core.subscription_stats(sub).is_none());
    assert!(sim.core.track_stats(track).is_none());
    assert_eq!(sim.core.subscribe(track), None);
    let other = sim.video(0b001);
    assert_eq!(other.index(), track.index());
    sim.core.feed(other, Layer(0), 5, 50);
    sim.core.unsubscribe(sub);
    sim.put_all(track, &encoder(0).frame(true, 1));
    sim.advance(5000);
    assert!(sim.log.sent.is_empty() && sim.log.fed.is_empty());
    sim.put_all(other, &encoder(0).frame(true, 1));
    assert_eq!(sim.log.fed.len(), 1);
}
