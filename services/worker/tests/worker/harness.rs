//! A running worker on loopback, and the commands of a test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use str0m::media::MediaKind;
use systir_forwarding::ThreadNotifier;
use systir_media_control::{
    CaptureSource, Downtrack, IceCredentials, ParticipantKey, ReceiveCodec, ReceiveSection, RoomNumber, Side,
    TrackKey, TrackSource, TrackSpec, WorkerCommand, WorkerEvent,
};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};
use systir_transport::Certificate;
use systir_worker::{Ring, Worker, WorkerConfig, WorkerCounts, WorkerHandle, WorkerMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, TIMEOUT, publisher_ids};

#[path = "vp8.rs"]
mod vp8;
pub(crate) use vp8::vp8;

pub(crate) const ROOM: RoomNumber = RoomNumber(1);
pub(crate) const VOICE: TrackKey = TrackKey(10);
pub(crate) const CAMERA: TrackKey = TrackKey(11);
pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];

pub(crate) struct Harness {
    pub(crate) worker: WorkerHandle,
    pub(crate) server: SocketAddr,
    pub(crate) fingerprint: [u8; 32],
    events: mpsc::Receiver<WorkerEvent>,
    received: Vec<WorkerEvent>,
}

impl Harness {
    pub(crate) fn new() -> Self {
        let notifier = ThreadNotifier::new();
        Self::with(notifier, None)
    }

    pub(crate) fn with(notifier: ThreadNotifier, links: Option<Ring>) -> Self {
        Self::on(vec![UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()], notifier, links)
    }

    /// A worker that advertises the addresses of these sockets.
    pub(crate) fn on(sockets: Vec<UdpSocket>, notifier: ThreadNotifier, links: Option<Ring>) -> Self {
        let advertised: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let server = advertised[0];
        let certificate = Certificate::generate().unwrap();
        let fingerprint = certificate.fingerprint();
        let worker = Worker::spawn(WorkerConfig {
            index: 0,
            sockets,
            advertised,
            certificate,
            notifier,
            links,
            seed: 7,
            stop: CancellationToken::new(),
        })
        .unwrap();
        let (sender, events) = mpsc::channel(64);
        let harness = Self { worker, server, fingerprint, events, received: Vec::new() };
        let open = WorkerMessage::OpenRoom { room: ROOM, events: sender };
        harness.worker.commands.blocking_send(open).unwrap();
        harness
    }

    pub(crate) fn command(&self, command: WorkerCommand) {
        self.worker.commands.blocking_send(command.into()).unwrap();
    }

    pub(crate) fn counts(&self) -> WorkerCounts {
        self.worker.stats.counts()
    }

    /// All events so far, except those that were taken.
    pub(crate) fn events(&mut self) -> &[WorkerEvent] {
        while let Ok(event) = self.events.try_recv() {
            self.received.push(event);
        }
        &self.received
    }

    /// Takes all events so far.
    pub(crate) fn take(&mut self) -> Vec<WorkerEvent> {
        self.events();
        std::mem::take(&mut self.received)
    }

    #[track_caller]
    pub(crate) fn wait_counts(&self, what: &str, done: impl Fn(&WorkerCounts) -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !done(&self.counts()) {
            assert!(Instant::now() < end, "timed out: {what}: {:?}", self.counts());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn credentials(&self, side: &str, key: u64) -> IceCredentials {
        IceCredentials {
            ufrag: format!("s1n1w0{side}{key}"),
            pwd: format!("password-of-{side}-{key}-long-enough"),
        }
    }

    /// Adds a participant. Returns its two clients; the worker does not have their descriptions yet.
    pub(crate) fn add_participant(&self, key: u64) -> [(Side, Client); 2] {
        let (publisher, subscriber) = (self.credentials("p", key), self.credentials("s", key));
        self.command(WorkerCommand::Join {
            room: ROOM,
            participant: ParticipantKey(key),
            publisher: publisher.clone(),
            subscriber: subscriber.clone(),
        });
        [
            (Side::Publisher, Client::publisher(self.server, &publisher, self.fingerprint)),
            (Side::Subscriber, Client::subscriber(self.server, &subscriber, self.fingerprint)),
        ]
    }

    /// Adds a participant; returns its publishing client, whose description is not set.
    pub(crate) fn join_undescribed(&self, key: u64) -> Client {
        let [(_, publisher), _] = self.add_participant(key);
        publisher
    }

    /// Adds a participant; returns its two clients.
    pub(crate) fn join(&self, key: u64) -> (Client, Client) {
        let participant = ParticipantKey(key);
        let [publisher, subscriber] = self.add_participant(key).map(|(side, mut client)| {
            self.command(WorkerCommand::Remote { participant, side, remote: client.remote() });
            client
        });
        (publisher, subscriber)
    }

    /// Adds a participant; returns its subscribing client, which uses TCP.
    pub(crate) fn join_over_tcp(&self, key: u64, address: SocketAddr) -> Client {
        let participant = ParticipantKey(key);
        self.add_participant(key);
        let ours = self.credentials("s", key);
        let mut client = Client::subscriber_over_tcp(address, &ours, self.fingerprint);
        self.command(WorkerCommand::Remote { participant, side: Side::Subscriber, remote: client.remote() });
        client
    }

    /// The participant publishes voice, and a camera with three layers.
    pub(crate) fn publish(&self, key: u64, client: &mut Client) {
        let participant = ParticipantKey(key);
        let layers = LayerSet::NONE.with(Layer(0)).with(Layer(1)).with(Layer(2));
        let specs = [
            (
                VOICE,
                TrackSpec { kind: Kind::Audio, codec: Codec::Opus, layers: LayerSet::NONE.with(Layer(0)) },
            ),
            (CAMERA, TrackSpec { kind: Kind::Video, codec: Codec::Vp8, layers }),
        ];
        for (track, spec) in specs {
            self.command(WorkerCommand::AddTrack {
                room: ROOM,
                track,
                spec,
                source: TrackSource::Participant(participant),
                publisher: "PA_alice".into(),
            });
        }
        let section = |mid: &str, track, codec, pt, rtx_pt| ReceiveSection {
            mid: mid.into(),
            track: Some(track),
            codecs: vec![ReceiveCodec { pt, codec, rtx_pt, nack: true }],
            extensions: publisher_ids(),
            rids: Vec::new(),
            ssrcs: Vec::new(),
        };
        let mut camera = section("1", CAMERA, Codec::Vp8, 96, Some(97));
        camera.rids = RIDS.iter().zip(0..).map(|(rid, layer)| ((*rid).to_owned(), Layer(layer))).collect();
        let sections = vec![section("0", VOICE, Codec::Opus, 111, None), camera];
        self.command(WorkerCommand::Receive { participant, sections });
        client.send_stream("0", MediaKind::Audio, 1000, None, None);
        for (rid, number) in RIDS.iter().zip(0..) {
            client.send_stream("1", MediaKind::Video, 2000 + number, Some(3000 + number), Some(*rid));
        }
    }

    /// The participant subscribes to voice and camera.
    pub(crate) fn subscribe(&self, key: u64, client: &mut Client) {
        self.subscribe_with(key, client, Some((7000, 97)));
    }

    /// The participant subscribes to voice and camera. `rtx`: SSRC and payload type of the camera's RTX stream.
    pub(crate) fn subscribe_with(&self, key: u64, client: &mut Client, rtx: Option<(u32, u8)>) {
        let participant = ParticipantKey(key);
        client.expect_stream("0", MediaKind::Audio, 5000, None);
        client.expect_stream("1", MediaKind::Video, 6000, rtx.map(|(ssrc, _)| ssrc));
        let downtracks = [
            Downtrack {
                track: VOICE,
                source: CaptureSource::Microphone,
                mid: "0".into(),
                ssrc: 5000,
                rtx_ssrc: None,
                pt: 111,
                rtx_pt: None,
                transport_cc: false,
                opus_pt: None,
            },
            Downtrack {
                track: CAMERA,
                source: CaptureSource::Camera,
                mid: "1".into(),
                ssrc: 6000,
                rtx_ssrc: rtx.map(|(ssrc, _)| ssrc),
                pt: 96,
                rtx_pt: rtx.map(|(_, pt)| pt),
                transport_cc: false,
                opus_pt: None,
            },
        ];
        for downtrack in downtracks {
            self.command(WorkerCommand::Subscribe { participant, downtrack });
        }
    }
}

/// Sends one voice packet and one frame of each camera layer per step.
#[derive(Default)]
pub(crate) struct Camera {
    step: u64,
    key_frame_requests: usize,
    /// Layers that are turned off, as a bit mask.
    pub(crate) off: u8,
    /// Does the last packet of a frame have one byte more? Encoders split frames so.
    pub(crate) is_uneven: bool,
    /// Packets sent so far, by layer.
    sent: [u64; 3],
}

pub(crate) const FRAME: usize = 3;

impl Camera {
    /// Sends one step; with key frames in the first step and after each request.
    pub(crate) fn step(&mut self, client: &mut Client) {
        self.step += 1;
        let step = self.step;
        client.write(1000, 111, step, step as u32 * 960, false, vec![0xAA; 80]);
        let requests: usize = RIDS.iter().map(|rid| client.key_frame_requests(Some(rid))).sum();
        let key = step == 1 || requests > self.key_frame_requests;
        self.key_frame_requests = requests;
        for layer in (0..3_u32).filter(|layer| self.off >> layer & 1 == 0) {
            for part in 0..FRAME {
                self.sent[layer as usize] += 1;
                let seq = self.sent[layer as usize];
                let last = part == FRAME - 1;
                let bytes = if last && self.is_uneven { 401 } else { 400 };
                // The bytes name the layer.
                let payload = vp8(step as u16, part == 0, key, bytes, layer as u8);
                client.write(2000 + layer, 96, seq, step as u32 * 3000, last, payload);
            }
        }
    }
}
