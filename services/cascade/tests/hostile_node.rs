//! A hostile node that breaks the protocol; it speaks gRPC and QUIC without this crate.

#![allow(clippy::unwrap_used)]

mod support;

use quinn::crypto::rustls::QuicClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use support::{Node, TestCluster, relay};
use systir_cascade::RoomSendError;
use systir_identity::{Credentials, alpn};
use systir_proto::cluster::v1::cluster_client::ClusterClient;
use systir_proto::cluster::v1::room_message::Body as RoomBody;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{Hello, OpenRoom, RoomMessage, RoomOpened, SessionMessage, Unsubscribe};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

const LINK: [u8; 16] = [9; 16];

struct HostileNode {
    credentials: Credentials,
    endpoint: quinn::Endpoint,
    out: mpsc::Sender<SessionMessage>,
    stream: Option<Streaming<SessionMessage>>,
    quic: Vec<quinn::Connection>,
}

async fn channel(credentials: &Credentials, to: &Node) -> ClusterClient<Channel> {
    let tls = Arc::new(credentials.client_config(&to.id(), alpn::GRPC).unwrap());
    let address = to.address.grpc;
    let connect = tower::service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from("anyone").unwrap();
            let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    ClusterClient::new(Endpoint::from_static("http://x").connect_with_connector(connect).await.unwrap())
}

fn hello(claimed: &str) -> Hello {
    Hello {
        version: systir_proto::LINK_VERSION,
        extension_table: 1,
        link_id: LINK.to_vec().into(),
        node: claimed.to_owned(),
        connections: 1,
    }
}

impl HostileNode {
    fn new(credentials: Credentials) -> Self {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (out, _) = mpsc::channel(1);
        Self { credentials, endpoint, out, stream: None, quic: Vec::new() }
    }

    async fn session(&mut self, to: &Node, hello: Hello) -> Result<(), Status> {
        let (out, messages) = mpsc::channel(64);
        out.try_send(SessionMessage { body: Some(Body::Hello(hello)) }).unwrap();
        let mut client = channel(&self.credentials, to).await;
        let stream = client.session(ReceiverStream::new(messages)).await?.into_inner();
        (self.out, self.stream) = (out, Some(stream));
        assert!(matches!(self.receive().await, Some(Body::Hello(_))));
        Ok(())
    }

    /// Connects by QUIC and requests to bind the connection to a link. Was it confirmed?
    async fn quic(&mut self, to: &Node, link: [u8; 16]) -> bool {
        let tls = self.credentials.client_config(&to.id(), alpn::LINK).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = self.endpoint.connect_with(config, to.address.quic, "anyone").unwrap();
        let connection = connecting.await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let request = [&[1][..], &link, &[0, 1]].concat();
        send.write_all(&request).await.unwrap();
        let mut answer = [0];
        let confirmed = recv.read_exact(&mut answer).await.is_ok() && answer == [1];
        self.quic.push(connection);
        confirmed
    }

    async fn send(&self, body: Body) {
        self.out.send(SessionMessage { body: Some(body) }).await.unwrap();
    }

    async fn receive(&mut self) -> Option<Body> {
        self.stream.as_mut().unwrap().message().await.unwrap().unwrap().body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_the_id_that_tls_proved_whatever_it_claims() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = HostileNode::new(cluster.credentials("aws-sto-1"));
    hostile.session(&honest, hello("spiffe://nordu.net/relay/sto-1")).await.unwrap();
    assert!(honest.is_quiet(), "a session alone is no link");
    assert!(hostile.quic(&honest, LINK).await);
    honest.up(&relay("aws-sto-1")).await;
    hostile
        .send(Body::OpenRoom(OpenRoom { room: "ku.dk/lecture".to_owned(), epoch: 1, policy_version: 1 }))
        .await;
    assert!(matches!(hostile.receive().await, Some(Body::RoomOpened(_))));
    let asked = honest.handler.asked.lock().unwrap().clone();
    assert_eq!(asked, [(relay("aws-sto-1"), "ku.dk/lecture".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_room_that_policy_did_not_open_are_not_delivered() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = HostileNode::new(cluster.credentials("sto-1"));
    hostile.session(&honest, hello("spiffe://nordu.net/relay/sto-1")).await.unwrap();
    assert!(hostile.quic(&honest, LINK).await);
    honest.up(&relay("sto-1")).await;
    let room = || "ku.dk/exam".to_owned();
    // A RoomOpened without a request of the honest node.
    hostile.send(Body::RoomOpened(RoomOpened { room: room() })).await;
    assert!(matches!(hostile.receive().await, Some(Body::CloseRoom(_))));
    let body = Some(RoomBody::Unsubscribe(Unsubscribe::default()));
    hostile.send(Body::Room(RoomMessage { room: room(), body })).await;
    // A room that the honest node's policy refuses.
    let closed = || "closed/exam".to_owned();
    hostile.send(Body::OpenRoom(OpenRoom { room: closed(), epoch: 1, policy_version: 1 })).await;
    assert!(matches!(hostile.receive().await, Some(Body::RoomRefused(_))));
    let body = Some(RoomBody::Unsubscribe(Unsubscribe::default()));
    hostile.send(Body::Room(RoomMessage { room: closed(), body })).await;
    // Messages are handled in order: once this room opens, those before were handled.
    hostile
        .send(Body::OpenRoom(OpenRoom { room: "ku.dk/open".to_owned(), epoch: 1, policy_version: 1 }))
        .await;
    honest.opened(&relay("sto-1"), "ku.dk/open").await;
    assert!(honest.is_quiet());
    assert_eq!(honest.links.list()[0].stats.closed_room_messages, 2);
    let body = RoomBody::Unsubscribe(Unsubscribe::default());
    assert_eq!(honest.links.send(&relay("sto-1"), "closed/exam", body), Err(RoomSendError::RoomNotOpen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quic_connection_without_its_session_is_refused() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut alone = HostileNode::new(cluster.credentials("sto-1"));
    assert!(!alone.quic(&honest, LINK).await, "no session announced the link");
    // Another node's session announces it, and the first node tries to bind to it.
    let mut other = HostileNode::new(cluster.credentials("osl-1"));
    other.session(&honest, hello("x")).await.unwrap();
    assert!(!alone.quic(&honest, LINK).await, "the link belongs to another node");
    assert!(honest.is_quiet());
    assert!(other.quic(&honest, LINK).await, "its own connection is bound");
    honest.up(&relay("osl-1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_hello_is_refused() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    let mut hostile = HostileNode::new(cluster.credentials("sto-1"));
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
    let mut mirror = HostileNode::new(cluster.credentials("cph-1"));
    let refused = mirror.session(&honest, hello("x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_datagrams_are_counted_and_dropped() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = HostileNode::new(cluster.credentials("sto-1"));
    hostile.session(&honest, hello("x")).await.unwrap();
    assert!(hostile.quic(&honest, LINK).await);
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
    tokio::time::timeout(support::TIMEOUT, counted).await.unwrap();
    for worker in &mut honest.workers {
        assert!(worker.from_links.recv().is_none());
    }
}
