use std::time::Duration;

use systir_media_control::{
    Downtrack, IceCredentials, ParticipantKey, RoomNumber, TrackDemand, TrackSource, TrackSpec, WorkerCommand,
};
use systir_rtp::packet::{Codec, Extensions, Layer, LayerSet, Packet};
use systir_transport::Certificate;
use tokio::sync::mpsc;

use super::*;
use crate::WorkerMessage;
use crate::engine::{EngineConfig, ingest};
use crate::links::Links;

#[test]
fn priority_one_goes_first_then_two_then_those_who_speak() {
    let order = [(1, false), (2, true), (u32::MAX, false), (0, true), (0, false)];
    let ranked = order.map(|(priority, speaks)| importance(priority, speaks));
    assert!(ranked.windows(2).all(|pair| pair[0] > pair[1]), "{ranked:?}");
}

const ROOM: RoomNumber = RoomNumber(1);
const ALICE: ParticipantKey = ParticipantKey(1);
const BOB: ParticipantKey = ParticipantKey(2);
const ALL: u8 = 0b111;
const FRAME: Duration = Duration::from_millis(20);
/// Bytes of a frame of each layer: 90, 190 and 350 kbit/s.
const FRAMES: [usize; 3] = [150, 400, 800];

/// Alice's tracks, which bob receives, in simulated time. His client reports its own estimate.
struct Call {
    engine: Engine,
    now: Instant,
    /// Frames so far.
    frames: u64,
    tracks: Vec<TrackKey>,
    bob: usize,
    estimate: u64,
    /// Does the worker do nothing but receive?
    is_stuck: bool,
    _events: mpsc::Receiver<WorkerEvent>,
}

impl Call {
    fn new(tracks: u64, source: CaptureSource) -> Self {
        let now = Instant::now();
        let config = EngineConfig {
            advertised: Vec::new(),
            certificate: Certificate::generate().unwrap(),
            links: Links::default(),
            seed: 1,
        };
        let mut engine = Engine::new(config, now);
        let (sender, events) = mpsc::channel(64);
        engine.handle_message(now, WorkerMessage::OpenRoom { room: ROOM, events: sender });
        for participant in [ALICE, BOB] {
            let credentials = |side: &str| IceCredentials {
                ufrag: format!("{side}{}", participant.0),
                pwd: "a-password-that-is-long-enough".into(),
            };
            let (publisher, subscriber) = (credentials("p"), credentials("s"));
            engine.command(now, WorkerCommand::Join { room: ROOM, participant, publisher, subscriber });
        }
        let bob = engine.participants[&BOB].subscriber;
        let tracks: Vec<_> = (1..=tracks).map(TrackKey).collect();
        let (frames, estimate, is_stuck) = (0, 10_000_000, false);
        let mut call = Self { engine, now, frames, tracks, bob, estimate, is_stuck, _events: events };
        call.connect();
        for track in call.tracks.clone() {
            let spec = TrackSpec { kind: Kind::Video, codec: Codec::Vp8, layers: LayerSet(ALL) };
            let (source_of, publisher) = (TrackSource::Participant(ALICE), "PA_alice".into());
            let added = WorkerCommand::AddTrack { room: ROOM, track, spec, source: source_of, publisher };
            call.engine.command(now, added);
            let downtrack = Downtrack {
                track,
                source,
                mid: "1".into(),
                ssrc: 6000 + track.0 as u32,
                rtx_ssrc: None,
                pt: 96,
                rtx_pt: None,
                transport_cc: false,
                opus_pt: None,
            };
            call.engine.command(now, WorkerCommand::Subscribe { participant: BOB, downtrack });
        }
        call
    }

    /// No client is there, so it is connected by decree.
    fn connect(&mut self) {
        self.engine.egress.connections[self.bob].connected = true;
    }

    /// A frame of these layers of each track is sent, and what is due is done.
    fn step(&mut self, layers: u8) {
        self.now += FRAME;
        let now = self.now;
        self.frames += u64::from(layers != 0);
        for track in self.tracks.clone() {
            let id = self.engine.tracks[&track];
            for layer in LayerSet(layers).iter() {
                // A key frame each second.
                let mut payload = vec![0x10, u8::from(!self.frames.is_multiple_of(50)), 0, 0, 0x9D, 1, 0x2A];
                payload.resize(FRAMES[usize::from(layer.0)], 0);
                let packet = Packet {
                    codec: Codec::Vp8,
                    seq: self.frames,
                    timestamp: self.frames as u32 * 1800,
                    marker: true,
                    ext: Extensions::default(),
                    payload: &payload,
                };
                ingest(now, &mut self.engine.core, &mut self.engine.egress, id, layer, &packet);
            }
        }
        self.connect();
        if self.is_stuck {
            return;
        }
        if let Some(control) = self.engine.egress.send_control(self.bob) {
            control.remb(now, self.estimate);
        }
        self.engine.timeout(now);
        self.engine.finish_turn(now);
        while self.engine.poll_outgoing(now, |_| false).is_some() {}
    }

    fn run(&mut self, seconds: u64, layers: u8) {
        for _ in 0..seconds * 50 {
            self.step(layers);
        }
    }

    fn targets(&self) -> Vec<Option<Layer>> {
        let downtracks = &self.engine.participants[&BOB].downtracks;
        let stats = self.tracks.iter().map(|track| self.engine.core.subscription_stats(downtracks[track]));
        stats.map(|stats| stats.unwrap().target).collect()
    }

    /// The layer that is sent of the first track, and how often that changed.
    fn current(&self) -> (Option<Layer>, u64) {
        let sub = self.engine.participants[&BOB].downtracks[&self.tracks[0]];
        let stats = self.engine.core.subscription_stats(sub).unwrap();
        (stats.current, stats.switches)
    }

    fn demand(&mut self, layer: u8) {
        let demand = TrackDemand { layer: Some(Layer(layer)), ..TrackDemand::HIGHEST };
        for track in self.tracks.clone() {
            self.engine.command(self.now, WorkerCommand::Demand { participant: BOB, track, demand });
        }
    }
}

#[test]
fn a_screen_share_that_stands_still_keeps_its_layer() {
    let mut call = Call::new(1, CaptureSource::ScreenShare);
    call.run(3, ALL);
    let before = call.current();
    assert_eq!(before.0, Some(Layer(2)));
    for _ in 0..10 * 50 {
        call.step(0);
        assert_eq!(call.targets(), [Some(Layer(2))], "nothing arrives, and nothing is missing");
    }
    call.run(1, ALL);
    assert_eq!(call.current(), before);
    // Of a layer that ends while others arrive, a lower one is sent.
    call.run(4, 0b011);
    assert_eq!(call.current().0, Some(Layer(1)));
}

#[test]
fn several_tracks_are_raised_at_once_only_until_the_path_was_too_slow() {
    let mut call = Call::new(4, CaptureSource::Camera);
    let raised = |before: &[Option<Layer>], after: &[Option<Layer>]| {
        before.iter().zip(after).filter(|(before, after)| after > before).count()
    };
    call.step(ALL);
    let lowest = [Some(Layer(0)); 4];
    assert!(raised(&lowest, &call.targets()) > 1, "{:?}", call.targets());
    call.run(10, ALL);
    assert_eq!(call.targets(), [Some(Layer(2)); 4]);
    call.estimate = 400_000;
    call.run(1, ALL);
    assert_eq!(call.targets(), lowest);
    call.estimate = 10_000_000;
    call.run(60, ALL);
    assert_eq!(call.targets(), [Some(Layer(2)); 4], "the path has carried it");
    call.demand(0);
    call.run(2, ALL);
    assert_eq!(call.targets(), lowest);
    call.demand(2);
    for _ in 0..10 * 50 {
        let before = call.targets();
        call.step(ALL);
        let count = raised(&before, &call.targets());
        assert!(count <= 1, "{before:?} {:?}", call.targets());
    }
    assert_eq!(call.targets(), [Some(Layer(2)); 4]);
}

#[test]
fn estimates_and_packets_that_waited_too_long_are_counted() {
    let mut call = Call::new(1, CaptureSource::Camera);
    call.run(1, ALL);
    let counts = call.engine.counts();
    assert_eq!((counts.estimates, counts.estimates_below_1_mbit, counts.media_expired), (1, 0, 0));
    call.estimate = 400_000;
    call.run(1, ALL);
    let counts = call.engine.counts();
    let below =
        [counts.estimates_below_300_kbit, counts.estimates_below_1_mbit, counts.estimates_below_3_mbit];
    assert_eq!((counts.estimates, below), (1, [0, 1, 1]));
    call.is_stuck = true;
    call.run(3, ALL);
    call.is_stuck = false;
    call.step(ALL);
    assert!(call.engine.counts().media_expired > 50, "{:?}", call.engine.counts());
    call.engine.command(call.now, WorkerCommand::Leave { participant: BOB });
    assert_eq!(call.engine.counts().estimates, 0);
}
