//! A hostile node that breaks the protocol; it speaks gRPC and QUIC without this crate.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;
use support::{Node, Options, TIMEOUT, TestCluster, linked, relay, subscribe, until};
use systir_cascade::{DownReason, FlowId, FlowNumbers, LinkEvent, Parity, RoomSendError, SignalEvent, frame};
use systir_forwarding::batch::Priority;
use systir_hostile_node::{HostileNode, LINK, hello};
use systir_proto::cluster::v1::room_message::Body as RoomBody;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::signal_message::Body as SignalBody;
use systir_proto::cluster::v1::{
    Goodbye, GrantRequest, HeartbeatRequest, Hello, KeyFrame, LossyData, OpenRoom, ReserveRequest,
    RoomAssignment, RoomMessage, RoomOpened, SessionMessage, SignalMessage, SignalStart, StateUpdate,
    Subscribe, Unsubscribe,
};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_the_id_that_tls_proved_whatever_it_claims() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = cluster.hostile("aws-sto-1");
    hostile.session(&honest, hello("spiffe://nordu.net/relay/sto-1")).await.unwrap();
    assert!(honest.is_quiet(), "a session alone is no link");
    assert!(hostile.quic(&honest, LINK).await.unwrap());
    honest.up(&relay("aws-sto-1")).await;
    hostile
        .send(Body::OpenRoom(OpenRoom { room: "ku.dk/lecture".to_owned(), epoch: 1, ..OpenRoom::default() }))
        .await
        .unwrap();
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::RoomOpened(_))));
    let asked = honest.handler.asked.lock().unwrap().clone();
    assert_eq!(asked, [(relay("aws-sto-1"), "ku.dk/lecture".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_room_that_policy_did_not_open_are_not_delivered() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = cluster.hostile("sto-1");
    hostile.session(&honest, hello("spiffe://nordu.net/relay/sto-1")).await.unwrap();
    assert!(hostile.quic(&honest, LINK).await.unwrap());
    honest.up(&relay("sto-1")).await;
    let room = || "ku.dk/exam".to_owned();
    // A RoomOpened without a request of the honest node.
    hostile.send(Body::RoomOpened(RoomOpened { room: room() })).await.unwrap();
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::CloseRoom(_))));
    let body = Some(RoomBody::Unsubscribe(Unsubscribe::default()));
    hostile.send(Body::Room(RoomMessage { room: room(), body })).await.unwrap();
    // A room that the honest node's policy refuses.
    let closed = || "closed/exam".to_owned();
    hostile.send(Body::OpenRoom(OpenRoom { room: closed(), epoch: 1, ..OpenRoom::default() })).await.unwrap();
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::RoomRefused(_))));
    let body = Some(RoomBody::Unsubscribe(Unsubscribe::default()));
    hostile.send(Body::Room(RoomMessage { room: closed(), body })).await.unwrap();
    // Messages are handled in order: once this room opens, those before were handled.
    hostile
        .send(Body::OpenRoom(OpenRoom { room: "ku.dk/open".to_owned(), epoch: 1, ..OpenRoom::default() }))
        .await
        .unwrap();
    honest.opened(&relay("sto-1"), "ku.dk/open").await;
    assert!(honest.is_quiet());
    assert_eq!(honest.links.list()[0].stats.closed_room_messages, 2);
    let body = RoomBody::Unsubscribe(Unsubscribe::default());
    assert_eq!(honest.links.send(&relay("sto-1"), "closed/exam", body), Err(RoomSendError::RoomNotOpen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_ignores_the_close_of_a_room_sends_and_gets_nothing_more_of_it() {
    /// Datagrams, so few that loopback loses none.
    const LOSSY: u64 = 5;
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = cluster.hostile("sto-1");
    hostile.session(&honest, hello("x")).await.unwrap();
    assert!(hostile.quic(&honest, LINK).await.unwrap());
    honest.up(&relay("sto-1")).await;
    let room = || "ku.dk/lecture".to_owned();
    let message = || {
        Body::Room(RoomMessage { room: room(), body: Some(RoomBody::Unsubscribe(Unsubscribe::default())) })
    };
    let open = |room: String| Body::OpenRoom(OpenRoom { room, epoch: 1, ..OpenRoom::default() });
    hostile.send(open(room())).await.unwrap();
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::RoomOpened(_))));
    honest.opened(&relay("sto-1"), &room()).await;
    honest.links.close_room(&room(), &relay("sto-1"));
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::CloseRoom(_))));
    hostile.send(message()).await.unwrap();
    // It says that the room is open.
    hostile.send(Body::RoomOpened(RoomOpened { room: room() })).await.unwrap();
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::CloseRoom(_))));
    hostile.send(message()).await.unwrap();
    // A participant's lossy data is sent as datagrams.
    let data = || RoomBody::LossyData(LossyData { packet: vec![7; 100].into(), ..LossyData::default() });
    let datagram = frame::message(&RoomMessage { room: room(), body: Some(data()) });
    for _ in 0..LOSSY {
        hostile.quic[0].send_datagram(datagram.clone()).unwrap();
    }
    until(|| honest.links.list()[0].stats.closed_room_messages >= 2 + LOSSY).await;
    // Messages are handled in order: once this room opens, those before were handled.
    hostile.send(open("ku.dk/open".to_owned())).await.unwrap();
    honest.opened(&relay("sto-1"), "ku.dk/open").await;
    assert!(honest.is_quiet());
    assert_eq!(honest.links.list()[0].stats.closed_room_messages, 2 + LOSSY);
    for body in [RoomBody::Unsubscribe(Unsubscribe::default()), data()] {
        assert_eq!(honest.links.send(&relay("sto-1"), &room(), body), Err(RoomSendError::RoomNotOpen));
    }
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::RoomOpened(_))), "nothing else was sent");
    assert_eq!(honest.links.list()[0].stats.data_messages_out, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quic_connection_without_its_session_is_refused() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut alone = cluster.hostile("sto-1");
    assert!(!alone.quic(&honest, LINK).await.unwrap(), "no session announced the link");
    // Another node's session announces it, and the first node tries to bind to it.
    let mut other = cluster.hostile("osl-1");
    other.session(&honest, hello("x")).await.unwrap();
    assert!(!alone.quic(&honest, LINK).await.unwrap(), "the link belongs to another node");
    assert!(honest.is_quiet());
    assert!(other.quic(&honest, LINK).await.unwrap(), "its own connection is bound");
    honest.up(&relay("osl-1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_hello_is_refused() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let mut hostile = cluster.hostile("sto-1");
    let cases = [
        (Hello { version: 99, ..hello("x") }, Code::FailedPrecondition),
        (Hello { extension_table: 2, ..hello("x") }, Code::FailedPrecondition),
        (Hello { link_id: vec![1, 2].into(), ..hello("x") }, Code::InvalidArgument),
        (Hello { connections: 0, ..hello("x") }, Code::InvalidArgument),
        (Hello { connections: 200, ..hello("x") }, Code::InvalidArgument),
    ];
    for (hello, code) in cases {
        let refused = hostile.session(&honest, hello.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{hello:?}");
    }
    // A peer with the certificate of the honest node itself.
    let mut mirror = cluster.hostile("cph-1");
    let refused = mirror.session(&honest, hello("x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signalling_message_that_is_longer_than_a_client_may_send_is_refused() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let hostile = cluster.hostile("sto-1");
    let mut client = hostile.client(&honest).await.unwrap();
    let start = |length| {
        let start = SignalStart { claims_json: "x".repeat(length), ..SignalStart::default() };
        tokio_stream::once(SignalMessage { seq: 0, body: Some(SignalBody::Start(start)) })
    };
    // The test's node takes no gateways: it has read the message.
    let refused = client.signal(start(2 << 20)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    let refused = client.signal(start(4 << 20)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_on_which_a_peer_sends_nothing_delay_no_other_peer() {
    let cluster = TestCluster::new();
    let (honest, other) = (cluster.node("cph-1").await, cluster.node("osl-1").await);
    let hostile = cluster.hostile("sto-1");
    let client = hostile.client(&honest).await.unwrap();
    let silent: Vec<_> = (0..1_000)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.signal(tokio_stream::pending()).await.map(drop) })
        })
        .collect();
    let refused = other.links.signal(&honest.address, SignalStart::default()).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("no gateways here"), "{refused}");
    for stream in silent {
        let refused = stream.await.unwrap().unwrap_err();
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&refused.code()), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_message_that_is_no_short_hello_is_not_read() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let mut hostile = cluster.hostile("sto-1");
    let refused = hostile.session(&honest, hello(&"x".repeat(100_000))).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    hostile.session(&honest, hello(&"x".repeat(1_000))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_of_a_connection_waits_for_its_first_message_at_a_time() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let hostile = cluster.hostile("sto-1");
    let mut client = hostile.client(&honest).await.unwrap();
    let silent = {
        let mut client = client.clone();
        tokio::spawn(async move { client.session(tokio_stream::pending()).await.map(drop) })
    };
    let request = || tokio_stream::once(SessionMessage { body: Some(Body::Hello(hello("x"))) });
    // The first ones may be faster than the silent one.
    let mut waits = false;
    while !waits && !silent.is_finished() {
        let answer = tokio::time::timeout(Duration::from_millis(500), client.session(request())).await;
        waits = answer.map(Result::unwrap).is_err();
    }
    assert!(waits, "sessions are accepted while the first message of another is awaited");
    silent.abort();
    client.session(request()).await.unwrap();
    let mut other = cluster.hostile("osl-1");
    other.session(&honest, hello("x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_very_many_entries_ends_the_link_before_it_is_decoded() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let hostile = in_room(&cluster, &mut honest, "sto-1", "ku.dk/lecture").await;
    let update = |entries| {
        let updates = vec![bytes::Bytes::new(); entries];
        room_message("ku.dk/lecture", RoomBody::StateUpdate(StateUpdate { updates, snapshot: false }))
    };
    hostile.send(update(10_000)).await.unwrap();
    assert!(matches!(honest.event().await, LinkEvent::Message { .. }));
    hostile.send(update(8_000_000)).await.unwrap();
    match honest.down().await {
        DownReason::Session(reason) => assert!(reason.contains("entries"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_too_long_are_neither_kept_nor_passed_on_nor_sent_back() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = in_room(&cluster, &mut honest, "sto-1", "ku.dk/lecture").await;
    let long = || "x".repeat(4 << 20);
    let flow = FlowNumbers::new(Parity::of(&relay("sto-1"), &honest.id())).allocate(0).unwrap();
    let bodies = [
        RoomBody::Subscribe(Subscribe { track_sid: long(), layer: 0, flow: flow.raw() }),
        RoomBody::Unsubscribe(Unsubscribe { track_sid: long(), layer: 0 }),
        RoomBody::KeyFrame(KeyFrame { track_sid: long(), layer: 0 }),
        RoomBody::Assignment(RoomAssignment { grant: long(), ..RoomAssignment::default() }),
    ];
    let messages = bodies.map(|body| room_message("ku.dk/lecture", body));
    let open = |room: String, grant: String| Body::OpenRoom(OpenRoom { room, grant, ..OpenRoom::default() });
    let opened = Body::RoomOpened(RoomOpened { room: long() });
    for message in messages.into_iter().chain([open(long(), String::new()), opened]) {
        hostile.send(message).await.unwrap();
    }
    hostile.send(open("ku.dk/exam".to_owned(), long())).await.unwrap();
    match hostile.receive().await.unwrap() {
        Some(Body::RoomRefused(refused)) => assert_eq!(refused.room, "ku.dk/exam"),
        other => panic!("{other:?}"),
    }
    assert!(honest.is_quiet());
    until(|| honest.links.list()[0].stats.closed_room_messages == 6).await;
    hostile.send(Body::Goodbye(Goodbye { reason: long() })).await.unwrap();
    match honest.down().await {
        DownReason::Goodbye(reason) => assert!(reason.len() < 1_000),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_makes_a_bounded_number_of_calls_with_signatures_on_all_connections_together() {
    const CALLS: u32 = 20;
    let cluster = TestCluster::new();
    let options = Options { join_calls: (CALLS, Duration::from_secs(3600)), ..Options::default() };
    let (honest, other) = (cluster.node_with("cph-1", options).await, cluster.node("osl-1").await);
    let hostile = cluster.hostile("sto-1");
    let mut answered = 0;
    for _ in 0..5 {
        let mut client = hostile.client(&honest).await.unwrap();
        for number in 0..12 {
            let outcome = match number % 3 {
                0 => client.reserve(ReserveRequest::default()).await.map(drop),
                1 => client.ask_grant(GrantRequest::default()).await.map(drop),
                _ => {
                    let start = SignalBody::Start(SignalStart::default());
                    let start = SignalMessage { seq: 0, body: Some(start) };
                    client.signal(tokio_stream::once(start)).await.map(drop)
                }
            };
            match outcome.map_err(|status| status.code()) {
                Err(Code::ResourceExhausted) => {}
                // The test's node takes no gateways.
                Ok(()) | Err(Code::PermissionDenied) => answered += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        // What has no signature is answered.
        client.heartbeat(HeartbeatRequest {}).await.unwrap();
    }
    assert_eq!(answered, CALLS);
    other.links.reserve(&honest.address, ReserveRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_renews_a_ticket_a_bounded_number_of_times() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let (streams, mut accepted) = tokio::sync::mpsc::channel(1);
    *honest.handler.streams.lock().unwrap() = Some(streams);
    let hostile = cluster.hostile("sto-1");
    let mut client = hostile.client(&honest).await.unwrap();
    let start = SignalBody::Start(SignalStart::default());
    let tickets = (0..1_000).map(|_| SignalBody::Ticket(vec![7; 500].into()));
    let all = std::iter::once(start).chain(tickets).zip(0..);
    let messages = all.map(|(body, seq)| SignalMessage { seq, body: Some(body) }).collect::<Vec<_>>();
    let signal = client.signal(tokio_stream::iter(messages));
    let (_open, (_, _, mut stream)) = tokio::join!(signal, async { accepted.recv().await.unwrap() });
    let mut passed_on = 0;
    loop {
        match stream.rx.recv().await {
            SignalEvent::Ticket(_) => passed_on += 1,
            SignalEvent::Lost(reason) => break assert!(reason.contains("too often"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert!((32..1_000).contains(&passed_on), "{passed_on}");
}

/// A hostile node with a link on which a room is open.
async fn in_room(cluster: &TestCluster, honest: &mut Node, name: &str, room: &str) -> HostileNode {
    let mut hostile = cluster.hostile(name);
    hostile.session(&*honest, hello("x")).await.unwrap();
    assert!(hostile.quic(&*honest, LINK).await.unwrap());
    honest.up(&relay(name)).await;
    let open = OpenRoom { room: room.to_owned(), epoch: 1, ..OpenRoom::default() };
    hostile.send(Body::OpenRoom(open)).await.unwrap();
    assert!(matches!(hostile.receive().await.unwrap(), Some(Body::RoomOpened(_))));
    honest.opened(&relay(name), room).await;
    hostile
}

fn room_message(room: &str, body: RoomBody) -> Body {
    Body::Room(RoomMessage { room: room.to_owned(), body: Some(body) })
}

/// The datagram of a packet.
fn datagram(flow: FlowId, packet: &[u8]) -> bytes::Bytes {
    let mut out = bytes::BytesMut::new();
    frame::write_packet(&mut out, flow, packet);
    out.freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_a_link_takes_no_place_of_another_link_and_unknown_flows_reach_no_worker() {
    let cluster = TestCluster::new();
    let (mut honest, mut other) = (cluster.node("cph-1").await, cluster.node("osl-1").await);
    let (_, at_other) = linked(&mut honest, &mut other, "ku.dk/seminar").await;
    let hostile = in_room(&cluster, &mut honest, "sto-1", "ku.dk/lecture").await;
    let at_hostile = honest.links.list().iter().find(|link| link.peer == relay("sto-1")).unwrap().link;
    let stats = |honest: &Node| {
        let links = honest.links.list();
        links.iter().find(|link| link.link == at_hostile).map(|link| link.stats).unwrap()
    };
    let mut flows = FlowNumbers::new(Parity::of(&honest.id(), &relay("sto-1")));
    let (known, unknown) = (flows.allocate(0).unwrap(), flows.allocate(0).unwrap());
    let wanted = Subscribe { track_sid: "TR_y".to_owned(), layer: 0, flow: known.raw() };
    honest.links.send(&relay("sto-1"), "ku.dk/lecture", RoomBody::Subscribe(wanted)).unwrap();
    // It says that all of its packets are control.
    let packet = [&[0x80, 205][..], &[7; 1_000]].concat();
    let connection = hostile.quic[0].clone();
    let flood = |flow| {
        let (connection, datagram) = (connection.clone(), datagram(flow, &packet));
        tokio::spawn(async move { while connection.send_datagram_wait(datagram.clone()).await.is_ok() {} })
    };
    let of_unknown = flood(unknown);
    until(|| stats(&honest).unroutable > 5_000).await;
    of_unknown.abort();
    assert!(honest.workers[0].from_links.recv().is_none(), "nobody subscribed to the flow");
    // The worker reads nothing meanwhile.
    let of_known = flood(known);
    until(|| stats(&honest).over_share > 1_000).await;
    let flow = FlowNumbers::new(Parity::of(&honest.id(), &other.id())).allocate(0).unwrap();
    subscribe(&honest, &mut other, "ku.dk/seminar", flow).await;
    let seminar = honest.links.list().into_iter().find(|link| link.peer == other.id()).unwrap().link;
    let of_seminar = |honest: &Node| {
        let links = honest.links.list();
        links.iter().find(|link| link.link == seminar).map(|link| link.stats).unwrap()
    };
    let media = |number: u8| [&[0x80, 96, 0, number][..], &[0; 500]].concat();
    // The kernel drops datagrams of a socket that is flooded: packets are sent until enough have arrived.
    let mut numbers = 0..=u8::MAX;
    let worker = &mut other.workers[0];
    until(|| {
        for number in numbers.by_ref().take(5) {
            worker.send(at_other, flow, Priority::Rest, &media(number));
        }
        of_seminar(&honest).packets_in >= 50
    })
    .await;
    let arrived = of_seminar(&honest);
    of_known.abort();
    let mut of_other = Vec::new();
    while let Some(batch) = honest.workers[0].from_links.recv() {
        let packets = batch.iter().filter(|(entry, _)| entry.peer == seminar);
        of_other.extend(packets.map(|(_, packet)| packet.to_vec()));
    }
    assert!(of_other.len() as u64 >= arrived.packets_in, "{} of {arrived:?}", of_other.len());
    assert!(of_other.is_sorted_by_key(|packet| packet[3]));
    assert!(of_other.iter().all(|packet| *packet == media(packet[3])));
    assert_eq!(of_seminar(&honest).over_share, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_datagrams_are_counted_and_dropped() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = cluster.hostile("sto-1");
    hostile.session(&honest, hello("x")).await.unwrap();
    assert!(hostile.quic(&honest, LINK).await.unwrap());
    honest.up(&relay("sto-1")).await;
    let connection = &hostile.quic[0];
    let send = |bytes: &[u8]| connection.send_datagram(bytes.to_vec().into()).unwrap();
    send(&[]);
    send(&[31, 1, 2]);
    send(&[0xc0]);
    // cph-1 has the smaller id, so it chooses even flows. It has no worker 15.
    send(&[(1u8 << 5) | 15 << 1, 0x80, 96]);
    // Feedback for an odd flow, which cph-1 would send but does not.
    send(&[(1u8 << 5) | 1, 0x81, 205]);
    let counted = async {
        loop {
            let stats = honest.links.list()[0].stats;
            if (stats.malformed, stats.unroutable) == (3, 2) {
                assert_eq!(stats.packets_in, 0);
                break;
            }
            assert!(stats.malformed <= 3 && stats.unroutable <= 2, "{stats:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, counted).await.unwrap();
    for worker in &mut honest.workers {
        assert!(worker.from_links.recv().is_none());
    }
}
