//! Which nodes get a connection, and until when.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, SystemTime};
use support::{Node, Options, TIMEOUT, TestCluster, linked, node_key, relay, subscribe};
use systir_cascade::{
    CallError, DownReason, FlowNumbers, LinkEvent, Parity, PeerAddress, SignalEvent, SignalStream,
};
use systir_forwarding::batch::Priority;
use systir_hostile_node::{ACCEPTED, HostileNode, LINK, hello};
use systir_identity::{NodeCertificate, TrustBundle, TrustDomain, ca};
use systir_proto::cluster::v1::{
    HeartbeatRequest, ReleaseRequest, RenewRequest, ReserveRequest, SignalEndReason, SignalStart,
};
use systir_reason::Reason;
use tonic::Code;

const ROOM: &str = "ku.dk/lecture";
// Answers to a proof, as `cluster.proto` says.
const UNLISTED: [u8; 1] = [1];
const WRONG_KEY: [u8; 1] = [2];
const TOO_MANY: [u8; 1] = [3];

/// The answer to a node's own proof.
async fn answer(node: &HostileNode, to: &Node) -> Vec<u8> {
    let (mut stream, proof) = node.tls(to).await.unwrap();
    HostileNode::send_proof(&mut stream, &proof).await.unwrap()
}

fn refused(node: &Node, reason: Reason) -> u64 {
    node.links.identity_counts().refused.get(&reason).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_id_without_its_node_key_is_refused_before_any_stream() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    cluster.directory.list("sto-1");
    // The CA gave away a certificate of sto-1.
    let mut thief = HostileNode::new(cluster.credentials("sto-1"), node_key("aws-sto-1")).unwrap();
    assert_eq!(answer(&thief, &honest).await, WRONG_KEY);
    let connection = thief.quic_connection(&honest).await.unwrap();
    let proof = thief.quic_proof(&connection).unwrap();
    assert!(!thief.bind(connection, LINK, &proof).await);
    assert_eq!(refused(&honest, Reason::WrongNodeKey), 2);
    // A session of the true node does not help either.
    let mut owner = cluster.hostile("sto-1");
    owner.session(&honest, hello("x")).await.unwrap();
    assert!(!thief.quic(&honest, LINK).await.unwrap());
    assert!(honest.handler.asked.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_ca_for_a_node_on_no_list_is_refused() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = HostileNode::new(cluster.credentials("aws-sto-1"), node_key("aws-sto-1")).unwrap();
    assert_eq!(answer(&hostile, &honest).await, UNLISTED);
    assert!(!hostile.quic(&honest, LINK).await.unwrap());
    // The same with an honest node, which learns why.
    let mut unlisted = cluster.unlisted_node("osl-1", Options::default()).await;
    let reserved = unlisted.links.reserve(&honest.address, ReserveRequest::default()).await;
    match reserved {
        Err(CallError::Refused(reason)) => {
            assert!(reason.contains("no directory there lists this node"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    unlisted.links.open_room(ROOM, honest.address.clone(), 1, 1);
    match unlisted.next().await {
        LinkEvent::Unreachable { reason, .. } => assert!(reason.contains("lists this node"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(refused(&honest, Reason::Unlisted) >= 4);
    // It is not dialled either.
    honest.links.open_room(ROOM, unlisted.address.clone(), 1, 1);
    match honest.next().await {
        LinkEvent::Unreachable { reason, .. } => assert!(reason.contains("no directory lists"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(unlisted.is_quiet() || unlisted.links.list().is_empty());
    assert!(honest.handler.asked.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_replayed_on_another_connection_is_refused() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let mut node = cluster.hostile("sto-1");
    let (mut first, proof) = node.tls(&honest).await.unwrap();
    let (mut second, _) = node.tls(&honest).await.unwrap();
    assert_eq!(HostileNode::send_proof(&mut second, &proof).await.unwrap(), WRONG_KEY);
    assert_eq!(
        HostileNode::send_proof(&mut first, &proof).await.unwrap().len(),
        ACCEPTED,
        "on its own connection it is valid"
    );
    node.session(&honest, hello("x")).await.unwrap();
    let (first, second) =
        (node.quic_connection(&honest).await.unwrap(), node.quic_connection(&honest).await.unwrap());
    let replayed = node.quic_proof(&first).unwrap();
    assert!(!node.bind(second, LINK, &replayed).await);
    let own = node.quic_proof(&first).unwrap();
    assert!(node.bind(first, LINK, &own).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_answers_without_the_listed_node_key_gets_no_calls() {
    let cluster = TestCluster::new();
    let a = cluster.node("cph-1").await;
    let b = cluster.node("sto-1").await;
    cluster.directory.list_with("sto-1", &[node_key("osl-1"), node_key("osl-2")]);
    let refused_call = a.links.reserve(&b.address, ReserveRequest::default()).await;
    assert!(matches!(refused_call, Err(CallError::Unreachable(_))), "{refused_call:?}");
    assert_eq!(refused(&a, Reason::WrongNodeKey), 1);
    // During a change of keys the directory lists both.
    cluster.directory.list_with("sto-1", &[node_key("osl-1"), node_key("sto-1")]);
    a.links.reserve(&b.address, ReserveRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_a_bounded_number_of_connections() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let node = cluster.hostile("sto-1");
    let mut open = Vec::new();
    for _ in 0..8 {
        let (mut stream, proof) = node.tls(&honest).await.unwrap();
        assert_eq!(HostileNode::send_proof(&mut stream, &proof).await.unwrap().len(), ACCEPTED);
        open.push(stream);
    }
    assert_eq!(answer(&node, &honest).await, TOO_MANY);
    let other = cluster.hostile("osl-1");
    assert_eq!(answer(&other, &honest).await.len(), ACCEPTED, "other nodes are not affected");
    drop(open);
    let freed = async {
        while answer(&node, &honest).await.len() != ACCEPTED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, freed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_long_message_is_refused() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let node = cluster.hostile("sto-1");
    let mut client = node.client(&honest).await.unwrap();
    let request = |length| ReserveRequest { room: "x".repeat(length), ..ReserveRequest::default() };
    client.reserve(request(60_000)).await.unwrap();
    let refused = client.reserve(request(70_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_outside_the_listed_prefixes_is_not_made() {
    let cluster = TestCluster::new();
    let (mut a, b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    // The test's directory lists 127.0.0.1 only.
    let outside: SocketAddr = ([127, 0, 0, 2], 0).into();
    let (tcp, udp) = (TcpListener::bind(outside).unwrap(), UdpSocket::bind(outside).unwrap());
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let unreachable = |event| match event {
        LinkEvent::Unreachable { reason, .. } => {
            assert!(reason.contains("127.0.0.2 is outside the address prefixes"), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    let address = PeerAddress { quic: udp.local_addr().unwrap(), ..b.address.clone() };
    a.links.open_room(ROOM, address, 1, 1);
    unreachable(a.next().await);
    let mapped = SocketAddr::new("::ffff:127.0.0.2".parse().unwrap(), tcp.local_addr().unwrap().port());
    for grpc in [tcp.local_addr().unwrap(), mapped] {
        let address = PeerAddress { grpc, ..b.address.clone() };
        a.links.open_room(ROOM, address.clone(), 1, 1);
        let called = a.links.reserve(&address, ReserveRequest::default()).await;
        assert!(matches!(called, Err(CallError::Unreachable(_))), "{called:?}");
    }
    unreachable(a.next().await);
    assert!(tcp.accept().is_err() && udp.recv(&mut [0; 2000]).is_err(), "nothing was sent there");
    assert!(refused(&a, Reason::AddressNotListed) >= 4);
}

async fn signalling(from: &Node, to: &Node) -> (SignalStream, SignalStream) {
    let (sender, mut streams) = tokio::sync::mpsc::channel(1);
    *to.handler.streams.lock().unwrap() = Some(sender);
    let gateway = from.links.signal(&to.address, SignalStart::default()).await.unwrap();
    let (_, _, media) = streams.recv().await.unwrap();
    (gateway, media)
}

/// Media and signalling still go from `a` to `b`, the link and the room stayed open, and no identity was refused.
async fn assert_continued(
    a: &mut Node,
    b: &mut Node,
    at_a: u32,
    gateway: &mut SignalStream,
    media: &mut SignalStream,
) {
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    subscribe(b, a, ROOM, flow).await;
    let mut packet = vec![7; 300];
    packet[..2].copy_from_slice(&[0x80, 96]);
    a.workers[0].send(at_a, flow, Priority::Audio, &packet);
    assert_eq!(b.workers[0].receive(1).await[0].packet, packet);
    gateway.tx.send(vec![1].into()).unwrap();
    assert_eq!(media.rx.recv().await, SignalEvent::Payload(vec![1].into()));
    assert!(a.is_quiet() && b.is_quiet(), "the link stayed up and the room open");
    assert!(a.links.identity_counts().refused.is_empty() && b.links.identity_counts().refused.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_node_that_is_no_longer_listed_ends_at_once() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let mut c = cluster.node("osl-1").await;
    linked(&mut a, &mut b, ROOM).await;
    linked(&mut a, &mut c, ROOM).await;
    let (mut dialled, _at_b) = signalling(&a, &b).await;
    let (_at_gateway, mut accepted) = signalling(&b, &a).await;
    cluster.directory.remove("sto-1");
    a.links.end_unaccepted();
    assert_eq!(a.down().await, DownReason::Unlisted);
    for stream in [&mut dialled, &mut accepted] {
        let event = tokio::time::timeout(TIMEOUT, stream.rx.recv()).await.unwrap();
        assert!(matches!(event, SignalEvent::Lost(_)), "{event:?}");
    }
    assert!(matches!(b.down().await, DownReason::Session(_) | DownReason::Quic(_) | DownReason::Goodbye(_)));
    // The other link stands, and no call or link of the removed node is accepted.
    assert_eq!(a.links.list().iter().map(|link| link.peer.clone()).collect::<Vec<_>>(), [relay("osl-1")]);
    assert_eq!(a.links.identity(&c.id()).unwrap().id(), &c.id());
    let refused = async {
        // The first call may still find the connection that has just ended.
        while !matches!(
            b.links.reserve(&a.address, ReserveRequest::default()).await.unwrap_err(),
            CallError::Refused(_)
        ) {}
    };
    tokio::time::timeout(TIMEOUT, refused).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_node_whose_key_is_no_longer_listed_ends_at_once() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    linked(&mut a, &mut b, ROOM).await;
    a.links.end_unaccepted();
    assert!(a.is_quiet(), "nothing has changed");
    cluster.directory.list_with("sto-1", &[node_key("stolen-no-more")]);
    a.links.end_unaccepted();
    assert_eq!(a.down().await, DownReason::Unlisted);
    b.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_at_once_when_the_ca_of_its_peers_certificate_is_no_longer_trusted() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    linked(&mut a, &mut b, ROOM).await;
    let (mut dialled, _at_b) = signalling(&a, &b).await;
    let domain = TrustDomain::new("nordu.net").unwrap();
    let (old, new) =
        (cluster.ca.certificate.clone(), ca::create(&domain, SystemTime::now()).unwrap().certificate);
    let trust = |roots: &str| TrustBundle::new().with(domain.clone(), roots).unwrap();
    // While CAs are exchanged, the directory has both.
    a.credentials.trust(trust(&format!("{old}{new}")));
    a.links.end_unaccepted();
    assert!(a.is_quiet(), "the old CA is still trusted");
    assert!(a.credentials.trusts(&a.links.identity(&b.id()).unwrap(), SystemTime::now()));
    a.credentials.trust(trust(&new));
    a.links.end_unaccepted();
    assert_eq!(a.down().await, DownReason::Unlisted);
    b.down().await;
    let event = tokio::time::timeout(TIMEOUT, dialled.rx.recv()).await.unwrap();
    assert!(matches!(event, SignalEvent::Lost(_)), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_with_its_certificate_and_comes_back_with_the_renewed_one() {
    let cluster = TestCluster::new();
    let short = Options { certificate_life: Duration::from_secs(4), ..Options::default() };
    let mut a = cluster.node("cph-1").await;
    let mut b = cluster.node_with("sto-1", short).await;
    linked(&mut a, &mut b, ROOM).await;
    let end = b.credentials.not_after();
    assert_eq!(a.links.identity(&b.id()).unwrap().not_after(), end);
    let (reason, at_b) = (a.down().await, b.down().await);
    let ended = SystemTime::now();
    assert!(ended >= end && ended < end + Duration::from_secs(5), "{:?}", ended.duration_since(end));
    // Both have a timer; the first ends the session of the other too.
    assert!([&reason, &at_b].contains(&&DownReason::CertificateExpired), "{reason:?}, {at_b:?}");
    let expired = a.links.identity_counts().links_expired + b.links.identity_counts().links_expired;
    assert!(expired >= 1);
    match a.next().await {
        LinkEvent::Unreachable { .. } => {}
        other => panic!("{other:?} instead of Unreachable"),
    }
    b.credentials.renew(cluster.certificate(&b.id(), ca::NODE_LIFE)).unwrap();
    a.up(&b.id()).await;
    a.opened(&b.id(), ROOM).await;
    assert!(a.links.identity(&b.id()).unwrap().not_after() > end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_a_peer_that_does_not_renew_ends() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    cluster.directory.list("sto-1");
    let credentials = cluster.credentials_for("sto-1", Duration::from_secs(4));
    let end = credentials.not_after();
    let mut hostile = HostileNode::new(credentials, node_key("sto-1")).unwrap();
    let mut client = hostile.client(&honest).await.unwrap();
    client.heartbeat(HeartbeatRequest {}).await.unwrap();
    hostile.session(&honest, hello("x")).await.unwrap();
    assert!(hostile.quic(&honest, LINK).await.unwrap());
    honest.up(&relay("sto-1")).await;
    assert_eq!(honest.down().await, DownReason::CertificateExpired);
    assert!(SystemTime::now() >= end);
    assert_eq!(honest.links.identity_counts().links_expired, 1);
    tokio::time::timeout(TIMEOUT, hostile.quic[0].closed()).await.unwrap();
    assert!(client.heartbeat(HeartbeatRequest {}).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_node_of_a_connection_extends_it() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let (node, other) = (cluster.hostile("sto-1"), cluster.hostile("osl-1"));
    let (_old, secret) = node.client_and_secret(&honest).await.unwrap();
    let renew = |secret: &[u8]| RenewRequest { connection: secret.to_vec().into() };
    let mut client = other.client(&honest).await.unwrap();
    assert_eq!(client.renew(renew(&secret)).await.unwrap_err().code(), Code::NotFound);
    let mut client = node.client(&honest).await.unwrap();
    assert_eq!(client.renew(renew(&[0; 32])).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.renew(renew(&[])).await.unwrap_err().code(), Code::NotFound);
    client.renew(renew(&secret)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn media_and_signalling_continue_when_certificates_are_renewed() {
    let cluster = TestCluster::new();
    let short = || Options { certificate_life: Duration::from_secs(8), ..Options::default() };
    let mut a = cluster.node_with("cph-1", short()).await;
    let mut b = cluster.node_with("sto-1", short()).await;
    let (at_a, _) = linked(&mut a, &mut b, ROOM).await;
    let (mut gateway, mut media) = signalling(&a, &b).await;
    let end = b.credentials.not_after().max(a.credentials.not_after());
    for node in [&a, &b] {
        node.credentials.renew(cluster.certificate(&node.id(), ca::NODE_LIFE)).unwrap();
    }
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    subscribe(&b, &mut a, ROOM, flow).await;
    let mut number = 0u16;
    while SystemTime::now() < end + Duration::from_millis(1500) {
        let mut packet = vec![7; 300];
        packet[..2].copy_from_slice(&[0x80, 96]);
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        a.workers[0].send(at_a, flow, Priority::Audio, &packet);
        let received = b.workers[0].receive(1).await;
        assert_eq!(received[0].packet[2..4], number.to_be_bytes());
        number += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(a.is_quiet() && b.is_quiet(), "the link stayed up and the room open");
    assert!(a.links.identity(&b.id()).unwrap().not_after() > end);
    assert!(b.links.identity(&a.id()).unwrap().not_after() > end);
    assert_eq!(a.links.identity_counts().renewed, 2, "the link's connection and the one for signalling");
    gateway.tx.send(vec![1].into()).unwrap();
    assert_eq!(media.rx.recv().await, SignalEvent::Payload(vec![1].into()));
    media.tx.end(SignalEndReason::Closed, "done");
    assert!(matches!(gateway.rx.recv().await, SignalEvent::End { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn media_and_signalling_continue_when_a_node_key_is_replaced() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (at_a, _) = linked(&mut a, &mut b, ROOM).await;
    let (mut gateway, mut media) = signalling(&a, &b).await;
    // Each node has connections that it dialled: only the dialling node moves them.
    let (_gateway_at_b, _media_at_a) = signalling(&b, &a).await;
    let (old, new) = (node_key("sto-1"), node_key("sto-1-next"));
    let public = new.public();
    cluster.directory.list_with("sto-1", &[old, node_key("sto-1-next")]);
    b.node_key.replace(new);
    let moved = async {
        while a.links.identity_counts().renewed < 2 || b.links.identity_counts().renewed < 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, moved).await.expect("connections move to the new node key");
    cluster.directory.list_with("sto-1", &[node_key("sto-1-next")]);
    a.links.end_unaccepted();
    assert_eq!(*a.links.identity(&b.id()).unwrap().node_key(), public);

    assert_continued(&mut a, &mut b, at_a, &mut gateway, &mut media).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_move_to_certificates_of_a_new_ca_before_the_old_one_is_removed() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (at_a, _) = linked(&mut a, &mut b, ROOM).await;
    let (mut gateway, mut media) = signalling(&a, &b).await;
    // Each node has connections that it dialled: only the dialling node moves them.
    let (_gateway_at_b, _media_at_a) = signalling(&b, &a).await;
    let domain = TrustDomain::new("nordu.net").unwrap();
    let ca = ca::create(&domain, SystemTime::now()).unwrap();
    let trust = |roots: &str| TrustBundle::new().with(domain.clone(), roots).unwrap();
    let both = format!("{}{}", cluster.ca.certificate, ca.certificate);
    for node in [&a, &b] {
        node.credentials.trust(trust(&both));
        node.links.end_unaccepted();
    }
    // The nodes get them one after the other, and they end before the old ones would.
    for (round, node) in [(1, &a), (2, &b)] {
        let pem = ca::issue(&ca, &node.id(), SystemTime::now(), Duration::from_secs(3600)).unwrap();
        node.credentials.renew(NodeCertificate::from_pem(&pem.certificate, &pem.key).unwrap()).unwrap();
        let moved = async {
            let count = |node: &Node| node.links.identity_counts().renewed;
            // One dialled the link, and each one for calls.
            while count(&a) < 2 * round || count(&b) < round {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, moved).await.expect("connections move to the new certificate");
    }
    let ends = |node: &Node, peer: &Node| node.links.connection_ends().get(&peer.id()).copied().unwrap();
    let first = a.credentials.not_after().min(b.credentials.not_after());
    assert_eq!((ends(&a, &b), ends(&b, &a)), (first, first));
    for node in [&a, &b] {
        node.credentials.trust(trust(&ca.certificate));
        node.links.end_unaccepted();
    }
    assert_continued(&mut a, &mut b, at_a, &mut gateway, &mut media).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_moves_to_no_key_that_the_directory_does_not_list() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    linked(&mut a, &mut b, ROOM).await;
    b.node_key.replace(node_key("sto-1-next"));
    // A new connection of b proves its new key.
    assert!(b.links.release(&a.address, ReleaseRequest::default()).await.is_err());
    assert!(refused(&a, Reason::WrongNodeKey) > 0);
    assert_eq!(*a.links.identity(&b.id()).unwrap().node_key(), node_key("sto-1").public());
}
