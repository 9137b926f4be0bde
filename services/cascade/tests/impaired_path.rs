//! Links over impaired paths: loss, duplication, reordering, outage. A link goes down as a whole and is
//! re-established with its rooms.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::impaired_path::{Directions, Path};
use support::{Node, Options, TIMEOUT, TestCluster, subscribe};
use systir_cascade::{FlowNumbers, LinkEvent, Parity, SignalEvent, SignalStream};
use systir_forwarding::batch::Priority;
use systir_proto::cluster::v1::{SignalEndReason, SignalStart};
use tokio::sync::mpsc;

const ROOM: &str = "ku.dk/lecture";

/// Two nodes; `a` reaches `b` over a path that the test can impair.
async fn nodes(options: impl Fn() -> Options) -> (Node, Node, Path) {
    let cluster = TestCluster::new();
    let a = cluster.node_with("cph-1", options()).await;
    let b = cluster.node_with("sto-1", options()).await;
    let path = Path::to(&b.address).await;
    (a, b, path)
}

async fn linked(a: &mut Node, b: &mut Node, path: &Path) -> (u32, u32) {
    a.links.open_room(ROOM, path.address.clone(), 1, 1);
    established(a, b).await
}

/// Waits until the link is up and the room open at both nodes.
async fn established(a: &mut Node, b: &mut Node) -> (u32, u32) {
    let at_a = a.up(&b.id()).await;
    let at_b = b.up(&a.id()).await;
    a.opened(&b.id(), ROOM).await;
    b.opened(&a.id(), ROOM).await;
    (at_a, at_b)
}

async fn down(node: &mut Node) {
    match node.event().await {
        LinkEvent::Down { .. } => {}
        other => panic!("{other:?} instead of Down"),
    }
}

fn numbered(number: u16, length: usize) -> Vec<u8> {
    let mut packet = vec![7; length];
    packet[0] = 0x80;
    packet[1] = 96;
    packet[2..4].copy_from_slice(&number.to_be_bytes());
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicated_and_reordered_datagrams_are_delivered_once_and_split_packets_are_joined() {
    let small = || Options { max_mtu: 1232, ..Options::default() };
    let (mut a, mut b, path) = nodes(small).await;
    for direction in [&path.quic.there, &path.quic.back] {
        direction.duplicated.store(30, Ordering::Relaxed);
        direction.jitter_ms.store(20, Ordering::Relaxed);
    }
    let (at_a, _) = linked(&mut a, &mut b, &path).await;
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    subscribe(&b, &mut a, ROOM, flow).await;
    const COUNT: u16 = 400;
    let mut listener = b.workers.remove(0);
    let listening = tokio::spawn(async move { listener.receive(usize::from(COUNT)).await });
    for number in 0..COUNT {
        // Every fourth packet is too large for one datagram.
        let length = if number % 4 == 0 { 1_400 } else { 300 };
        a.workers[0].send(at_a, flow, Priority::Base, &numbered(number, length));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let received = listening.await.unwrap();
    let numbers: BTreeSet<_> = received.iter().map(|packet| packet.packet[2..4].to_vec()).collect();
    assert_eq!(numbers.len(), usize::from(COUNT), "each packet arrives once");
    assert!(received.iter().any(|packet| packet.packet.len() == 1_400));
    assert!(a.is_quiet() && b.is_quiet(), "the link stays up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_stays_up_at_20_percent_loss() {
    let (mut a, mut b, path) = nodes(Options::default).await;
    let (at_a, _) = linked(&mut a, &mut b, &path).await;
    for direction in [&path.quic.there, &path.quic.back] {
        direction.loss.store(20, Ordering::Relaxed);
    }
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    subscribe(&b, &mut a, ROOM, flow).await;
    let mut listener = b.workers.remove(0);
    // QUIC does not retransmit datagrams.
    let listening = tokio::spawn(async move { listener.receive(400).await });
    for number in 0..600 {
        a.workers[0].send(at_a, flow, Priority::Audio, &numbered(number, 100));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(a.is_quiet() && b.is_quiet(), "the link stays up");
    assert!(listening.await.unwrap().len() < 600);
}

/// Cuts part of the path: the link goes down at both nodes, and comes up again with its room once the
/// path is restored.
async fn goes_down_and_comes_back(cut: impl Fn(&Path, bool)) {
    let (mut a, mut b, path) = nodes(Options::default).await;
    let first = linked(&mut a, &mut b, &path).await;
    cut(&path, true);
    down(&mut a).await;
    down(&mut b).await;
    assert!(a.links.list().is_empty() && b.links.list().is_empty(), "no part of it stays");
    cut(&path, false);
    let second = established(&mut a, &mut b).await;
    assert!(second.0 > first.0 && second.1 > first.1);
    assert_eq!((a.links.list().len(), b.links.list().len()), (1, 1), "one link, not two");
    assert_eq!(a.links.list()[0].rooms, b.links.list()[0].rooms);
}

fn both(directions: &Directions, cut: bool) {
    directions.cut(cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_recovers_from_an_outage_of_udp() {
    goes_down_and_comes_back(|path, cut| both(&path.quic, cut)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_recovers_from_an_outage_of_tcp() {
    goes_down_and_comes_back(|path, cut| both(&path.grpc, cut)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_recovers_from_an_outage_of_both() {
    goes_down_and_comes_back(|path, cut| {
        both(&path.quic, cut);
        both(&path.grpc, cut);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_goes_down_at_both_nodes_when_udp_to_the_dialled_node_fails() {
    goes_down_and_comes_back(|path, cut| path.quic.there.cut.store(cut, Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_goes_down_at_both_nodes_when_udp_from_the_dialled_node_fails() {
    goes_down_and_comes_back(|path, cut| path.quic.back.cut.store(cut, Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_goes_down_at_both_nodes_when_tcp_to_the_dialled_node_fails() {
    goes_down_and_comes_back(|path, cut| path.grpc.there.cut.store(cut, Ordering::SeqCst)).await;
}

/// Relays a participant's signalling from gateway `a` to media node `b`.
async fn relay_signalling(a: &Node, b: &Node, path: &Path) -> (SignalStream, SignalStream) {
    let (streams, mut arrived) = mpsc::channel(4);
    *b.handler.streams.lock().unwrap() = Some(streams);
    let start = SignalStart { room: ROOM.to_owned(), ..Default::default() };
    let gateway = a.links.signal(&path.address, start).await.unwrap();
    let (_, _, media) = tokio::time::timeout(TIMEOUT, arrived.recv()).await.unwrap().unwrap();
    (gateway, media)
}

async fn next(stream: &mut SignalStream) -> SignalEvent {
    tokio::time::timeout(TIMEOUT, stream.rx.recv()).await.expect("an event")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_detects_a_media_node_that_no_longer_answers() {
    let (a, b, path) = nodes(Options::default).await;
    let (mut gateway, mut media) = relay_signalling(&a, &b, &path).await;
    media.tx.send(Bytes::from_static(b"join")).unwrap();
    assert_eq!(next(&mut gateway).await, SignalEvent::Payload(Bytes::from_static(b"join")));
    // The TCP connection stays open, but nothing passes.
    path.grpc.cut(true);
    assert!(matches!(next(&mut gateway).await, SignalEvent::Lost(_)));
    path.grpc.cut(false);
    // The next stream uses a new connection.
    let (mut gateway, media) = relay_signalling(&a, &b, &path).await;
    media.tx.end(SignalEndReason::Closed, "over");
    assert!(matches!(next(&mut gateway).await, SignalEvent::End { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_silence_of_grpc_is_no_loss_while_the_link_is_up() {
    let (mut a, mut b, path) = nodes(Options::default).await;
    linked(&mut a, &mut b, &path).await;
    let (mut gateway, mut media) = relay_signalling(&a, &b, &path).await;
    path.grpc.cut(true);
    tokio::time::sleep(Duration::from_millis(500)).await;
    path.grpc.cut(false);
    media.tx.send(Bytes::from_static(b"still here")).unwrap();
    assert_eq!(next(&mut gateway).await, SignalEvent::Payload(Bytes::from_static(b"still here")));
}
