//! The links of whole nodes on loopback, with certificates of a development CA.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod impaired_path;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use systir_cascade::{
    BoxFuture, DownReason, FlowId, Handler, HeldDocument, LinkEvent, Links, LinksConfig, ListedNodes,
    PeerAddress, RoomBody, SignalStream, WorkerPort,
};
use systir_documents::{DocumentHash, DocumentId, NodeKey, PublicKey, SigningKey};
use systir_forwarding::batch::{BatchReceiver, BatchSender, Priority, batch_ring};
use systir_hostile_node::{HostileNode, Target};
use systir_identity::{Credentials, NodeCertificate, ProvenIdentity, SpiffeId, TrustBundle, TrustDomain, ca};
use systir_proto::cluster::v1::{
    Admitted, GrantReply, GrantRequest, OpenRoom, RefusalCode, ReleaseRequest, ReserveRefused, ReserveReply,
    ReserveRequest, RoomAssignment, SignalStart, Subscribe, grant_reply, reserve_reply,
};
use systir_reason::{Reason, Refusal};
use systir_version::VersionRange;
use tokio::sync::mpsc;

/// Far longer than any step takes; it only ends a failed test.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A CA, and the directory that all nodes of a test read.
pub struct TestCluster {
    pub ca: ca::Pem,
    pub bundle: TrustBundle,
    pub directory: Arc<TestDirectory>,
}

impl TestCluster {
    pub fn new() -> Self {
        let domain = TrustDomain::new("nordu.net").unwrap();
        let ca = ca::create(&domain, SystemTime::now()).unwrap();
        let bundle = TrustBundle::new().with(domain, &ca.certificate).unwrap();
        Self { ca, bundle, directory: Arc::default() }
    }

    pub fn certificate(&self, id: &SpiffeId, life: Duration) -> NodeCertificate {
        let pem = ca::issue(&self.ca, id, SystemTime::now(), life).unwrap();
        NodeCertificate::from_pem(&pem.certificate, &pem.key).unwrap()
    }

    pub fn credentials_for(&self, name: &str, life: Duration) -> Credentials {
        Credentials::new(self.certificate(&relay(name), life), self.bundle.clone()).unwrap()
    }

    pub fn credentials(&self, name: &str) -> Credentials {
        self.credentials_for(name, ca::NODE_LIFE)
    }

    /// A node that the directory lists.
    pub async fn node(&self, name: &str) -> Node {
        self.node_with(name, Options::default()).await
    }

    pub async fn node_with(&self, name: &str, options: Options) -> Node {
        self.directory.list(name);
        self.unlisted_node(name, options).await
    }

    /// A node that the directory lists only if another call did so.
    pub async fn unlisted_node(&self, name: &str, options: Options) -> Node {
        let credentials = self.credentials_for(name, options.certificate_life);
        Node::start(credentials, node_key(name), self.directory.clone(), options).await
    }
}

impl TestCluster {
    /// A node that the directory lists and an attacker controls.
    pub fn hostile(&self, name: &str) -> HostileNode {
        self.directory.list(name);
        HostileNode::new(self.credentials(name), node_key(name)).unwrap()
    }
}

impl From<&Node> for Target {
    fn from(node: &Node) -> Self {
        let PeerAddress { id, grpc, quic } = node.address.clone();
        Self { id, grpc, quic }
    }
}

/// The node key of a node.
pub fn node_key(name: &str) -> SigningKey {
    let mut seed = [0; 32];
    for (byte, of_name) in seed.iter_mut().zip(name.bytes()) {
        *byte = of_name;
    }
    SigningKey::from_seed(name, seed).unwrap()
}

/// Lists nodes, each at loopback addresses.
#[derive(Default)]
pub struct TestDirectory {
    nodes: Mutex<HashMap<SpiffeId, Vec<PublicKey>>>,
    /// Addresses where no node may be dialled.
    pub outside: Mutex<Vec<IpAddr>>,
}

impl TestDirectory {
    pub fn list(&self, name: &str) {
        self.list_with(name, &[node_key(name)]);
    }

    pub fn list_with(&self, name: &str, keys: &[SigningKey]) {
        let keys = keys.iter().map(SigningKey::public).collect();
        self.nodes.lock().unwrap().insert(relay(name), keys);
    }

    pub fn remove(&self, name: &str) {
        self.nodes.lock().unwrap().remove(&relay(name));
    }
}

impl ListedNodes for TestDirectory {
    fn node_keys(&self, node: &SpiffeId) -> Vec<PublicKey> {
        self.nodes.lock().unwrap().get(node).cloned().unwrap_or_default()
    }

    fn may_dial(&self, _: &SpiffeId, address: IpAddr) -> bool {
        address == IpAddr::V4(Ipv4Addr::LOCALHOST) && !self.outside.lock().unwrap().contains(&address)
    }

    fn is_node_address(&self, address: IpAddr) -> bool {
        self.may_dial(&relay("any"), address)
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
    pub certificate_life: Duration,
    pub versions: VersionRange,
    pub join_calls: (u32, Duration),
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            quic: any,
            grpc: any,
            max_mtu: 1452,
            connections: 1,
            linger: Duration::from_secs(60),
            certificate_life: ca::NODE_LIFE,
            versions: VersionRange::OWN,
            join_calls: (1_000, Duration::from_millis(1)),
        }
    }
}

/// Refuses requests for rooms whose key begins with `closed`, and rooms that begin with `unwanted` when a peer opens them.
/// Records who requested and opened rooms.
#[derive(Default)]
pub struct TestHandler {
    pub asked: Mutex<Vec<(SpiffeId, String)>>,
    pub opened: Mutex<Vec<(ProvenIdentity, String)>>,
    pub streams: Mutex<Option<mpsc::Sender<(SpiffeId, SignalStart, SignalStream)>>>,
    /// Rooms whose grant has ended.
    pub ended: Mutex<std::collections::BTreeSet<String>>,
    /// The documents of this node.
    pub documents: Mutex<BTreeMap<DocumentId, (u64, Arc<str>)>>,
    /// What peers offered.
    pub offered: Mutex<Vec<(SpiffeId, Vec<HeldDocument>)>>,
    pub offers: tokio::sync::Notify,
}

impl TestHandler {
    pub fn hold(&self, id: &DocumentId, version: u64, text: &str) -> HeldDocument {
        self.documents.lock().unwrap().insert(id.clone(), (version, text.into()));
        HeldDocument { id: id.clone(), version, hash: DocumentHash::of(text) }
    }

    /// The next list of documents that a peer offers.
    pub async fn offer(&self) -> (SpiffeId, Vec<HeldDocument>) {
        let next = async {
            loop {
                let notified = self.offers.notified();
                let first = {
                    let mut offered = self.offered.lock().unwrap();
                    (!offered.is_empty()).then(|| offered.remove(0))
                };
                match first {
                    Some(offer) => return offer,
                    None => notified.await,
                }
            }
        };
        tokio::time::timeout(TIMEOUT, next).await.expect("a list of documents")
    }
}

impl Handler for TestHandler {
    fn open_room<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        room: &'a OpenRoom,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.asked.lock().unwrap().push((peer.id().clone(), room.room.clone()));
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

    fn may_open(&self, peer: &ProvenIdentity, room: &str) -> Result<(), Refusal> {
        self.opened.lock().unwrap().push((peer.clone(), room.to_owned()));
        if room.starts_with("unwanted") {
            return Err(
                Refusal::new(Reason::Forbidden, "not with that key").with_rules(vec!["ku.dk/key".to_owned()])
            );
        }
        Ok(())
    }

    fn grant(&self, room: &str) -> String {
        format!("the grant of {room}")
    }

    fn may_be_open(&self, room: &str) -> bool {
        !self.ended.lock().unwrap().contains(room)
    }

    fn ask_grant<'a>(&'a self, _: &'a ProvenIdentity, request: GrantRequest) -> BoxFuture<'a, GrantReply> {
        let grant = format!("the grant of {}", request.room);
        let told = RoomAssignment { grant, ..RoomAssignment::default() };
        Box::pin(async { GrantReply { result: Some(grant_reply::Result::Assignment(told)) } })
    }

    fn reserve<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        request: ReserveRequest,
    ) -> BoxFuture<'a, ReserveReply> {
        let result = if request.room.starts_with("full") {
            reserve_reply::Result::Refused(ReserveRefused {
                code: RefusalCode::Full.into(),
                reason: format!("no seat for {}", peer.id().relay_name().unwrap_or_default()),
                ..ReserveRefused::default()
            })
        } else {
            reserve_reply::Result::Admitted(Admitted { ttl_seconds: 10, last_join: 0 })
        };
        Box::pin(async move { ReserveReply { result: Some(result) } })
    }

    fn release<'a>(&'a self, _peer: &'a ProvenIdentity, _request: ReleaseRequest) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn signal<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        let to = self.streams.lock().unwrap().clone();
        Box::pin(async move {
            let to = to.ok_or_else(|| Refusal::new(Reason::RoomRefused, "no gateways here"))?;
            to.send((peer.id().clone(), start, stream))
                .await
                .map_err(|_| Refusal::new(Reason::RoomRefused, "gone"))
        })
    }

    fn document_versions(&self) -> Vec<HeldDocument> {
        let documents = self.documents.lock().unwrap();
        let held = documents.iter().map(|(id, (version, text))| HeldDocument {
            id: id.clone(),
            version: *version,
            hash: DocumentHash::of(text),
        });
        held.collect()
    }

    fn documents_offered(&self, peer: &ProvenIdentity, offered: Vec<HeldDocument>) {
        self.offered.lock().unwrap().push((peer.id().clone(), offered));
        self.offers.notify_one();
    }

    fn document(&self, _: &ProvenIdentity, id: &DocumentId, version: u64) -> Option<Arc<str>> {
        let documents = self.documents.lock().unwrap();
        documents.get(id).filter(|(held, _)| *held == version).map(|(_, text)| text.clone())
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
    pub credentials: Credentials,
    pub node_key: NodeKey,
    pub directory: Arc<TestDirectory>,
    pub links: Links,
    pub events: mpsc::Receiver<LinkEvent>,
    pub handler: Arc<TestHandler>,
    pub address: PeerAddress,
    pub workers: Vec<Worker>,
}

impl Node {
    pub async fn start(
        credentials: Credentials,
        node_key: SigningKey,
        directory: Arc<TestDirectory>,
        options: Options,
    ) -> Self {
        let quic_socket = UdpSocket::bind(options.quic).unwrap();
        let grpc_listener = tokio::net::TcpListener::bind(options.grpc).await.unwrap();
        let address = PeerAddress {
            id: credentials.id().clone(),
            grpc: grpc_listener.local_addr().unwrap(),
            quic: quic_socket.local_addr().unwrap(),
        };
        let node_key = NodeKey::from(node_key);
        let mut config = LinksConfig::new(
            credentials.clone(),
            node_key.clone(),
            directory.clone(),
            quic_socket,
            grpc_listener,
        );
        config.socket_buffer = 200_000;
        config.max_mtu = options.max_mtu;
        config.connections = options.connections;
        config.linger = options.linger;
        config.versions = options.versions;
        config.join_calls = options.join_calls;
        let mut workers = Vec::new();
        for _ in 0..2 {
            let notifier = Notifier::default();
            let (to_links, from) = batch_ring(1 << 20, config.notifier.waker());
            let (to, from_links) = batch_ring(1 << 20, notifier.waker());
            config.workers.push(WorkerPort { from, to });
            workers.push(Worker { to_links, from_links, notifier });
        }
        let handler = Arc::new(TestHandler::default());
        let (links, events) = Links::start(config, handler.clone()).unwrap();
        Self { credentials, node_key, directory, links, events, handler, address, workers }
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

    /// Waits for `Down`. Returns why.
    pub async fn down(&mut self) -> DownReason {
        match self.event().await {
            LinkEvent::Down { reason, .. } => reason,
            other => panic!("{other:?} instead of Down"),
        }
    }

    pub fn is_quiet(&mut self) -> bool {
        self.events.try_recv().is_err()
    }
}

/// Waits until counters, which are published now and then, are as they should be.
pub async fn until(mut is: impl FnMut() -> bool) {
    let reached = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, reached).await.expect("the counters");
}

/// `receiver` subscribes to a track, and chooses the flow on which `sender` may then send its packets. Each flow is another
/// track.
pub async fn subscribe(receiver: &Node, sender: &mut Node, room: &str, flow: FlowId) {
    let subscribe = Subscribe { track_sid: format!("TR_{}", flow.raw()), layer: 0, flow: flow.raw() };
    receiver.links.send(&sender.id(), room, RoomBody::Subscribe(subscribe)).unwrap();
    match sender.event().await {
        LinkEvent::Message { body: RoomBody::Subscribe(_), .. } => {}
        other => panic!("{other:?} instead of Subscribe"),
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
