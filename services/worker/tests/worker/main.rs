//! A worker thread on a loopback socket, with str0m clients. The tests send commands in place of signalling.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod bandwidth;
mod client;
mod closed_flows;
mod dynacast;
mod harness;
mod red;
mod reliable_data;
mod system_calls;
mod tcp;
mod without_rtx;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Client, run_until};
use harness::{CAMERA, Camera, Harness, ROOM, VOICE};
use systir_forwarding::ThreadNotifier;
use systir_forwarding::batch::batch_ring;
use systir_media_control::{
    DataChannel, ParticipantKey, Side, TrackDemand, TrackKey, TrackSource, TrackSpec, WorkerCommand,
    WorkerEvent,
};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};
use systir_transport::Certificate;
use systir_worker::{Ring, Worker, WorkerConfig};
use tokio_util::sync::CancellationToken;

const ALICE: u64 = 1;
const BOB: u64 = 2;
const CAROL: u64 = 3;

fn connected(harness: &mut Harness, key: u64, side: Side) -> bool {
    harness.events().iter().any(
        |event| matches!(event, WorkerEvent::Connected { participant, side: of } if participant.0 == key && *of == side),
    )
}

#[track_caller]
fn connect(harness: &mut Harness, clients: &mut [&mut Client], who: &[(u64, Side)]) {
    run_until(clients, "connections", |_| who.iter().all(|(key, side)| connected(harness, *key, *side)));
}

/// Bob asks for this layer of the camera.
fn demand(harness: &Harness, layer: Option<Layer>) {
    let demand = TrackDemand { layer, ..TrackDemand::HIGHEST };
    let command = WorkerCommand::Demand { participant: ParticipantKey(BOB), track: CAMERA, demand };
    harness.command(command);
}

/// The first client sends voice and video; runs the clients until `done`.
#[track_caller]
fn send_until(clients: &mut [&mut Client], what: &str, mut done: impl FnMut(&mut [&mut Client]) -> bool) {
    let mut camera = Camera::default();
    let mut next = Instant::now();
    run_until(clients, what, |clients| {
        if Instant::now() >= next {
            next = Instant::now() + Duration::from_millis(20);
            camera.step(clients[0]);
        }
        done(clients)
    });
}

fn meet() -> (Harness, Client, Client) {
    let mut harness = Harness::new();
    let (mut alice, _) = harness.join(ALICE);
    let (_, mut bob) = harness.join(BOB);
    harness.publish(ALICE, &mut alice);
    harness.subscribe(BOB, &mut bob);
    let who = [(ALICE, Side::Publisher), (BOB, Side::Subscriber)];
    connect(&mut harness, &mut [&mut alice, &mut bob], &who);
    (harness, alice, bob)
}

fn layer_of(payload: &[u8]) -> Option<u8> {
    payload.last().copied()
}

#[test]
fn voice_and_camera_reach_the_subscriber_in_the_highest_layer() {
    let (harness, mut alice, mut bob) = meet();
    send_until(&mut [&mut alice, &mut bob], "voice and the highest layer", |clients| {
        let camera = clients[1].packets(6000);
        let highest = camera.iter().filter(|packet| layer_of(&packet.payload) == Some(2)).count();
        clients[1].packets(5000).len() >= 20 && highest >= 20
    });
    for packet in bob.packets(5000) {
        assert_eq!(&packet.payload[..], &[0xAA; 80]);
        assert_eq!(packet.header.ext_vals.audio_level, Some(-20));
        assert_eq!(packet.header.ext_vals.voice_activity, Some(true));
    }
    let camera = bob.packets(6000);
    assert_eq!(camera[0].payload[4] & 1, 0, "the first packet is of a key frame");
    assert_eq!(camera[0].header.ext_vals.mid, Some("1".into()), "the first packets carry the mid");
    for pair in camera.windows(2) {
        assert_eq!(*pair[1].seq_no, *pair[0].seq_no + 1, "sequence numbers are contiguous");
    }
    harness.wait_counts("counters", |counts| counts.media_out >= 40 && counts.participants == 2);
    let counts = harness.counts();
    assert_eq!((counts.tracks, counts.downtracks), (2, 2));
    assert_eq!((counts.unauthentic, counts.media_unmatched, counts.send_dropped), (0, 0, 0), "{counts:?}");
    assert!(harness.worker.join());
}

#[test]
fn clients_of_both_address_families_share_a_worker() {
    let sockets = ["[::1]:0", "127.0.0.1:0"].map(|address| UdpSocket::bind(address).unwrap());
    let addresses = [&sockets[0], &sockets[1]].map(|socket| socket.local_addr().unwrap());
    let notifier = ThreadNotifier::new();
    let mut harness = Harness::on(sockets.into(), notifier, None);
    let (mut alice, _) = harness.join(ALICE);
    harness.server = addresses[1];
    let (_, mut bob) = harness.join(BOB);
    harness.publish(ALICE, &mut alice);
    harness.subscribe(BOB, &mut bob);
    connect(&mut harness, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher), (BOB, Side::Subscriber)]);
    send_until(&mut [&mut alice, &mut bob], "voice and camera across families", |clients| {
        clients[1].packets(5000).len() >= 20 && clients[1].packets(6000).len() >= 20
    });
    assert_eq!(harness.counts().datagrams_rejected, 0, "{:?}", harness.counts());
}

#[test]
fn dual_stack_socket_is_refused() {
    let notifier = ThreadNotifier::new();
    let config = WorkerConfig {
        index: 0,
        sockets: vec![UdpSocket::bind("[::]:0").unwrap()],
        advertised: vec!["127.0.0.1:7882".parse().unwrap()],
        certificate: Certificate::generate().unwrap(),
        notifier,
        links: None,
        seed: 7,
        stop: CancellationToken::new(),
    };
    assert!(Worker::spawn(config).unwrap_err().to_string().contains("use one socket for each family"));
}

#[test]
fn target_layer_lowers_and_pauses_video() {
    let (harness, mut alice, mut bob) = meet();
    let target = |layer| demand(&harness, layer);
    target(Some(Layer(0)));
    send_until(&mut [&mut alice, &mut bob], "the lowest layer", |clients| {
        clients[1].packets(6000).iter().filter(|packet| layer_of(&packet.payload) == Some(0)).count() >= 30
    });
    target(None);
    // Video is paused once voice that was sent later arrives without video.
    let mut before = (0, 0);
    send_until(&mut [&mut alice, &mut bob], "voice without video", |clients| {
        let (voice, camera) = (clients[1].packets(5000).len(), clients[1].packets(6000).len());
        if camera != before.1 {
            before = (voice, camera);
        }
        voice >= before.0 + 10
    });
}

#[test]
fn lost_packet_is_retransmitted() {
    let (harness, mut alice, mut bob) = meet();
    let (mut seen, mut lost) = (0, None);
    let (lost_sender, lost_receiver) = std::sync::mpsc::channel();
    bob.lose(move |bytes| {
        let is_camera = bytes.len() > 12 && bytes[0] >> 6 == 2 && bytes[1] & 0x7F == 96;
        seen += usize::from(is_camera);
        if is_camera && seen == 15 && lost.is_none() {
            let seq = u16::from_be_bytes([bytes[2], bytes[3]]);
            lost = Some(seq);
            lost_sender.send(seq).unwrap();
            return true;
        }
        false
    });
    let mut missing = None;
    send_until(&mut [&mut alice, &mut bob], "the lost packet", |clients| {
        missing = missing.or_else(|| lost_receiver.try_recv().ok());
        let camera = clients[1].packets(6000);
        missing.is_some_and(|seq| camera.iter().any(|packet| packet.header.sequence_number == seq))
    });
    harness.wait_counts("a retransmission", |counts| counts.nacked >= 1 && counts.retransmitted >= 1);
}

#[test]
fn key_frame_request_of_a_subscriber_reaches_the_publisher() {
    let (harness, mut alice, mut bob) = meet();
    send_until(&mut [&mut alice, &mut bob], "video of the highest layer", |clients| {
        clients[1].packets(6000).iter().filter(|packet| layer_of(&packet.payload) == Some(2)).count() >= 10
    });
    let before = alice.key_frame_requests(Some("f"));
    let requests_before = harness.counts().key_frame_requests_in;
    bob.request_key_frame(6000);
    send_until(&mut [&mut alice, &mut bob], "a request for the layer", |clients| {
        clients[0].key_frame_requests(Some("f")) > before
    });
    harness.wait_counts("the request", |counts| counts.key_frame_requests_in > requests_before);
}

#[test]
fn publishers_get_receiver_reports_and_subscribers_sender_reports() {
    let (_bench, mut alice, mut bob) = meet();
    send_until(&mut [&mut alice, &mut bob], "sender reports on both streams", |clients| {
        [5000, 6000]
            .into_iter()
            .all(|ssrc| clients[1].packets(ssrc).iter().any(|packet| packet.last_sender_info.is_some()))
    });
    for ssrc in [5000, 6000] {
        assert_eq!(
            bob.cname(ssrc).as_deref(),
            Some("PA_alice"),
            "both streams have the CNAME of the publisher"
        );
    }
    // Once the client has reported on a stream, its packets carry no mid.
    let mut sent = 0;
    send_until(&mut [&mut alice, &mut bob], "a packet without mid", |clients| {
        let camera = clients[1].packets(6000);
        sent = camera.len();
        camera.last().is_some_and(|packet| packet.header.ext_vals.mid.is_none())
    });
    assert!(sent > 0);
}

#[test]
fn data_messages_pass_in_both_directions() {
    let (mut harness, mut alice, mut bob) = meet();
    let send = |channel, data: &'static [u8]| {
        let data = Bytes::from_static(data);
        harness.command(WorkerCommand::SendData { participant: ParticipantKey(BOB), channel, data });
    };
    // Sent at once: messages wait until the channels are open.
    send(DataChannel::Reliable, b"first");
    send(DataChannel::Reliable, b"second");
    send(DataChannel::Lossy, b"perhaps");
    run_until(&mut [&mut alice, &mut bob], "messages to the subscriber", |clients| {
        let messages =
            |label| clients[1].channel(label).map(|id| clients[1].messages(id)).unwrap_or_default();
        messages("_reliable") == [b"first".to_vec(), b"second".to_vec()]
            && messages("_lossy") == [b"perhaps".to_vec()]
    });

    let reliable = alice.open_channel("_reliable", true);
    let lossy = alice.open_channel("_lossy", false);
    let other = alice.open_channel("_data_track", false);
    run_until(&mut [&mut alice, &mut bob], "the publisher's channels", |clients| {
        ["_reliable", "_lossy", "_data_track"].iter().all(|label| clients[0].channel(label).is_some())
    });
    for (channel, data) in [(other, &b"ignored"[..]), (lossy, b"maybe"), (reliable, b"surely")] {
        assert!(alice.rtc.channel(channel).unwrap().write(true, data).unwrap());
    }
    let mut got = Vec::new();
    run_until(&mut [&mut alice, &mut bob], "messages from the publisher", |_| {
        for event in harness.take() {
            if let WorkerEvent::Data { participant, channel, data } = event {
                assert_eq!(participant, ParticipantKey(ALICE));
                got.push((channel, data));
            }
        }
        got.len() >= 2
    });
    got.sort_by_key(|(_, data)| data.clone());
    let expected = [(DataChannel::Lossy, &b"maybe"[..]), (DataChannel::Reliable, b"surely")]
        .map(|(c, d)| (c, Bytes::from_static(d)));
    assert_eq!(got, expected);
}

#[test]
fn active_speakers_are_reported() {
    let (mut harness, mut alice, mut bob) = meet();
    send_until(&mut [&mut alice, &mut bob], "a speaker", |_| {
        harness.events().iter().any(|event| match event {
            WorkerEvent::Speakers { changed } => changed.iter().any(|one| one.track == VOICE && one.active),
            _ => false,
        })
    });
}

fn binding_request(username: &str) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend_from_slice(&0x2112_A442_u32.to_be_bytes());
    bytes.extend_from_slice(&[7; 12]);
    bytes.extend_from_slice(&[0, 6, 0, username.len() as u8]);
    bytes.extend_from_slice(username.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let len = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

#[test]
fn unauthenticated_datagrams_get_no_answer() {
    let mut harness = Harness::new();
    let (mut alice, _) = harness.join(ALICE);
    connect(&mut harness, &mut [&mut alice], &[(ALICE, Side::Publisher)]);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.set_nonblocking(true).unwrap();
    let before = harness.counts();
    let unknown: [&[u8]; 4] = [
        &binding_request("unknown:me"),
        b"an unknown protocol",
        &[22, 254, 253, 0, 0, 0, 0],
        &[0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    ];
    for datagram in unknown {
        sender.send_to(datagram, harness.server).unwrap();
    }
    // A known ufrag, but no message integrity.
    sender.send_to(&binding_request(&format!("s1n1w0p{ALICE}:me")), harness.server).unwrap();
    // A datagram is counted after it was handled: an answer would have been sent before.
    harness.wait_counts("the datagrams", |counts| {
        counts.datagrams_rejected >= before.datagrams_rejected + 4
            && counts.datagrams_in >= before.datagrams_in + 5
    });
    assert!(sender.recv_from(&mut [0; 2000]).is_err(), "an unauthenticated datagram was answered");
}

#[test]
fn checks_before_the_description_are_accepted_once_it_is_set() {
    let mut harness = Harness::new();
    let mut alice = harness.join_undescribed(ALICE);
    run_until(&mut [&mut alice], "an early check", |_| harness.counts().datagrams_in > 0);
    assert!(harness.events().is_empty());
    let remote = alice.remote();
    harness.command(WorkerCommand::Remote {
        participant: ParticipantKey(ALICE),
        side: Side::Publisher,
        remote,
    });
    connect(&mut harness, &mut [&mut alice], &[(ALICE, Side::Publisher)]);
}

#[test]
fn participant_that_leaves_is_closed_and_removed() {
    let (harness, mut alice, mut bob) = meet();
    harness.command(WorkerCommand::Leave { participant: ParticipantKey(ALICE) });
    harness.command(WorkerCommand::Leave { participant: ParticipantKey(ALICE) });
    run_until(&mut [&mut alice, &mut bob], "close_notify", |clients| clients[0].is_closed());
    harness.wait_counts("one participant left", |counts| {
        (counts.participants, counts.tracks, counts.downtracks) == (1, 0, 0)
    });
    harness.command(WorkerCommand::CloseRoom { room: ROOM });
    run_until(&mut [&mut alice, &mut bob], "the room's end", |clients| clients[1].is_closed());
    harness.wait_counts("no participant left", |counts| counts.participants == 0);
}

#[test]
fn closed_connection_is_reported() {
    let (mut harness, mut alice, mut bob) = meet();
    alice.open_channel("_reliable", true);
    run_until(&mut [&mut alice, &mut bob], "the data channel", |clients| {
        clients[0].channel("_reliable").is_some()
    });
    alice.rtc.close().unwrap();
    run_until(&mut [&mut alice, &mut bob], "the event that the publisher closed", |_| {
        let gone = |event: &WorkerEvent| match event {
            WorkerEvent::Closed { participant, side, .. } => {
                participant.0 == ALICE && *side == Side::Publisher
            }
            _ => false,
        };
        harness.events().iter().any(gone)
    });
}

/// The id of the link between two workers, at both ends.
const LINK: u32 = 7;

/// Two workers connected by their rings, as over a link.
fn linked() -> (Harness, Harness) {
    let (notifier_a, notifier_b) = (ThreadNotifier::new(), ThreadNotifier::new());
    let (a_sender, b_receiver) = batch_ring(8 << 20, notifier_b.waker());
    let (b_sender, a_receiver) = batch_ring(8 << 20, notifier_a.waker());
    let to_b = Ring { sender: a_sender, receiver: a_receiver };
    let to_a = Ring { sender: b_sender, receiver: b_receiver };
    (Harness::with(notifier_a, Some(to_b)), Harness::with(notifier_b, Some(to_a)))
}

/// Takes the place of a link's control messages: passes wanted layers and key frame requests from `b` to `a`.
fn relay_control(a: &Harness, b: &mut Harness) {
    for event in b.take() {
        match event {
            WorkerEvent::Wanted { track, layers } => {
                for layer in (0..3).map(Layer) {
                    let flow = layers.contains(layer).then(|| flow(track, layer));
                    a.command(WorkerCommand::Feed { track, peer: LINK, layer, flow });
                }
            }
            WorkerEvent::KeyFrameNeeded { track, layer } => {
                a.command(WorkerCommand::KeyFrame { track, layer })
            }
            _ => {}
        }
    }
}

/// Flow id of a layer on the link.
fn flow(track: TrackKey, layer: Layer) -> u32 {
    track.0 as u32 * 10 + u32::from(layer.0)
}

/// The tracks of alice arrive over the link.
fn add_link_tracks(b: &Harness) {
    let layers = LayerSet::NONE.with(Layer(0)).with(Layer(1)).with(Layer(2));
    let specs = [
        (VOICE, TrackSpec { kind: Kind::Audio, codec: Codec::Opus, layers: LayerSet::NONE.with(Layer(0)) }),
        (CAMERA, TrackSpec { kind: Kind::Video, codec: Codec::Vp8, layers }),
    ];
    for (track, spec) in specs {
        let flows = [0, 1, 2].map(|layer| flow(track, Layer(layer)));
        let (source, publisher) = (TrackSource::Link { peer: LINK, flows }, "PA_alice".into());
        b.command(WorkerCommand::AddTrack { room: ROOM, track, spec, source, publisher });
    }
}

#[test]
fn track_is_sent_over_a_link_once_for_all_subscribers() {
    let (mut a, mut b) = linked();
    let (mut alice, _) = a.join(ALICE);
    let (_, mut bob) = b.join(BOB);
    let (_, mut carol) = b.join(CAROL);
    a.publish(ALICE, &mut alice);
    add_link_tracks(&b);
    b.subscribe(BOB, &mut bob);
    b.subscribe(CAROL, &mut carol);
    connect(&mut a, &mut [&mut alice, &mut bob, &mut carol], &[(ALICE, Side::Publisher)]);
    let who = [(BOB, Side::Subscriber), (CAROL, Side::Subscriber)];
    run_until(&mut [&mut alice, &mut bob, &mut carol], "connections", |_| {
        who.iter().all(|(key, side)| connected(&mut b, *key, *side))
    });
    send_until(&mut [&mut alice, &mut bob, &mut carol], "voice and video for both", |clients| {
        relay_control(&a, &mut b);
        clients[1..].iter().all(|client| {
            let highest = |packets: Vec<&str0m::rtp::RtpPacket>| {
                packets.iter().filter(|packet| layer_of(&packet.payload) == Some(2)).count()
            };
            client.packets(5000).len() >= 30 && highest(client.packets(6000)) >= 60
        })
    });
    // Sender reports are forwarded over links too.
    send_until(&mut [&mut alice, &mut bob, &mut carol], "sender reports", |clients| {
        relay_control(&a, &mut b);
        clients[1..]
            .iter()
            .all(|client| client.packets(6000).iter().any(|packet| packet.last_sender_info.is_some()))
    });
    send_until(&mut [&mut alice, &mut bob, &mut carol], "one CNAME for voice and camera", |clients| {
        relay_control(&a, &mut b);
        let named = |client: &Client, ssrc| client.cname(ssrc).as_deref() == Some("PA_alice");
        clients[1..].iter().all(|client| named(client, 5000) && named(client, 6000))
    });
    a.wait_counts("packets to the link", |counts| counts.link_out >= 90);
    b.wait_counts("packets from the link", |counts| counts.link_in >= 90);
    let (out, into) = (a.counts(), b.counts());
    assert_eq!((out.link_full, into.unknown_flow), (0, 0));
    assert!(out.link_out <= out.media_in, "each packet is sent at most once: {out:?}");
    assert!(into.media_out > into.link_in, "two subscribers of what was received once: {into:?}");
}
