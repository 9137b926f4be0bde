//! A node on the other end of a link that goes on as if a room were still open: its media reaches nobody, and it gets none.

use systir_forwarding::ThreadNotifier;
use systir_forwarding::batch::{Priority, batch_ring};
use systir_media_control::{Side, TrackSource, TrackSpec, WorkerCommand};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};
use systir_worker::Ring;

use super::client::run_until;
use super::harness::{Harness, ROOM, VOICE};
use super::{ALICE, BOB, CAROL, LINK, connect, connected, linked, send_until};

/// The flow of the other node's voice.
const FLOW: u32 = 40;

fn voice() -> TrackSpec {
    TrackSpec { kind: Kind::Audio, codec: Codec::Opus, layers: LayerSet::NONE.with(Layer(0)) }
}

#[test]
fn media_of_a_flow_whose_track_was_removed_reaches_nobody() {
    let (mut hostile, mut honest) = linked();
    let (mut alice, _) = hostile.join(ALICE);
    let (_, mut bob) = honest.join(BOB);
    hostile.publish(ALICE, &mut alice);
    let source = TrackSource::Link { peer: LINK, flows: [FLOW, FLOW + 2, FLOW + 4] };
    let publisher = "PA_alice".into();
    honest.command(WorkerCommand::AddTrack { room: ROOM, track: VOICE, spec: voice(), source, publisher });
    honest.subscribe(BOB, &mut bob);
    connect(&mut hostile, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher)]);
    run_until(&mut [&mut alice, &mut bob], "connections", |_| connected(&mut honest, BOB, Side::Subscriber));
    let feed = |flow| WorkerCommand::Feed { track: VOICE, peer: LINK, layer: Layer(0), flow };
    hostile.command(feed(Some(FLOW)));
    send_until(&mut [&mut alice, &mut bob], "voice", |clients| clients[1].packets(5000).len() >= 10);
    // What the room does when it closes on the link. The other node sends on.
    honest.command(WorkerCommand::RemoveTrack { track: VOICE });
    let mut until_unknown = |packets| {
        send_until(&mut [&mut alice, &mut bob], "packets of the removed flow", |_| {
            honest.counts().unknown_flow >= packets
        });
        let counts = honest.counts();
        (counts.link_in, counts.media_out)
    };
    // After some of them nothing of before is on its way to bob.
    let before = until_unknown(10);
    assert_eq!(until_unknown(60), before);
}

#[test]
fn a_node_whose_feed_was_stopped_gets_nothing_more_whatever_it_asks_for() {
    let notifier = ThreadNotifier::new();
    let (to_link, mut from_worker) = batch_ring(8 << 20, std::task::Waker::noop().clone());
    let (mut to_worker, from_link) = batch_ring(8 << 20, notifier.waker());
    let mut honest = Harness::with(notifier, Some(Ring { sender: to_link, receiver: from_link }));
    let (mut alice, _) = honest.join(ALICE);
    let (_, mut bob) = honest.join(BOB);
    honest.publish(ALICE, &mut alice);
    honest.subscribe(BOB, &mut bob);
    let who = [(ALICE, Side::Publisher), (BOB, Side::Subscriber)];
    connect(&mut honest, &mut [&mut alice, &mut bob], &who);
    let feed = |flow| WorkerCommand::Feed { track: VOICE, peer: LINK, layer: Layer(0), flow };
    honest.command(feed(Some(FLOW)));
    let mut last_seq = [0; 2];
    let mut received = || {
        let mut count = 0;
        while let Some(batch) = from_worker.recv() {
            for (entry, packet) in batch.iter() {
                assert_eq!((entry.peer, entry.flow), (LINK, FLOW));
                last_seq = [packet[2], packet[3]];
                count += 1;
            }
            from_worker.recycle(batch);
        }
        (count, last_seq)
    };
    let mut fed = 0;
    send_until(&mut [&mut alice, &mut bob], "voice on the link", |_| {
        fed += received().0;
        fed >= 10
    });
    honest.command(feed(None));
    // Commands are handled in order: once this participant is there, the feed has ended.
    honest.join_undescribed(CAROL);
    honest.wait_counts("the next command", |counts| counts.participants == 3);
    let (_, [high, low]) = received();
    // It asks again and again for lost packets of the flow, and sends media on it.
    send_until(&mut [&mut alice, &mut bob], "its packets", |_| {
        let mut batch = to_worker.fresh();
        let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, high, low, 0, 0];
        batch.push(LINK, FLOW, Priority::Control, &nack);
        batch.push(LINK, FLOW, Priority::Audio, &[0x80, 111, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        to_worker.send(batch);
        honest.counts().unknown_flow >= 50
    });
    let delivered = bob.packets(5000).len();
    assert_eq!(received().0, 0);
    send_until(&mut [&mut alice, &mut bob], "voice for bob", |clients| {
        clients[1].packets(5000).len() >= delivered + 10
    });
    assert_eq!(received().0, 0);
}
