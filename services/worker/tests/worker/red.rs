//! RED (RFC 2198) and plain Opus alternate on one audio track.

use systir_forwarding::ThreadNotifier;
use systir_forwarding::batch::{Priority, batch_ring};
use systir_media_control::{
    CaptureSource, Downtrack, ParticipantKey, Side, TrackSource, TrackSpec, WorkerCommand,
};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};
use systir_worker::Ring;

use super::client::run_until;
use super::harness::{Harness, ROOM, VOICE};
use super::{BOB, LINK, connect};

const FLOW: u32 = 40;
/// Another node that gets the track from this one, and its flow.
const DOWNSTREAM: (u32, u32) = (9, 90);

#[test]
fn plain_opus_on_a_red_track_has_its_own_payload_type() {
    let notifier = ThreadNotifier::new();
    let (to_link, mut from_worker) = batch_ring(8 << 20, std::task::Waker::noop().clone());
    let (mut to_worker, from_link) = batch_ring(8 << 20, notifier.waker());
    let mut node = Harness::with(notifier, Some(Ring { sender: to_link, receiver: from_link }));
    let (_, mut bob) = node.join(BOB);
    let layers = LayerSet::NONE.with(Layer(0));
    let spec = TrackSpec { kind: Kind::Audio, codec: Codec::Red, layers };
    let (source, publisher) = (TrackSource::Link { peer: LINK, flows: [FLOW, 0, 0] }, "PA_alice".into());
    node.command(WorkerCommand::AddTrack { room: ROOM, track: VOICE, spec, source, publisher });
    let (peer, flow) = DOWNSTREAM;
    node.command(WorkerCommand::Feed { track: VOICE, peer, layer: Layer(0), flow: Some(flow) });
    bob.expect_stream("0", str0m::media::MediaKind::Audio, 5000, None);
    let (track, opus_pt) = (VOICE, Some(Codec::Opus as u8));
    let pt = Codec::Red as u8;
    let downtrack = Downtrack {
        track,
        source: CaptureSource::Microphone,
        mid: "0".into(),
        ssrc: 5000,
        rtx_ssrc: None,
        pt,
        rtx_pt: None,
        transport_cc: false,
        opus_pt,
    };
    node.command(WorkerCommand::Subscribe { participant: ParticipantKey(BOB), downtrack });
    connect(&mut node, &mut [&mut bob], &[(BOB, Side::Subscriber)]);

    let mut seq = 0_u16;
    let mut fed = Vec::new();
    run_until(&mut [&mut bob], "plain Opus", |clients| {
        let mut batch = to_worker.fresh();
        for codec in [Codec::Red, Codec::Opus] {
            seq += 1;
            let [high, low] = seq.to_be_bytes();
            let name = codec as u8;
            batch.push(
                LINK,
                FLOW,
                Priority::Audio,
                &[0x80, name, high, low, 0, 0, high, low, 0, 0, 0, 0, name],
            );
        }
        to_worker.send(batch);
        while let Some(batch) = from_worker.recv() {
            fed.extend(batch.iter().map(|(_, packet)| packet[1]).filter(|kind| !(192..=223).contains(kind)));
            from_worker.recycle(batch);
        }
        clients[0].packets(5000).len() >= 10
    });
    // This client knows no RED: it shows packets with the payload type of Opus only.
    assert!(
        bob.packets(5000).iter().all(|packet| *packet.payload == [Codec::Opus as u8]),
        "RED was sent as Opus"
    );
    assert!(fed.contains(&(Codec::Red as u8)) && fed.contains(&(Codec::Opus as u8)), "both are fed: {fed:?}");
}
