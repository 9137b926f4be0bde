//! The links of whole nodes on loopback, with certificates of a development CA.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod impaired_path;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use systir_cascade::{
    BoxFuture, FlowId, Handler, LinkEvent, Links, LinksConfig, PeerAddress, SignalStream, WorkerPort,
};
use systir_forwarding::batch::{BatchReceiver, BatchSender, Priority, batch_ring};
use systir_identity::{Credentials, NodeCertificate, SpiffeId, TrustBundle, TrustDomain, ca};
use systir_proto::cluster::v1::{
    Admitted, OpenRoom, RefusalCode, ReleaseRequest, ReserveRefused, ReserveReply, ReserveRequest,
    SignalStart, reserve_reply,
};
use systir_reason::{Reason, Refusal};
use tokio::sync::mpsc;

/// Far longer than any step takes; it only ends a failed test.
pub const TIMEOUT: Duration = Duration::from_secs(30);

pub struct TestCluster {
    pub ca: ca::Pem,
    pub bundle: TrustBundle,
}

impl TestCluster {
    pub fn new() -> Self {
        let domain = TrustDomain::new("nordu.net").unwrap();
        let ca = ca::create(&domain, SystemTime::now()).unwrap();
        let bundle = TrustBundle::new().with(domain, &ca.certificate).unwrap();
        Self { ca, bundle }
    }

    pub fn credentials(&self, name: &str) -> Credentials {
        let pem = ca::issue(&self.ca, &relay(name), SystemTime::now(), ca::NODE_LIFE).unwrap();
        let certificate = NodeCertificate::from_pem(&pem.certificate, &pem.key).unwrap();
        Credentials::new(certificate, self.bundle.clone()).unwrap()
    }

    pub async fn node(&self, name: &str) -> Node {
        Node::start(self.credentials(name), Options::default()).await
    }

    pub async fn node_with(&self, name: &str, options: Options) -> Node {
        Node::start(self.credentials(name), options).await
    }
}

pub fn relay(name: &str) -> SpiffeId {
    TrustDomain::new("nordu.net").unwrap().relay(name).unwrap()
}

pub struct Options {
    pub quic: SocketAddr,
    pub grpc: SocketAddr,
    pub max_mtu: u16,
    pub connections: u8,
    pub linger: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { quic: any, grpc: any, max_mtu: 1452, connections: 1, linger: Duration::from_secs(60) }
    }
}

/// Refuses rooms whose key begins with `closed`, and records who requested rooms.
#[derive(Default)]
pub struct TestHandler {
    pub asked: Mutex<Vec<(SpiffeId, String)>>,
    pub streams: Mutex<Option<mpsc::Sender<(SpiffeId, SignalStart, SignalStream)>>>,
}

impl Handler for TestHandler {
    fn admit(&self, peer: &SpiffeId) -> Result<(), Refusal> {
        match peer.relay_name() {
            Some("unknown") => Err(Refusal::new(Reason::RoomRefused, "unknown node")),
            _ => Ok(()),
        }
    }

    fn open_room<'a>(&'a self, peer: &'a SpiffeId, room: &'a OpenRoom) -> BoxFuture<'a, Result<(), Refusal>> {
        self.asked.lock().unwrap().push((peer.clone(), room.room.clone()));
        let refused = room.room.starts_with("closed");
        Box::pin(async move {
            if refused {
                Err(Refusal::new(Reason::Forbidden, "not in the EEA")
                    .with_rules(vec!["ku.dk/eea".to_owned()]))
            } else {
                Ok(())
            }
        })
    }

    fn reserve<'a>(&'a self, peer: &'a SpiffeId, request: ReserveRequest) -> BoxFuture<'a, ReserveReply> {
        let result = if request.room.starts_with("full") {
            reserve_reply::Result::Refused(ReserveRefused {
                code: RefusalCode::Full.into(),
                reason: format!("no seat for {}", peer.relay_name().unwrap_or_default()),
                rules: Vec::new(),
            })
        } else {
            reserve_reply::Result::Admitted(Admitted { ttl_seconds: 10, epoch: request.epoch })
        };
        Box::pin(async move { ReserveReply { result: Some(result) } })
    }

    fn release<'a>(&'a self, _peer: &'a SpiffeId, _request: ReleaseRequest) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn signal<'a>(
        &'a self,
        peer: &'a SpiffeId,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        let to = self.streams.lock().unwrap().clone();
        Box::pin(async move {
            let to = to.ok_or_else(|| Refusal::new(Reason::RoomRefused, "no gateways here"))?;
            to.send((peer.clone(), start, stream))
                .await
                .map_err(|_| Refusal::new(Reason::RoomRefused, "gone"))
        })
    }
}

/// A worker's ends of its rings.
pub struct Worker {
    pub to_links: BatchSender,
    pub from_links: BatchReceiver,
    pub notifier: Notifier,
}

/// Wakes the test when packets arrive.
#[derive(Clone, Default)]
pub struct Notifier(Arc<tokio::sync::Notify>);

impl Notifier {
    fn waker(&self) -> std::task::Waker {
        struct Wake(Arc<tokio::sync::Notify>);
        impl std::task::Wake for Wake {
            fn wake(self: Arc<Self>) {
                self.0.notify_one();
            }
        }
        Arc::new(Wake(self.0.clone())).into()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub link: u32,
    pub flow: u32,
    pub priority: Priority,
    pub packet: Vec<u8>,
}

impl Worker {
    pub fn send(&mut self, link: u32, flow: FlowId, priority: Priority, packet: &[u8]) {
        let mut batch = self.to_links.fresh();
        batch.push(link, flow.raw(), priority, packet);
        self.to_links.send(batch);
    }

    pub async fn receive(&mut self, count: usize) -> Vec<Received> {
        let mut received = Vec::new();
        tokio::time::timeout(TIMEOUT, async {
            while received.len() < count {
                while let Some(batch) = self.from_links.recv() {
                    received.extend(batch.iter().map(|(entry, packet)| Received {
                        link: entry.peer,
                        flow: entry.flow,
                        priority: entry.priority,
                        packet: packet.to_vec(),
                    }));
                    self.from_links.recycle(batch);
                }
                if received.len() < count {
                    self.notifier.0.notified().await;
                }
            }
        })
        .await
        .expect("packets arrive");
        received
    }
}

pub struct Node {
    pub links: Links,
    pub events: mpsc::Receiver<LinkEvent>,
    pub handler: Arc<TestHandler>,
    pub address: PeerAddress,
    pub workers: Vec<Worker>,
}

impl Node {
    pub async fn start(credentials: Credentials, options: Options) -> Self {
        let quic_socket = UdpSocket::bind(options.quic).unwrap();
        let grpc_listener = tokio::net::TcpListener::bind(options.grpc).await.unwrap();
        let address = PeerAddress {
            id: credentials.id().clone(),
            grpc: grpc_listener.local_addr().unwrap(),
            quic: quic_socket.local_addr().unwrap(),
        };
        let mut config = LinksConfig::new(credentials, quic_socket, grpc_listener);
        config.socket_buffer = 200_000;
        config.max_mtu = options.max_mtu;
        config.connections = options.connections;
        config.linger = options.linger;
        let mut workers = Vec::new();
        for _ in 0..2 {
            let notifier = Notifier::default();
            let (to_links, from) = batch_ring(64, config.notifier.waker());
            let (to, from_links) = batch_ring(64, notifier.waker());
            config.workers.push(WorkerPort { from, to });
            workers.push(Worker { to_links, from_links, notifier });
        }
        let handler = Arc::new(TestHandler::default());
        let (links, events) = Links::start(config, handler.clone()).unwrap();
        Self { links, events, handler, address, workers }
    }

    pub fn id(&self) -> SpiffeId {
        self.address.id.clone()
    }

    pub async fn next(&mut self) -> LinkEvent {
        tokio::time::timeout(TIMEOUT, self.events.recv()).await.expect("an event").expect("links run")
    }

    /// The next event other than `Unreachable`, which may repeat.
    pub async fn event(&mut self) -> LinkEvent {
        loop {
            match self.next().await {
                LinkEvent::Unreachable { .. } => {}
                event => return event,
            }
        }
    }

    /// Waits for `Up`. Returns the link number.
    pub async fn up(&mut self, with: &SpiffeId) -> u32 {
        match self.event().await {
            LinkEvent::Up { peer, link, .. } if peer == *with => link,
            other => panic!("{other:?} instead of Up"),
        }
    }

    pub async fn opened(&mut self, with: &SpiffeId, key: &str) {
        match self.event().await {
            LinkEvent::RoomOpened { peer, room, .. } if peer == *with && &*room == key => {}
            other => panic!("{other:?} instead of RoomOpened"),
        }
    }

    pub fn is_quiet(&mut self) -> bool {
        self.events.try_recv().is_err()
    }
}

/// Links two nodes and opens a room. Returns the link number at each.
pub async fn linked(a: &mut Node, b: &mut Node, room: &str) -> (u32, u32) {
    a.links.open_room(room, b.address.clone(), 1, 1);
    let at_a = a.up(&b.id()).await;
    let at_b = b.up(&a.id()).await;
    a.opened(&b.id(), room).await;
    b.opened(&a.id(), room).await;
    (at_a, at_b)
}
