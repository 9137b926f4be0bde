//! A node whose code an attacker controls, with the certificate and the node key of a real node of the cluster. It accepts
//! and confirms everything, and tells honest nodes what the test says.

use std::net::UdpSocket;

use systir_cascade::{
    CallError, HeldDocument, LinkEvent, PeerAddress, RoomBody, RoomSendError, SignalEvent, SignalStream,
};
use systir_documents::{DocumentHash, DocumentId, PublicKey, SigningKey};
use systir_identity::{NodeCertificate, SpiffeId, TrustDomain};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::grant_reply::Result as Asked;
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::{GrantRequest, ReserveRequest, SignalStart};
use systir_registry::{LocalRegistry, NodeLoad};
use systir_room::{ParticipantRecord, SignedTicket, Update};

use super::hostile_script::{Everybody, Script};
use super::*;
use crate::refusal_wire;

fn id_of(node: &str) -> SpiffeId {
    TrustDomain::new("nordu.net").unwrap().relay(node).unwrap()
}

pub(super) struct HostileNode {
    pub(super) name: String,
    /// The room and the join that it asks for and relays.
    pub(super) room: RoomId,
    pub(super) join_id: String,
    pub(super) links: Links,
    events: tokio::sync::mpsc::Receiver<LinkEvent>,
    /// All events so far.
    pub(super) seen: Vec<LinkEvent>,
    script: Arc<Script>,
    registry: LocalRegistry,
    /// Its incarnation in the room, and the number of its last write.
    writes: (u64, u64),
    /// The keys of all nodes.
    keys: Vec<PublicKey>,
    /// Requests to open the room so far.
    requests: u64,
}

impl HostileNode {
    /// It announces a lease with its address, as a member of the cluster can.
    pub(super) async fn start(cluster: &TestCluster, name: &str) -> Self {
        Self::start_with_key_of(cluster, name, name).await
    }

    /// The same with the node key of another node.
    pub(super) async fn start_with_key_of(cluster: &TestCluster, name: &str, key_of: &str) -> Self {
        Self::start_as(cluster, name, key_of, None).await
    }

    /// With its own node key, and a certificate that another CA issued.
    pub(super) async fn start_with_certificate(
        cluster: &TestCluster,
        name: &str,
        certificate: NodeCertificate,
    ) -> Self {
        Self::start_as(cluster, name, name, Some(certificate)).await
    }

    async fn start_as(
        cluster: &TestCluster,
        name: &str,
        key_of: &str,
        certificate: Option<NodeCertificate>,
    ) -> Self {
        let mut config = cluster.config(name, 1);
        // An honest node would not start with keys that policy denies it.
        (config.keys, config.room_keys, config.page.guest_key) = Default::default();
        let start = start::read(&config).unwrap();
        let StartupFiles { credentials, .. } = StartupFiles::read(&config, &start).unwrap();
        if let Some(certificate) = certificate {
            credentials.renew(certificate).unwrap();
        }
        let node_key = cluster.documents.node_key(key_of).unwrap().to_text().parse().unwrap();
        let quic = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let lease = Lease {
            node: name.into(),
            grpc: grpc.local_addr().unwrap().to_string(),
            quic: quic.local_addr().unwrap().to_string(),
            load: NodeLoad { capacity: 100, at_ms: unix_ms(), ..NodeLoad::default() },
            draining: false,
            version: String::new(),
            versions: systir_version::VersionRange::OWN,
        };
        let keys = ["cph-1", "sto-1", "aws-sto-1"]
            .map(|node| (id_of(node), cluster.documents.node_key(node).unwrap().public()));
        let all = keys.iter().map(|(_, key)| key.clone()).collect();
        let listed = Arc::new(Everybody(keys.into()));
        let mut config = LinksConfig::new(credentials, SigningKey::into(node_key), listed, quic, grpc);
        config.socket_buffer = 200_000;
        let script = Arc::new(Script::default());
        let (links, events) = Links::start(config, script.clone()).unwrap();
        let registry = cluster.store.registry();
        registry.announce(lease);
        let (name, seen, writes) = (name.to_owned(), Vec::new(), (unix_ms(), 0));
        let (room, join_id) = (room(), "hostile".to_owned());
        Self { name, room, join_id, links, events, seen, script, registry, writes, keys: all, requests: 0 }
    }

    /// From now on it tells this grant.
    pub(super) fn tell(&self, grant: &str) {
        grant.clone_into(&mut self.script.grant.lock().unwrap());
    }

    /// From now on it refuses seats as a full node does, and tells its grant with the refusal.
    pub(super) fn refuses_seats(&self) {
        self.refuses_seats_with(wire::RefusalCode::Full);
    }

    /// The same for another reason.
    pub(super) fn refuses_seats_with(&self, reason: wire::RefusalCode) {
        *self.script.refuses.lock().unwrap() = Some(reason);
    }

    /// From now on it waits with its answers to requests to open a room, or answers them.
    pub(super) fn waits(&self, waits: bool) {
        self.script.waits.store(waits, Ordering::Relaxed);
    }

    /// Waits until an honest node has made this call.
    pub(super) async fn until_asked(&self, call: &str) {
        let asked = async {
            while !self.asked().contains(&call) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| panic!("{call} is not asked"));
    }

    /// Sends its grant, and that the unapproved node carries the room, over the open room.
    pub(super) fn send_assignment(&self, node: &str, grant: &str) {
        self.tell(grant);
        self.send(node, RoomBody::Assignment(self.script.told()));
    }

    /// States to a node that it has this version of the bundle, which it does not give.
    pub(super) async fn offer_bundle(&self, node: &str, version: u64) {
        let (id, hash) = (DocumentId::bundle("ku.dk"), DocumentHash::of("no such document"));
        *self.script.documents.lock().unwrap() = vec![HeldDocument { id, version, hash }];
        self.links.exchange_documents(&self.address_of(node)).await.unwrap();
    }

    /// Answers the next request for a seat only once the sender is used or dropped.
    pub(super) fn answers_later(&self) -> tokio::sync::oneshot::Sender<()> {
        let (answer, after) = tokio::sync::oneshot::channel();
        *self.script.answers_after.lock().unwrap() = Some(after);
        answer
    }

    /// Reads the signalling of all participants that gateways gave it, until it has ended. Returns what came, and how
    /// each ended.
    pub(super) async fn signalling_until_its_end(&self) -> (Vec<SignalEvent>, Vec<SignalEvent>) {
        let streams = std::mem::take(&mut *self.script.streams.lock().unwrap());
        let (mut seen, mut ends) = (Vec::new(), Vec::new());
        for mut stream in streams {
            loop {
                let next = tokio::time::timeout(TIMEOUT, stream.rx.recv()).await;
                match next.expect("the gateway ends the signalling") {
                    end @ (SignalEvent::End { .. } | SignalEvent::Lost(_)) => {
                        ends.push(end);
                        break;
                    }
                    more => seen.push(more),
                }
            }
        }
        (seen, ends)
    }

    /// The calls that honest nodes made to it.
    pub(super) fn asked(&self) -> Vec<&'static str> {
        self.script.asked.lock().unwrap().clone()
    }

    pub(super) fn address_of(&self, node: &str) -> PeerAddress {
        let view = self.registry.view();
        let lease = view.last_lease(node).unwrap();
        PeerAddress { id: id_of(node), grpc: lease.grpc.parse().unwrap(), quic: lease.quic.parse().unwrap() }
    }

    /// Asks a node for a grant, and tells it one.
    pub(super) async fn ask_grant(
        &self,
        node: &str,
        purpose: wire::GrantPurpose,
        grant: &str,
    ) -> Result<wire::RoomAssignment, Refusal> {
        let request = GrantRequest {
            room: self.room.key(),
            grant: grant.to_owned(),
            purpose: purpose.into(),
            ..GrantRequest::default()
        };
        let reply = self.links.ask_grant(&self.address_of(node), request, TIMEOUT).await;
        match reply.map_err(|error| refusal_wire::of_call(&error))?.result.unwrap() {
            Asked::Assignment(told) => Ok(told),
            Asked::Refused(refused) => Err(refusal_wire::decode(refused)),
        }
    }

    /// Asks a node for a seat. The error is the refusal, and the grant that it tells.
    pub(super) async fn reserve(&self, node: &str, grant: &str) -> Result<(), (Reason, Option<String>)> {
        let request = ReserveRequest {
            room: self.room.key(),
            identity: "eve".to_owned(),
            join_id: self.join_id.clone(),
            grant: grant.to_owned(),
            ..ReserveRequest::default()
        };
        let reply = self.links.reserve(&self.address_of(node), request).await;
        match reply.map_err(|error| (refusal_wire::of_call(&error).reason, None))?.result.unwrap() {
            Reserved::Admitted(_) => Ok(()),
            Reserved::Refused(mut refused) => {
                let told = refused.assignment.take().map(|told| told.grant);
                Err((refusal_wire::decode(refused).reason, told))
            }
        }
    }

    /// Relays the signalling of a participant to a node.
    pub(super) async fn signal(
        &self,
        node: &str,
        grant: &str,
        ticket: &SignedTicket,
        claims: &Grants,
    ) -> Result<SignalStream, CallError> {
        let start = SignalStart {
            room: self.room.key(),
            join_id: self.join_id.clone(),
            claims_json: serde_json::to_string(claims).unwrap(),
            grant: grant.to_owned(),
            ticket: ticket.note().clone(),
            ..SignalStart::default()
        };
        self.links.signal(&self.address_of(node), start).await
    }

    /// Asks a node to open the room on their link, with a grant.
    pub(super) fn open_room(&mut self, node: &str, grant: &str) {
        self.tell(grant);
        // A request with the same epoch would be the same request.
        self.requests += 1;
        self.links.open_room(&self.room.key(), self.address_of(node), self.requests, 1);
    }

    /// Closes the room on the link with a node.
    pub(super) fn close_room(&self, node: &str) {
        self.links.close_room(&self.room.key(), &id_of(node));
    }

    /// Opens the room on the link with a node that must accept it.
    pub(super) async fn opens_room(&mut self, node: &str, grant: &str) {
        let (owner, incarnation) = (self.name.clone(), self.writes.0);
        let snapshot = Update::Snapshot { owner, incarnation, seq: 0, records: Vec::new() };
        self.open_room(node, grant);
        loop {
            let answered = |event: &LinkEvent| {
                matches!(event, LinkEvent::RoomOpened { .. } | LinkEvent::RoomClosed { .. })
            };
            self.until("the room opens", answered).await;
            let body = state_update(&snapshot);
            if self.links.send(&id_of(node), &self.room.key(), body).is_ok() {
                return;
            }
            // Both nodes opened and closed it at once.
            self.open_room(node, grant);
        }
    }

    /// Opens the room on the link with a node that must refuse it. Returns the reason.
    pub(super) async fn is_refused_room(&mut self, node: &str, grant: &str) -> String {
        let id = id_of(node);
        let answered = |event: &LinkEvent| match event {
            LinkEvent::RoomRefused { peer, by_us: false, .. }
            | LinkEvent::RoomClosed { peer, .. }
            | LinkEvent::RoomOpened { peer, .. } => *peer == id,
            _ => false,
        };
        // The node may open or close the room itself at the same time, which ends the request.
        for _ in 0..5 {
            self.open_room(node, grant);
            if let LinkEvent::RoomRefused { reason, .. } = self.until("the room's refusal", answered).await {
                return reason;
            }
        }
        panic!("{node} does not refuse the room: {:?}", self.seen);
    }

    pub(super) fn send(&self, node: &str, body: RoomBody) {
        self.links.send(&id_of(node), &self.room.key(), body).unwrap();
    }

    /// Writes a participant's record as its media node. `owner`: the node that it pretends to be.
    pub(super) fn write(&mut self, node: &str, owner: &str, record: ParticipantRecord) {
        self.writes.1 += 1;
        let (incarnation, seq) = self.writes;
        let update = Update::Participant { owner: owner.to_owned(), incarnation, seq, record };
        self.send(node, state_update(&update));
    }

    /// Writes a participant's record as its media node, as write number `seq`, as soon as the link takes it.
    pub(super) async fn write_when_possible(&self, node: &str, seq: u64, record: ParticipantRecord) {
        let (owner, incarnation) = (self.name.clone(), self.writes.0);
        let mut body = state_update(&Update::Participant { owner, incarnation, seq, record });
        while let Err(error) = self.links.send(&id_of(node), &self.room.key(), body) {
            let RoomSendError::Full(Some(back)) = error else { panic!("{error}") };
            body = *back;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Receives link events until one matches.
    pub(super) async fn until(&mut self, what: &str, matches: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
        loop {
            let Ok(Some(event)) = tokio::time::timeout(TIMEOUT, self.events.recv()).await else {
                panic!("{what} did not happen: {:?}", self.seen);
            };
            self.seen.push(event.clone());
            if matches(&event) {
                return event;
            }
        }
    }

    /// Receives the events that have arrived.
    pub(super) fn receive_all(&mut self) -> &[LinkEvent] {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        &self.seen
    }

    /// What was sent to it of the room.
    pub(super) fn messages(&mut self) -> usize {
        self.receive_all().iter().filter(|event| matches!(event, LinkEvent::Message { .. })).count()
    }

    /// The ticket of a participant that a gateway gave it.
    pub(super) async fn ticket_of(&self, identity: &str) -> SignedTicket {
        let given = async {
            loop {
                let found = self.script.started.lock().unwrap().iter().find_map(|start| {
                    let claims: Grants = serde_json::from_str(&start.claims_json).unwrap();
                    (claims.identity == identity).then(|| start.ticket.clone())
                });
                match found {
                    Some(note) => return self.read_ticket(note),
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(TIMEOUT, given).await.expect("a participant is given to the hostile node")
    }

    fn read_ticket(&self, note: bytes::Bytes) -> SignedTicket {
        SignedTicket::verify_if(note, |_| Ok(self.keys.clone())).unwrap().0
    }

    /// The ticket of a participant in the state that is sent to it.
    pub(super) async fn ticket_in_state_of(&mut self, identity: &str) -> SignedTicket {
        loop {
            let bodies = self.receive_all().iter().filter_map(|event| match event {
                LinkEvent::Message { body: RoomBody::StateUpdate(update), .. } => {
                    Some(update.updates.clone())
                }
                _ => None,
            });
            let records = bodies.flatten().flat_map(|update| match systir_room::wire::decode(&update) {
                Some(Update::Participant { record, .. }) => vec![record],
                Some(Update::Snapshot { records, .. }) => records,
                _ => Vec::new(),
            });
            let note = records.filter(|record| record.identity == identity).find_map(|record| record.ticket);
            if let Some(note) = note {
                return self.read_ticket(note);
            }
            self.until("a message", |event| matches!(event, LinkEvent::Message { .. })).await;
        }
    }
}
