//! A hostile node that breaks the protocol; it speaks gRPC and QUIC without this crate.

#![allow(clippy::unwrap_used)]

mod support;

use support::{TIMEOUT, TestCluster, relay, until};
use systir_cascade::{RoomSendError, frame};
use systir_hostile_node::{LINK, hello};
use systir_proto::cluster::v1::room_message::Body as RoomBody;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::signal_message::Body as SignalBody;
use systir_proto::cluster::v1::{
    Hello, LossyData, OpenRoom, RoomMessage, RoomOpened, SignalMessage, SignalStart, Unsubscribe,
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
