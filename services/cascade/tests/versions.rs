//! Which versions of nodes work together.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Node, Options, TestCluster, linked, relay, subscribe, until};
use systir_cascade::{CallError, FlowNumbers, LinkEvent, Parity};
use systir_forwarding::batch::Priority;
use systir_hostile_node::{ACCEPTED, ACCEPTED_UNSTATED, HostileNode, LINK, hello};
use systir_identity::alpn;
use systir_proto::cluster::v1::ReserveRequest;
use systir_reason::Reason;
use systir_version::VersionRange;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ROOM: &str = "ku.dk/lecture";

/// What a release works with: its minor version, and the one before.
fn release(minor: u16) -> VersionRange {
    VersionRange::new(minor - 1, minor).unwrap()
}

async fn node(cluster: &TestCluster, name: &str, minor: u16) -> Node {
    cluster.node_with(name, Options { versions: release(minor), ..Options::default() }).await
}

fn refused(node: &Node) -> u64 {
    node.links.identity_counts().refused.get(&Reason::UnsupportedVersion).copied().unwrap_or_default()
}

/// One packet crosses the link from `a` to `b`.
async fn media_crosses(a: &mut Node, b: &mut Node, link: u32, room: &str) {
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    subscribe(b, a, room, flow).await;
    let packet = [0x80, 96, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
    a.workers[0].send(link, flow, Priority::Audio, &packet);
    assert_eq!(b.workers[0].receive(1).await[0].packet, packet);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_one_minor_version_apart_work_together_whoever_dials() {
    let cluster = TestCluster::new();
    let (mut older, mut newer) = (node(&cluster, "cph-1", 1).await, node(&cluster, "sto-1", 2).await);
    let (at_older, _) = linked(&mut older, &mut newer, ROOM).await;
    media_crosses(&mut older, &mut newer, at_older, ROOM).await;
    older.links.reserve(&newer.address, ReserveRequest::default()).await.unwrap();
    newer.links.reserve(&older.address, ReserveRequest::default()).await.unwrap();
    let (mut older, mut newer) = (node(&cluster, "hel-1", 1).await, node(&cluster, "osl-1", 2).await);
    let (at_newer, _) = linked(&mut newer, &mut older, ROOM).await;
    media_crosses(&mut newer, &mut older, at_newer, ROOM).await;
    assert_eq!((refused(&older), refused(&newer)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_two_minor_versions_apart_refuse_each_other_with_a_sentence_and_other_links_stay() {
    let cluster = TestCluster::new();
    let (mut first, mut second) = (node(&cluster, "cph-1", 1).await, node(&cluster, "sto-1", 2).await);
    let (at_first, at_second) = linked(&mut first, &mut second, ROOM).await;
    media_crosses(&mut first, &mut second, at_first, ROOM).await;

    let mut later = node(&cluster, "osl-1", 3).await;
    later.links.open_room(ROOM, first.address.clone(), 1, 1);
    match later.next().await {
        LinkEvent::Unreachable { peer, reason } => {
            assert_eq!(peer, relay("cph-1"));
            let who = "the node spiffe://nordu.net/relay/cph-1 works with versions 0.0 to 0.1";
            assert!(reason.contains(who) && reason.contains("Upgrade the other side to 0.2"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    match first.links.reserve(&later.address, ReserveRequest::default()).await {
        Err(CallError::UnsupportedVersion(sentence)) => {
            let who = "the node spiffe://nordu.net/relay/osl-1 works with versions 0.2 to 0.3";
            assert!(sentence.starts_with(who) && sentence.contains("Upgrade this node to 0.2"), "{sentence}");
        }
        other => panic!("{other:?}"),
    }
    assert!(refused(&first) >= 2 && refused(&later) >= 2, "both ends count it");
    assert!(first.handler.asked.lock().unwrap().iter().all(|(peer, _)| *peer != relay("osl-1")));
    assert!(first.is_quiet() && later.handler.asked.lock().unwrap().is_empty());

    // What was there goes on, and the node between both works with each.
    media_crosses(&mut second, &mut first, at_second, ROOM).await;
    second.links.open_room("ku.dk/exam", later.address.clone(), 1, 1);
    until(|| second.links.is_up(&relay("osl-1"))).await;
    assert!(!later.links.is_up(&relay("cph-1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_states_no_versions_counts_as_the_one_before_versions() {
    let cluster = TestCluster::new();
    let mut unstated = cluster.hostile("aws-sto-1").without_versions();
    let mut honest = node(&cluster, "cph-1", 1).await;
    unstated.session(&honest, hello("x")).await.unwrap();
    assert!(unstated.quic(&honest, LINK).await.unwrap());
    honest.up(&relay("aws-sto-1")).await;
    let (mut stream, proof) = unstated.tls(&honest).await.unwrap();
    assert_eq!(HostileNode::send_proof(&mut stream, &proof).await.unwrap().len(), ACCEPTED_UNSTATED);

    let next = node(&cluster, "sto-1", 2).await;
    let (mut stream, proof) = unstated.tls(&next).await.unwrap();
    assert_eq!(HostileNode::send_proof(&mut stream, &proof).await.unwrap(), [4], "the code alone");
    assert_eq!(refused(&next), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_states_its_versions_is_accepted_or_told_those_of_the_other_node() {
    let cluster = TestCluster::new();
    let hostile = cluster.hostile("aws-sto-1");
    let this = cluster.node("cph-1").await;
    let (mut stream, proof) = hostile.tls(&this).await.unwrap();
    let answer = HostileNode::send_proof(&mut stream, &proof).await.unwrap();
    assert_eq!(answer.len(), ACCEPTED);
    assert!(answer.starts_with(&[0]) && answer.ends_with(&VersionRange::OWN.to_bytes()), "{answer:?}");

    let later = node(&cluster, "sto-1", VersionRange::OWN.newest() + 2).await;
    let (mut stream, proof) = hostile.tls(&later).await.unwrap();
    let answer = HostileNode::send_proof(&mut stream, &proof).await.unwrap();
    assert_eq!(answer, [&[4][..], &release(VersionRange::OWN.newest() + 2).to_bytes()].concat());
    assert_eq!(refused(&later), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_in_the_wrong_order_are_refused() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let hostile = cluster.hostile("sto-1");
    let (mut stream, proof) = hostile.tls_with(&honest, alpn::GRPC).await.unwrap();
    stream.write_all(&[&proof[..], &[0, 2, 0, 1]].concat()).await.unwrap();
    let mut answer = Vec::new();
    // The end of the connection, with or without an error.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    until(|| honest.links.identity_counts().refused.contains_key(&Reason::NoNodeKey)).await;
}
