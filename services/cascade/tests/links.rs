//! Links between nodes on loopback.

#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Node, Options, TIMEOUT, TestCluster, linked, relay, subscribe, until};
use systir_cascade::{
    CallError, DownReason, FlowNumbers, LinkEvent, Parity, PeerAddress, RoomBody, RoomSendError, SignalEvent,
};
use systir_forwarding::batch::Priority;
use systir_proto::cluster::v1::{
    GrantRequest, KeyFrame, LossyData, ReserveRequest, SignalEndReason, SignalStart, Speakers, StateUpdate,
    grant_reply, reserve_reply,
};

const RTP: u8 = 0x80;

fn rtp(mark: u8, length: usize) -> Vec<u8> {
    let mut packet = vec![mark; length];
    packet[0] = RTP;
    packet[1] = 96;
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn media_of_every_priority_arrives_and_feedback_reaches_its_sender() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (at_a, at_b) = linked(&mut a, &mut b, "ku.dk/lecture").await;

    // b receives the media, so b chooses the flow, for its worker 1.
    let mut numbers = FlowNumbers::new(Parity::of(&b.id(), &a.id()));
    let flow = numbers.allocate(1).unwrap();
    subscribe(&b, &mut a, "ku.dk/lecture", flow).await;
    let priorities = [Priority::Rest, Priority::Base, Priority::Audio, Priority::Control];
    for (mark, priority) in priorities.into_iter().enumerate() {
        a.workers[0].send(at_a, flow, priority, &rtp(mark as u8, 200));
    }
    let mut received = b.workers[1].receive(4).await;
    received.sort_by_key(|packet| packet.packet[2]);
    for (mark, packet) in received.iter().enumerate() {
        assert_eq!((packet.link, packet.flow), (at_b, flow.raw()));
        assert_eq!(packet.packet, rtp(mark as u8, 200));
    }

    let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0];
    b.workers[1].send(at_b, flow, Priority::Control, &nack);
    let feedback = a.workers[0].receive(1).await;
    assert_eq!((feedback[0].link, feedback[0].flow), (at_a, flow.raw()));
    assert_eq!((feedback[0].priority, feedback[0].packet.as_slice()), (Priority::Control, &nack[..]));
    // Both nodes count the requested packets.
    until(|| (b.links.list()[0].stats.nacked_out, a.links.list()[0].stats.nacked_in) == (1, 1)).await;
    let (at_a, at_b) = (a.links.list()[0].stats, b.links.list()[0].stats);
    assert_eq!((at_a.nacked_out, at_b.nacked_in), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_connections_are_one_link() {
    let cluster = TestCluster::new();
    let options = || Options { connections: 3, ..Options::default() };
    let mut a = cluster.node_with("cph-1", options()).await;
    let mut b = cluster.node_with("sto-1", options()).await;
    let (at_a, _) = linked(&mut a, &mut b, "ku.dk/lecture").await;
    let mut numbers = FlowNumbers::new(Parity::of(&b.id(), &a.id()));
    for mark in 0..6 {
        let flow = numbers.allocate(0).unwrap();
        subscribe(&b, &mut a, "ku.dk/lecture", flow).await;
        a.workers[0].send(at_a, flow, Priority::Base, &rtp(mark, 100));
    }
    assert_eq!(b.workers[0].receive(6).await.len(), 6);
    assert_eq!((a.links.list().len(), b.links.list().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_packet_is_split_and_joined() {
    let cluster = TestCluster::new();
    let small = || Options { max_mtu: 1232, ..Options::default() };
    let mut a = cluster.node_with("cph-1", small()).await;
    let mut b = cluster.node_with("sto-1", small()).await;
    let (at_a, _) = linked(&mut a, &mut b, "ku.dk/lecture").await;
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    subscribe(&b, &mut a, "ku.dk/lecture", flow).await;
    a.workers[0].send(at_a, flow, Priority::Rest, &rtp(7, 1400));
    assert_eq!(b.workers[0].receive(1).await[0].packet, rtp(7, 1400));
    until(|| (a.links.list()[0].stats.split, b.links.list()[0].stats.joined) == (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_quic_there_is_no_link() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = PeerAddress { quic: silent.local_addr().unwrap(), ..b.address.clone() };
    a.links.open_room("ku.dk/lecture", address, 1, 1);
    assert!(matches!(a.next().await, LinkEvent::Unreachable { .. }));
    assert!(b.is_quiet(), "a session alone is no link");
    assert!(a.links.list().is_empty() && b.links.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_grpc_there_is_no_link() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = PeerAddress { grpc: silent.local_addr().unwrap(), ..b.address.clone() };
    a.links.open_room("ku.dk/lecture", address, 1, 1);
    assert!(matches!(a.next().await, LinkEvent::Unreachable { .. }));
    assert!(b.is_quiet());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_ca_is_refused_both_ways() {
    let (ours, theirs) = (TestCluster::new(), TestCluster::new());
    let mut honest = ours.node("cph-1").await;
    // Its CA mints our trust domain, and it trusts itself and us.
    let mut minted = theirs.node("sto-1").await;
    minted.links.open_room("ku.dk/lecture", honest.address.clone(), 1, 1);
    assert!(matches!(minted.next().await, LinkEvent::Unreachable { .. }));
    honest.links.open_room("ku.dk/lecture", minted.address.clone(), 1, 1);
    assert!(matches!(honest.next().await, LinkEvent::Unreachable { .. }));
    assert!(honest.handler.asked.lock().unwrap().is_empty());
    let refused = honest.links.reserve(&minted.address, ReserveRequest::default()).await;
    assert!(matches!(refused, Err(CallError::Unreachable(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_cannot_answer_for_the_dialled_one() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("aws-sto-1").await);
    cluster.directory.list("sto-1");
    let address = PeerAddress { id: relay("sto-1"), ..b.address.clone() };
    a.links.open_room("ku.dk/lecture", address, 1, 1);
    assert!(matches!(a.next().await, LinkEvent::Unreachable { peer, .. } if peer == relay("sto-1")));
    assert!(b.is_quiet());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_the_peer_refuses_gets_no_messages() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    linked(&mut a, &mut b, "ku.dk/open").await;
    a.links.open_room("closed/exam", b.address.clone(), 1, 1);
    match a.event().await {
        LinkEvent::RoomRefused { room, by_us: false, reason, rules, .. } => {
            assert_eq!((&*room, reason.as_str()), ("closed/exam", "not in the EEA"));
            assert_eq!(rules, ["ku.dk/eea"]);
        }
        other => panic!("{other:?}"),
    }
    let update = || RoomBody::StateUpdate(StateUpdate::default());
    assert_eq!(a.links.send(&b.id(), "closed/exam", update()), Err(RoomSendError::RoomNotOpen));
    assert_eq!(b.links.send(&a.id(), "closed/exam", update()), Err(RoomSendError::RoomNotOpen));
    assert_eq!(a.links.send(&relay("osl-1"), "ku.dk/open", update()), Err(RoomSendError::NoLink));
    // The open room is not affected, and no message of the refused one arrives before.
    a.links.send(&b.id(), "ku.dk/open", update()).unwrap();
    assert!(matches!(b.event().await, LinkEvent::Message { room, .. } if &*room == "ku.dk/open"));
    let asked = b.handler.asked.lock().unwrap().clone();
    assert_eq!(asked[1], (a.id(), "closed/exam".to_owned()), "the handler gets the proven id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_this_node_refuses_to_the_proven_peer_is_closed_at_both_nodes() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    linked(&mut a, &mut b, "ku.dk/open").await;
    a.links.open_room("unwanted/exam", b.address.clone(), 1, 1);
    match a.event().await {
        LinkEvent::RoomRefused { room, by_us: true, reason, rules, .. } => {
            assert_eq!((&*room, reason.as_str()), ("unwanted/exam", "not with that key"));
            assert_eq!(rules, ["ku.dk/key"]);
        }
        other => panic!("{other:?}"),
    }
    b.opened(&a.id(), "unwanted/exam").await;
    match b.event().await {
        LinkEvent::RoomRefused { room, by_us: false, reason, .. } => {
            assert_eq!((&*room, reason.as_str()), ("unwanted/exam", "not with that key"));
        }
        other => panic!("{other:?}"),
    }
    for (from, to) in [(&a, &b), (&b, &a)] {
        let speakers = RoomBody::Speakers(Speakers::default());
        let sent = from.links.send(&to.id(), "unwanted/exam", speakers);
        assert_eq!(sent, Err(RoomSendError::RoomNotOpen));
    }
    assert_eq!(a.links.list()[0].rooms.len(), 1, "the other room stays open");
    let proven = a.links.identity(&b.id()).unwrap();
    let opened = a.handler.opened.lock().unwrap().clone();
    assert_eq!(opened[1], (proven, "unwanted/exam".to_owned()), "the handler gets the proven identity");
    assert!(b.handler.opened.lock().unwrap().is_empty(), "the peer requested nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order_and_a_closed_room_is_closed_at_both_nodes() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    linked(&mut a, &mut b, "ku.dk/lecture").await;
    for layer in 0..100 {
        let body = RoomBody::KeyFrame(KeyFrame { track_sid: "TR_x".to_owned(), layer });
        a.links.send(&b.id(), "ku.dk/lecture", body).unwrap();
    }
    for expected in 0..100 {
        match b.event().await {
            LinkEvent::Message { body: RoomBody::KeyFrame(KeyFrame { layer, .. }), .. } => {
                assert_eq!(layer, expected);
            }
            other => panic!("{other:?}"),
        }
    }
    b.links.close_room("ku.dk/lecture", &a.id());
    assert!(matches!(a.event().await, LinkEvent::RoomClosed { .. }));
    let speakers = RoomBody::Speakers(Speakers::default());
    assert_eq!(a.links.send(&b.id(), "ku.dk/lecture", speakers), Err(RoomSendError::RoomNotOpen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_grant_has_ended_is_closed_by_the_link_until_it_is_renewed() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (at_a, _) = linked(&mut a, &mut b, "ku.dk/lecture").await;
    let mut numbers = FlowNumbers::new(Parity::of(&b.id(), &a.id()));
    let ended = numbers.allocate(0).unwrap();
    subscribe(&b, &mut a, "ku.dk/lecture", ended).await;
    a.workers[0].send(at_a, ended, Priority::Audio, &rtp(1, 100));
    assert_eq!(b.workers[0].receive(1).await[0].flow, ended.raw());
    a.handler.ended.lock().unwrap().insert("ku.dk/lecture".to_owned());
    match a.event().await {
        LinkEvent::RoomRefused { room, by_us: true, reason, .. } => {
            assert_eq!(&*room, "ku.dk/lecture");
            assert!(reason.contains("grant has ended"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(b.event().await, LinkEvent::RoomClosed { .. }));
    for (from, to) in [(&a, &b), (&b, &a)] {
        let speakers = RoomBody::Speakers(Speakers::default());
        let sent = from.links.send(&to.id(), "ku.dk/lecture", speakers);
        assert_eq!(sent, Err(RoomSendError::RoomNotOpen));
    }
    // The room's task may ask again: nothing is sent.
    a.links.open_room("ku.dk/lecture", b.address.clone(), 2, 1);
    a.links.open_room("ku.dk/seminar", b.address.clone(), 1, 1);
    assert!(matches!(a.event().await, LinkEvent::RoomOpened { room, .. } if &*room == "ku.dk/seminar"));
    // A worker that still sends the room's media changes nothing.
    b.opened(&a.id(), "ku.dk/seminar").await;
    let open = numbers.allocate(0).unwrap();
    subscribe(&b, &mut a, "ku.dk/seminar", open).await;
    for flow in [ended, open] {
        a.workers[0].send(at_a, flow, Priority::Audio, &rtp(2, 100));
    }
    assert_eq!(b.workers[0].receive(1).await[0].flow, open.raw());
    until(|| a.links.list()[0].stats.closed_flow_packets == 1).await;
    let asked: Vec<String> = b.handler.asked.lock().unwrap().iter().map(|(_, room)| room.clone()).collect();
    assert_eq!(asked, ["ku.dk/lecture", "ku.dk/seminar"]);
    // The grant is renewed.
    a.handler.ended.lock().unwrap().clear();
    assert!(matches!(a.event().await, LinkEvent::RoomOpened { room, .. } if &*room == "ku.dk/lecture"));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_a_slow_peer_are_handed_back_and_the_link_stays_up() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (at_a, _) = linked(&mut a, &mut b, "ku.dk/lecture").await;
    let update = |number: usize| {
        let updates = vec![Bytes::from(format!("{number:4096}"))];
        RoomBody::StateUpdate(StateUpdate { updates, snapshot: false })
    };
    let mut sent = 0;
    let back = loop {
        match a.links.send(&b.id(), "ku.dk/lecture", update(sent)) {
            Ok(()) => sent += 1,
            Err(RoomSendError::Full(back)) => break back,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(back.as_deref(), Some(&update(sent)));
    // A lossy message that is too long for datagrams is dropped; speaker changes are handed back.
    let long = RoomBody::LossyData(LossyData { packet: vec![7; 8_000].into(), ..LossyData::default() });
    assert_eq!(a.links.send(&b.id(), "ku.dk/lecture", long), Err(RoomSendError::Full(None)));
    let speakers = RoomBody::Speakers(Speakers::default());
    let back = Err(RoomSendError::Full(Some(Box::new(speakers.clone()))));
    assert_eq!(a.links.send(&b.id(), "ku.dk/lecture", speakers), back);
    // Messages of the link itself, such as OpenRoom, still fit.
    a.links.open_room("ku.dk/seminar", b.address.clone(), 1, 1);
    for number in 0..sent {
        match b.event().await {
            LinkEvent::Message { body, .. } => assert!(body == update(number), "{number} is missing"),
            other => panic!("{other:?}"),
        }
    }
    a.opened(&b.id(), "ku.dk/seminar").await;
    a.links.send(&b.id(), "ku.dk/lecture", update(sent)).unwrap();
    assert_eq!(a.links.list()[0].link, at_a);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_no_room_needs_ends() {
    let cluster = TestCluster::new();
    let short = || Options { linger: Duration::from_millis(100), ..Options::default() };
    let mut a = cluster.node_with("cph-1", short()).await;
    let mut b = cluster.node_with("sto-1", short()).await;
    linked(&mut a, &mut b, "ku.dk/lecture").await;
    a.links.close_room("ku.dk/lecture", &b.id());
    assert!(matches!(b.event().await, LinkEvent::RoomClosed { .. }));
    assert!(matches!(a.event().await, LinkEvent::Down { .. }));
    assert!(matches!(b.event().await, LinkEvent::Down { .. }));
    assert!(a.links.list().is_empty() && b.links.list().is_empty());
    // A new room brings up a new link.
    linked(&mut b, &mut a, "ku.dk/seminar").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_dial_each_other_at_once_have_one_link() {
    for _ in 0..5 {
        let cluster = TestCluster::new();
        let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
        a.links.open_room("ku.dk/lecture", b.address.clone(), 1, 1);
        b.links.open_room("ku.dk/lecture", a.address.clone(), 1, 1);
        a.up(&b.id()).await;
        b.up(&a.id()).await;
        a.opened(&b.id(), "ku.dk/lecture").await;
        b.opened(&a.id(), "ku.dk/lecture").await;
        let body = || RoomBody::StateUpdate(StateUpdate::default());
        a.links.send(&b.id(), "ku.dk/lecture", body()).unwrap();
        b.links.send(&a.id(), "ku.dk/lecture", body()).unwrap();
        assert!(matches!(a.event().await, LinkEvent::Message { .. }));
        assert!(matches!(b.event().await, LinkEvent::Message { .. }));
        assert_eq!((a.links.list().len(), b.links.list().len()), (1, 1));
    }
}

/// The events until the room is open.
async fn until_opened(node: &mut Node) -> Vec<LinkEvent> {
    let mut events = Vec::new();
    loop {
        let event = node.next().await;
        let opened = matches!(event, LinkEvent::RoomOpened { .. });
        events.push(event);
        if opened {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crossing_dials_are_no_failure() {
    let cluster = TestCluster::new();
    for _ in 0..20 {
        let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
        a.links.open_room("ku.dk/lecture", b.address.clone(), 1, 1);
        b.links.open_room("ku.dk/lecture", a.address.clone(), 1, 1);
        for events in [until_opened(&mut a).await, until_opened(&mut b).await] {
            assert!(!events.iter().any(|event| matches!(event, LinkEvent::Unreachable { .. })), "{events:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_restarts_at_another_address_is_linked_again() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    linked(&mut a, &mut b, "ku.dk/lecture").await;
    b.links.shutdown().await;
    drop(b);
    assert!(matches!(a.event().await, LinkEvent::Down { .. }));
    assert!(matches!(a.next().await, LinkEvent::Unreachable { .. }), "no node at the old address");
    let mut b = cluster.node("sto-1").await;
    a.links.open_room("ku.dk/lecture", b.address.clone(), 1, 1);
    a.up(&b.id()).await;
    b.up(&a.id()).await;
    a.opened(&b.id(), "ku.dk/lecture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_restarts_is_linked_again() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (before, _) = linked(&mut a, &mut b, "ku.dk/lecture").await;
    let address = b.address.clone();
    b.links.shutdown().await;
    drop(b);
    assert!(matches!(a.event().await, LinkEvent::Down { link, .. } if link == before));
    let options = Options { quic: address.quic, grpc: address.grpc, ..Options::default() };
    let mut b = cluster.node_with("sto-1", options).await;
    let after = a.up(&b.id()).await;
    assert_ne!(before, after, "a number is never used twice");
    b.up(&a.id()).await;
    a.opened(&b.id(), "ku.dk/lecture").await;
}

/// Forwards UDP between one client and a server while the returned flag is set.
fn udp_forwarder(server: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    let forwarding = Arc::new(AtomicBool::new(true));
    let forwards = forwarding.clone();
    tokio::spawn(async move {
        outside.set_nonblocking(true).unwrap();
        let outside = tokio::net::UdpSocket::from_std(outside).unwrap();
        let inside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut client = None;
        let (mut up, mut down) = (vec![0; 2048], vec![0; 2048]);
        loop {
            tokio::select! {
                Ok((length, from)) = outside.recv_from(&mut up) => {
                    client = Some(from);
                    if forwards.load(Ordering::Relaxed) {
                        let _ = inside.send_to(&up[..length], server).await;
                    }
                }
                Ok((length, _)) = inside.recv_from(&mut down) => {
                    if let Some(client) = client.filter(|_| forwards.load(Ordering::Relaxed)) {
                        let _ = outside.send_to(&down[..length], client).await;
                    }
                }
            }
        }
    });
    (address, forwarding)
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_link_at_both_nodes_and_it_comes_back() {
    let cluster = TestCluster::new();
    let (mut a, mut b): (Node, Node) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (quic, forwarding) = udp_forwarder(b.address.quic);
    let address = PeerAddress { quic, ..b.address.clone() };
    a.links.open_room("ku.dk/lecture", address, 1, 1);
    a.up(&b.id()).await;
    b.up(&a.id()).await;
    a.opened(&b.id(), "ku.dk/lecture").await;
    b.opened(&a.id(), "ku.dk/lecture").await;
    forwarding.store(false, Ordering::Relaxed);
    // The node that detects it first ends the session too, so the other may report that instead.
    let (LinkEvent::Down { reason: at_a, .. }, LinkEvent::Down { reason: at_b, .. }) =
        (a.event().await, b.event().await)
    else {
        panic!("the link stays up");
    };
    assert!([at_a, at_b].contains(&DownReason::Silence));
    forwarding.store(true, Ordering::Relaxed);
    a.up(&b.id()).await;
    a.opened(&b.id(), "ku.dk/lecture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_with_the_grant_that_it_holds() {
    let cluster = TestCluster::new();
    let (a, b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let request = GrantRequest { room: "ku.dk/lecture".to_owned(), ..GrantRequest::default() };
    let reply = a.links.ask_grant(&b.address, request, TIMEOUT).await.unwrap();
    let Some(grant_reply::Result::Assignment(told)) = reply.result else { panic!("{reply:?}") };
    assert_eq!(told.grant, "the grant of ku.dk/lecture");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_admitted_or_refused() {
    let cluster = TestCluster::new();
    let (a, b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let request = |room: &str| ReserveRequest { room: room.to_owned(), ..ReserveRequest::default() };
    let reply = a.links.reserve(&b.address, request("ku.dk/lecture")).await.unwrap();
    let Some(reserve_reply::Result::Admitted(admitted)) = reply.result else { panic!("{reply:?}") };
    assert_eq!(admitted.ttl_seconds, 10);
    let reply = a.links.reserve(&b.address, request("full")).await.unwrap();
    let Some(reserve_reply::Result::Refused(refused)) = reply.result else { panic!("{reply:?}") };
    assert_eq!(refused.reason, "no seat for cph-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn signalling_passes_in_both_directions_and_ends_with_a_reason() {
    let cluster = TestCluster::new();
    let (a, b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let start =
        || SignalStart { room: "ku.dk/lecture".to_owned(), ticket: "a ticket".into(), ..Default::default() };
    let refused = a.links.signal(&b.address, start()).await;
    assert!(
        matches!(refused, Err(CallError::Refused(ref reason)) if reason.contains("no gateways")),
        "{refused:?}"
    );

    let (to, mut streams) = tokio::sync::mpsc::channel(1);
    *b.handler.streams.lock().unwrap() = Some(to);
    let mut gateway = a.links.signal(&b.address, start()).await.unwrap();
    let (peer, started, mut media) = streams.recv().await.unwrap();
    assert_eq!((peer, started.room.as_str()), (a.id(), "ku.dk/lecture"));
    for number in 0..50u8 {
        gateway.tx.send(Bytes::from(vec![number])).unwrap();
        media.tx.send(Bytes::from(vec![number, number])).unwrap();
    }
    for number in 0..50u8 {
        assert_eq!(media.rx.recv().await, SignalEvent::Payload(Bytes::from(vec![number])));
        assert_eq!(gateway.rx.recv().await, SignalEvent::Payload(Bytes::from(vec![number, number])));
    }
    gateway.tx.send_ticket("a renewed ticket".into()).unwrap();
    assert_eq!(media.rx.recv().await, SignalEvent::Ticket("a renewed ticket".into()));
    media.tx.end(SignalEndReason::Closed, "removed");
    let end = SignalEvent::End { reason: SignalEndReason::Closed, detail: "removed".to_owned() };
    assert_eq!(gateway.rx.recv().await, end);
    drop(gateway);
    let lost = tokio::time::timeout(TIMEOUT, media.rx.recv()).await.unwrap();
    assert!(matches!(lost, SignalEvent::Lost(_)), "a stream that ends without a reason is lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lossy_messages_are_datagrams_and_pass_only_in_open_rooms() {
    let cluster = TestCluster::new();
    let small = || Options { max_mtu: 1232, ..Options::default() };
    let mut a = cluster.node_with("cph-1", small()).await;
    let mut b = cluster.node_with("sto-1", small()).await;
    linked(&mut a, &mut b, "ku.dk/lecture").await;
    let lossy = |length: usize| {
        let data =
            LossyData { sender_sid: "PA_x".to_owned(), packet: vec![7; length].into(), ..Default::default() };
        RoomBody::LossyData(data)
    };
    assert_eq!(a.links.send(&b.id(), "ku.dk/other", lossy(10)), Err(RoomSendError::RoomNotOpen));
    // The first fits into one datagram, the second into two; the third uses the session.
    for length in [100, 1_800, 50_000] {
        a.links.send(&b.id(), "ku.dk/lecture", lossy(length)).unwrap();
        match b.event().await {
            LinkEvent::Message { room, body, .. } => {
                assert_eq!((&*room, body), ("ku.dk/lecture", lossy(length)));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut sent = (0, 0, 0);
    while sent != (2, 2, 1) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let (at_a, at_b) = (a.links.list()[0].stats, b.links.list()[0].stats);
        sent = (at_a.data_messages_out, at_b.data_messages_in, at_b.joined);
    }
    // b closes the room while the message is in flight: it is not delivered.
    b.links.close_room("ku.dk/lecture", &a.id());
    let _ = a.links.send(&b.id(), "ku.dk/lecture", lossy(10));
    assert!(matches!(a.event().await, LinkEvent::RoomClosed { .. }));
    assert_eq!(a.links.send(&b.id(), "ku.dk/lecture", lossy(10)), Err(RoomSendError::RoomNotOpen));
    assert!(b.is_quiet());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_arrives_completely() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (at_a, _) = linked(&mut a, &mut b, "ku.dk/lecture").await;
    let flow = FlowNumbers::new(Parity::of(&b.id(), &a.id())).allocate(0).unwrap();
    subscribe(&b, &mut a, "ku.dk/lecture", flow).await;
    for _ in 0..10 {
        let mut batch = a.workers[0].to_links.fresh();
        for mark in 0..600u32 {
            batch.push(at_a, flow.raw(), Priority::Audio, &rtp(mark as u8, 120));
        }
        a.workers[0].to_links.send(batch);
        assert_eq!(b.workers[0].receive(600).await.len(), 600);
    }
}
