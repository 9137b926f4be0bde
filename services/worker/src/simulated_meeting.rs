//! A meeting in simulated time, for tests: an engine and clients without sockets. One participant publishes a voice, and
//! a camera or not; others subscribe to both and report on each packet of video, as browsers do.

mod client;
#[path = "../tests/worker/vp8.rs"]
mod vp8;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use str0m::media::MediaKind;
use systir_media_control::{
    CaptureSource, Downtrack, IceCredentials, ParticipantKey, ReceiveCodec, ReceiveSection, RoomNumber, Side,
    TrackKey, TrackSource, TrackSpec, WorkerCommand, WorkerEvent,
};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};
use systir_transport::Certificate;
use tokio::sync::mpsc;

use crate::WorkerMessage;
use crate::engine::{Engine, EngineConfig};
use crate::links::Links;
use crate::send_queue::{Datagrams, Route};
use client::{Client, publisher_ids};
use vp8::vp8;

const ROOM: RoomNumber = RoomNumber(1);
const VOICE: TrackKey = TrackKey(10);
const CAMERA: TrackKey = TrackKey(11);
const PUBLISHER: u64 = 1;
/// Of a step.
const STEP: Duration = Duration::from_millis(1);
/// Milliseconds.
const VOICE_INTERVAL: u64 = 20;
const FRAME_INTERVAL: u64 = 33;
/// Packets of a frame: 1.5 Mbit/s.
const FRAME: u64 = 6;
const PAYLOAD: usize = 1_050;

#[test]
fn forged_addresses_of_checks_take_no_packets_of_others() {
    let mut meeting = SimulatedMeeting::new(2, true);
    meeting.received_in(6_000);
    let before = meeting.engine.counts();
    meeting.forger = Some((0, 1));
    let received = meeting.received_in(10_000);
    let after = meeting.engine.counts();
    assert_eq!(after.unauthentic, before.unauthentic, "all feedback reaches its own connection");
    assert!(received[1] > 2_000, "{received:?}");
}

/// A datagram that a client sent.
type Inbound = (SocketAddr, Vec<u8>);

pub(crate) struct SimulatedMeeting {
    pub(crate) engine: Engine,
    has_camera: bool,
    /// A socket that takes nothing. Participants with even keys use socket 0, the others socket 1.
    pub(crate) full_socket: Option<usize>,
    /// The checks of the first of these subscribers claim to come from the address of the second.
    pub(crate) forger: Option<(usize, usize)>,
    publisher: Client,
    subscribers: Vec<Client>,
    now: Instant,
    millisecond: u64,
    frames: u64,
    voices: u64,
    server: SocketAddr,
    inbound: Vec<Inbound>,
    outbound: Vec<(Route, Datagrams)>,
    // Events that nobody reads would wait in the engine.
    events: mpsc::Receiver<WorkerEvent>,
}

impl SimulatedMeeting {
    /// All participants are connected and receive media.
    pub(crate) fn new(subscribers: u64, has_camera: bool) -> Self {
        let now = Instant::now();
        let server = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 7882));
        let certificate = Certificate::generate().unwrap();
        let fingerprint = certificate.fingerprint();
        let config = EngineConfig { advertised: vec![server], certificate, links: Links::default(), seed: 7 };
        let (events, received) = mpsc::channel(1024);
        let mut engine = Engine::new(config, now);
        engine.handle_message(now, WorkerMessage::OpenRoom { room: ROOM, events });
        let mut publishing = None;
        let mut subscribing = Vec::new();
        for key in PUBLISHER..=PUBLISHER + subscribers {
            let [ours, theirs] = ["p", "s"].map(|side| IceCredentials {
                ufrag: format!("{side}{key}"),
                pwd: format!("password-of-{side}{key}-long-enough"),
            });
            let participant = ParticipantKey(key);
            engine.command(
                now,
                WorkerCommand::Join {
                    room: ROOM,
                    participant,
                    publisher: ours.clone(),
                    subscriber: theirs.clone(),
                },
            );
            let (side, credentials) =
                if key == PUBLISHER { (Side::Publisher, ours) } else { (Side::Subscriber, theirs) };
            let address = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 10_000 + key as u16));
            let mut client = Client::new(now, side, address, server, &credentials, fingerprint);
            engine.command(now, WorkerCommand::Remote { participant, side, remote: client.remote() });
            if side == Side::Publisher {
                publish(&mut engine, now, &mut client);
                publishing = Some(client);
            } else {
                subscribe(&mut engine, now, participant, &mut client);
                subscribing.push(client);
            }
        }
        let mut meeting = Self {
            engine,
            has_camera,
            full_socket: None,
            forger: None,
            publisher: publishing.unwrap(),
            subscribers: subscribing,
            now,
            millisecond: 0,
            frames: 0,
            voices: 0,
            server,
            inbound: Vec::new(),
            outbound: Vec::with_capacity(1024),
            events: received,
        };
        let connected =
            |meeting: &mut Self| meeting.subscribers.iter_mut().all(|client| client.rtc.is_connected());
        while !(connected(&mut meeting) && meeting.publisher.rtc.is_connected()) {
            assert!(meeting.millisecond < 10_000, "the clients do not connect");
            meeting.step(&mut |turn| turn());
        }
        meeting
    }

    /// A millisecond passes. `measure` calls the engine's part of it.
    pub(crate) fn step(&mut self, measure: &mut dyn FnMut(&mut dyn FnMut())) {
        self.millisecond += 1;
        self.now += STEP;
        if self.publisher.rtc.is_connected() {
            self.send_media();
        }
        for client in self.subscribers.iter_mut().chain([&mut self.publisher]) {
            client.poll(self.now, &mut self.inbound);
        }
        if let Some((forger, victim)) = self.forger {
            let [own, claimed] = [forger, victim].map(|index| self.subscribers[index].address);
            for (from, datagram) in &mut self.inbound {
                // A binding request (RFC 8489 section 6).
                if *from == own && datagram.starts_with(&[0, 1]) {
                    *from = claimed;
                }
            }
        }
        let Self { engine, inbound, outbound, now, server, full_socket, .. } = self;
        measure(&mut || turn(engine, *now, *server, *full_socket, inbound, outbound));
        inbound.clear();
        for (route, datagrams) in self.outbound.drain(..) {
            let port = usize::from(route.to.port()) - 10_000;
            let mut to = match port as u64 {
                PUBLISHER => Some(&mut self.publisher),
                _ => self.subscribers.get_mut(port - PUBLISHER as usize - 1),
            };
            for datagram in datagrams.iter() {
                to.as_deref_mut().unwrap().receive(self.now, self.server, datagram);
            }
            self.engine.egress.buffers.queue.recycle(datagrams);
        }
        while self.events.try_recv().is_ok() {}
    }

    /// Milliseconds pass. Returns how many media packets each subscriber receives in them.
    pub(crate) fn received_in(&mut self, milliseconds: u64) -> Vec<u64> {
        let packets =
            |meeting: &Self| meeting.subscribers.iter().map(|client| client.packets).collect::<Vec<_>>();
        let before = packets(self);
        for _ in 0..milliseconds {
            self.step(&mut |turn| turn());
        }
        before.iter().zip(packets(self)).map(|(before, after)| after - before).collect()
    }

    fn send_media(&mut self) {
        if self.millisecond.is_multiple_of(VOICE_INTERVAL) {
            self.voices += 1;
            let number = self.voices;
            self.publisher.write(self.now, 1000, 111, number, number as u32 * 960, false, vec![0xAA; 120]);
        }
        if self.has_camera && self.millisecond.is_multiple_of(FRAME_INTERVAL) {
            let number = self.frames;
            self.frames += 1;
            for part in 0..FRAME {
                let (seq, last) = (number * FRAME + part, part + 1 == FRAME);
                let payload = vp8(number as u16, part == 0, number.is_multiple_of(150), PAYLOAD, 7);
                self.publisher.write(self.now, 2000, 96, seq, number as u32 * 3000, last, payload);
            }
        }
    }
}

/// What a worker's thread does between two system calls.
#[inline(never)]
fn turn(
    engine: &mut Engine,
    now: Instant,
    server: SocketAddr,
    full_socket: Option<usize>,
    inbound: &mut [Inbound],
    outbound: &mut Vec<(Route, Datagrams)>,
) {
    for (from, datagram) in inbound {
        engine.datagram(now, usize::from(from.port() % 2), *from, Some(server.ip()), datagram);
    }
    engine.timeout(now);
    engine.finish_turn(now);
    while let Some(next) = engine.poll_outgoing(now, |socket| full_socket == Some(socket)) {
        outbound.push(next);
    }
}

fn publish(engine: &mut Engine, now: Instant, client: &mut Client) {
    let participant = ParticipantKey(PUBLISHER);
    let mut sections = Vec::new();
    for (mid, track, kind, codec, pt) in
        [("0", VOICE, Kind::Audio, Codec::Opus, 111), ("1", CAMERA, Kind::Video, Codec::Vp8, 96)]
    {
        engine.command(
            now,
            WorkerCommand::AddTrack {
                room: ROOM,
                track,
                spec: TrackSpec { kind, codec, layers: LayerSet::NONE.with(Layer(0)) },
                source: TrackSource::Participant(participant),
                publisher: "PA_alice".into(),
            },
        );
        sections.push(ReceiveSection {
            mid: mid.into(),
            track: Some(track),
            codecs: vec![ReceiveCodec { pt, codec, rtx_pt: None, nack: true }],
            extensions: publisher_ids(),
            rids: Vec::new(),
            ssrcs: Vec::new(),
        });
    }
    engine.command(now, WorkerCommand::Receive { participant, sections });
    client.send_stream("0", MediaKind::Audio, 1000);
    client.send_stream("1", MediaKind::Video, 2000);
}

fn subscribe(engine: &mut Engine, now: Instant, participant: ParticipantKey, client: &mut Client) {
    client.expect_stream("0", MediaKind::Audio, 5000, None);
    client.expect_stream("1", MediaKind::Video, 6000, Some(7000));
    for (mid, track, ssrc, pt) in [("0", VOICE, 5000, 111), ("1", CAMERA, 6000, 96)] {
        let is_video = track == CAMERA;
        let downtrack = Downtrack {
            track,
            source: if is_video { CaptureSource::Camera } else { CaptureSource::Microphone },
            mid: mid.into(),
            ssrc,
            rtx_ssrc: is_video.then_some(7000),
            pt,
            rtx_pt: is_video.then_some(97),
            transport_cc: is_video,
            opus_pt: None,
        };
        engine.command(now, WorkerCommand::Subscribe { participant, downtrack });
    }
}
