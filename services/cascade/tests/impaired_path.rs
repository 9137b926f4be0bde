//! Links over paths that lose, double, shuffle and stop: a link goes down as one, comes back by
//! itself, and its rooms with it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::impaired_path::{Directions, Path};
use support::{Node, Options, TIMEOUT, TestCluster};
use systir_cascade::{FlowNumbers, LinkEvent, Parity, SignalEvent, SignalStream};
use systir_forwarding::batch::Priority;
use systir_proto::cluster::v1::{SignalEndReason, SignalStart};
use tokio::sync::mpsc;

const ROOM: &str = "ku.dk/lecture";

/// Two nodes; `a` reaches `b` over a path.
async fn apart(options: impl Fn() -> Options) -> (Node, Node, Path) {
    let cluster = TestCluster::new();
    let a = cluster.node_with("cph-1", options()).await;
    let b = cluster.node_with("sto-1", options()).await;
    let path = Path::to(&b.address).await;
    (a, b, path)
}

async fn linked(a: &mut Node, b: &mut Node, path: &Path) -> (u32, u32) {
    a.links.open_room(ROOM, path.address.clone(), 1, 1);
    stands(a, b).await
}

/// The link comes up at both ends, and the room opens.
async fn stands(a: &mut Node, b: &mut Node) -> (u32, u32) {
    let at_a = a.up(&b.id()).await;
    let at_b = b.up(&a.id()).await;
    a.opened(&b.id(), ROOM).await;
    b.opened(&a.id(), ROOM).await;
    (at_a, at_b)
}

async fn goes_down(node: &mut Node) {
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
async fn doubled_and_shuffled_datagrams_are_media_once_each_and_halves_find_each_other() {
    let small = || Options { max_mtu: 1232, ..Options::default() };
    let (mut a, mut b, path) = apart(small).await;
    for direction in [&path.quic.there, &path.quic.back] {
        direction.duplicated.store(30, Ordering::Relaxed);
        direction.jitter_ms.store(20, Ordering::Relaxed);
    }
    let (at_a, _) = linked(&mut a, &mut b, &path).await;
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    const COUNT: u16 = 400;
    let mut listener = b.workers.remove(0);
    let listening = tokio::spawn(async move { listener.receive(usize::from(COUNT)).await });
    for number in 0..COUNT {
        // Every fourth one is too large for one datagram.
        let length = if number % 4 == 0 { 1_400 } else { 300 };
        a.workers[0].send(at_a, flow, Priority::Base, &numbered(number, length));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let received = listening.await.unwrap();
    let numbers: BTreeSet<_> = received.iter().map(|packet| packet.packet[2..4].to_vec()).collect();
    assert_eq!(numbers.len(), usize::from(COUNT), "each once");
    assert!(received.iter().any(|packet| packet.packet.len() == 1_400));
    assert!(a.is_quiet() && b.is_quiet(), "the link stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_stands_at_one_packet_in_five_lost() {
    let (mut a, mut b, path) = apart(Options::default).await;
    let (at_a, _) = linked(&mut a, &mut b, &path).await;
    for direction in [&path.quic.there, &path.quic.back] {
        direction.loss.store(20, Ordering::Relaxed);
    }
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    let mut listener = b.workers.remove(0);
    // What QUIC lost is not sent again by QUIC: late media is worth nothing.
    let listening = tokio::spawn(async move { listener.receive(400).await });
    for number in 0..600 {
        a.workers[0].send(at_a, flow, Priority::Audio, &numbered(number, 100));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(a.is_quiet() && b.is_quiet(), "the link stands");
    assert!(listening.await.unwrap().len() < 600);
}

/// Whatever half or direction of the link dies, the link dies at both ends, and comes back whole
/// with its room when the path does.
async fn dies_and_comes_back(kill: impl Fn(&Path, bool)) {
    let (mut a, mut b, path) = apart(Options::default).await;
    let first = linked(&mut a, &mut b, &path).await;
    kill(&path, true);
    goes_down(&mut a).await;
    goes_down(&mut b).await;
    assert!(a.links.list().is_empty() && b.links.list().is_empty(), "no half of it stays");
    kill(&path, false);
    let second = stands(&mut a, &mut b).await;
    assert!(second.0 > first.0 && second.1 > first.1);
    assert_eq!((a.links.list().len(), b.links.list().len()), (1, 1), "one link, not two");
    assert_eq!(a.links.list()[0].rooms, b.links.list()[0].rooms);
}

fn both(directions: &Directions, cut: bool) {
    directions.cut(cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_udp_the_link_goes_and_comes_back() {
    dies_and_comes_back(|path, cut| both(&path.quic, cut)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tcp_the_link_goes_and_comes_back() {
    dies_and_comes_back(|path, cut| both(&path.grpc, cut)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_both_the_link_goes_and_comes_back() {
    dies_and_comes_back(|path, cut| {
        both(&path.quic, cut);
        both(&path.grpc, cut);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_only_one_is_heard_the_link_goes_at_both() {
    dies_and_comes_back(|path, cut| path.quic.there.cut.store(cut, Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_only_the_other_is_heard_the_link_goes_at_both() {
    dies_and_comes_back(|path, cut| path.quic.back.cut.store(cut, Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_control_passes_one_way_only_the_link_goes_at_both() {
    dies_and_comes_back(|path, cut| path.grpc.there.cut.store(cut, Ordering::SeqCst)).await;
}

/// Somebody's signalling is relayed from `a` to `b`.
async fn relayed(a: &Node, b: &Node, path: &Path) -> (SignalStream, SignalStream) {
    let (streams, mut arrived) = mpsc::channel(4);
    *b.handler.streams.lock().unwrap() = Some(streams);
    let start = SignalStart { room: ROOM.to_owned(), ..Default::default() };
    let here = a.links.signal(&path.address, start).await.unwrap();
    let (_, _, there) = tokio::time::timeout(TIMEOUT, arrived.recv()).await.unwrap().unwrap();
    (here, there)
}

async fn next(stream: &mut SignalStream) -> SignalEvent {
    tokio::time::timeout(TIMEOUT, stream.rx.recv()).await.expect("an event")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_door_notices_that_a_media_node_answers_no_more() {
    let (a, b, path) = apart(Options::default).await;
    let (mut here, mut there) = relayed(&a, &b, &path).await;
    there.tx.send(Bytes::from_static(b"join")).unwrap();
    assert_eq!(next(&mut here).await, SignalEvent::Payload(Bytes::from_static(b"join")));
    // The connection stays, and nothing passes it any more.
    path.grpc.cut(true);
    assert!(matches!(next(&mut here).await, SignalEvent::Lost(_)));
    path.grpc.cut(false);
    // Whoever comes next gets a connection that works.
    let (mut here, there) = relayed(&a, &b, &path).await;
    there.tx.end(SignalEndReason::Closed, "over");
    assert!(matches!(next(&mut here).await, SignalEvent::End { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_without_answer_is_no_loss_while_the_link_stands() {
    let (mut a, mut b, path) = apart(Options::default).await;
    linked(&mut a, &mut b, &path).await;
    let (mut here, mut there) = relayed(&a, &b, &path).await;
    path.grpc.cut(true);
    tokio::time::sleep(Duration::from_millis(500)).await;
    path.grpc.cut(false);
    there.tx.send(Bytes::from_static(b"still here")).unwrap();
    assert_eq!(next(&mut here).await, SignalEvent::Payload(Bytes::from_static(b"still here")));
}
