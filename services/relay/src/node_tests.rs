//! Whole nodes in one process, with signalling but without clients' media.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use livekit_protocol::leave_request::Action as LeaveAction;
use livekit_protocol::signal_request::Message as ClientMessage;
use livekit_protocol::signal_response::Message as ServerMessage;
use livekit_protocol::{DisconnectReason, SignalRequest};
use prost::Message as _;
use systir_assignment::Assignment;
use systir_documents::{DocumentHash, Grant, GrantTerms, MAX_GRANT_LIFE_MS, SignedGrant};
use systir_livekit::token::Grants;
use systir_registry::LocalStore;
use systir_room::RoomState;

use systir_admission::{PeerNodes as _, SeatApplicant};
use systir_assignment::RoomId;
use systir_gateway::SignalPipe;
use systir_media_control::WorkerCommand;
use systir_policy::demo::signed::SignedDemo;
use systir_reason::{Reason, Refusal};
use systir_room::{Queued, RoomLinkEvent};
use systir_room_runtime::{ParticipantArrival, SignalChannels};
use systir_room_tag::test_keys;
use systir_worker::WorkerMessage;
use tokio::sync::mpsc;

use super::*;
use crate::join::Joiner;

/// Far longer than any step takes; keeps a failed test from hanging.
const TIMEOUT: Duration = Duration::from_secs(60);

#[path = "admission_tests.rs"]
mod admission;
#[path = "api_tests.rs"]
mod api;
#[path = "document_tests.rs"]
mod documents;
#[path = "drain_tests.rs"]
mod drain;
#[path = "foreign_directory_tests.rs"]
mod foreign_directory;
#[path = "hostile_flood_tests.rs"]
mod hostile_flood;
#[path = "hostile_gateway_tests.rs"]
mod hostile_gateway;
#[path = "hostile_home_tests.rs"]
mod hostile_home;
#[path = "hostile_node.rs"]
mod hostile_node;
#[path = "hostile_node_tests.rs"]
mod hostile_node_tests;
#[path = "hostile_script.rs"]
mod hostile_script;
#[path = "hostile_seat_tests.rs"]
mod hostile_seat;
#[path = "hostile_state_tests.rs"]
mod hostile_state;
#[path = "hostile_unapproved_tests.rs"]
mod hostile_unapproved;
#[path = "journal_node_tests.rs"]
mod journal_of_decisions;
#[path = "lost_lease_tests.rs"]
mod lost_lease;

#[path = "policy_page_tests.rs"]
mod policy_page;
#[path = "room_rules_tests.rs"]
mod room_rules;
#[path = "ticket_tests.rs"]
mod tickets;
#[path = "version_tests.rs"]
mod versions;

/// The parts of a node that tests inspect.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) authority: Arc<systir_policy::Authority>,
    pub(crate) documents: Arc<DocumentStore>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) joins: Joins,
    pub(crate) join_limits: Arc<JoinLimits>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) local_load: Arc<LocalLoad>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) metrics: NodeMetrics,
}

struct TestCluster {
    store: LocalStore,
    folder: tempfile::TempDir,
    documents: SignedDemo,
}

impl TestCluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let documents = crate::demo::write_files(folder.path()).unwrap();
        std::fs::write(folder.path().join(crate::demo::ROOM_KEY), &*test_keys::key().to_text()).unwrap();
        Self { store: LocalStore::default(), folder, documents }
    }

    /// Signs a version of the bundle with changed rules, and puts it into the nodes' folder of documents.
    fn publish_rules(&self, version: u64, change: impl FnOnce(&str) -> String) {
        let note = self.documents.bundle(version, |bundle| {
            let changed = change(&bundle.policy);
            assert_ne!(changed, bundle.policy);
            bundle.policy = changed;
        });
        self.publish("ku.dk.note", &note.unwrap());
    }

    /// Puts a note into the nodes' folder of documents, by renaming, so that no node reads half a file.
    fn publish(&self, file: &str, note: &str) {
        let whole = self.folder.path().join("note-new");
        std::fs::write(&whole, note).unwrap();
        std::fs::rename(whole, self.folder.path().join("documents").join(file)).unwrap();
    }

    /// Changes the policy so that a node in any Nordic country may be home, not only one in Denmark.
    fn allow_any_nordic_home(&self) {
        self.publish_rules(1, |rules| {
            rules.replace(r#"resource.country == Country::"DK""#, r#"resource.country in Zone::"Nordic""#)
        });
    }

    async fn node(&self, name: &str, capacity: u32) -> Node {
        self.node_with(name, capacity, Arc::new(self.store.registry())).await
    }

    async fn node_with(&self, name: &str, capacity: u32, registry: Arc<dyn Registry>) -> Node {
        Node::start(self.config(name, capacity), registry).await.unwrap()
    }

    /// A node of this minor version.
    async fn node_of(&self, name: &str, capacity: u32, minor: u16) -> Node {
        let versions = VersionRange::new(minor - 1, minor).unwrap();
        let registry = Arc::new(self.store.registry());
        Node::start_with(self.config(name, capacity), registry, versions).await.unwrap()
    }

    fn config(&self, name: &str, capacity: u32) -> RelayConfig {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut config =
            crate::demo::config(self.folder.path(), &self.documents, name, capacity, 0, localhost);
        for listen in [
            &mut config.http.listen,
            &mut config.media.listen,
            &mut config.links.quic,
            &mut config.links.grpc,
            &mut config.telemetry.listen,
        ] {
            listen.set_port(0);
        }
        config.media.tcp = None;
        config.drain.notice_seconds = 0;
        config
    }

    /// The room's record with a grant that this node signed, as home.
    fn granted(&self, home: &str, epoch: u64) -> Assignment {
        self.granted_with(home, epoch, |_| {})
    }

    /// The same with a changed grant.
    fn granted_with(&self, home: &str, epoch: u64, change: impl FnOnce(&mut Grant)) -> Assignment {
        let nodes = || ["cph-1", "sto-1"].map(str::to_owned).into();
        let mut grant = Grant {
            institution: "ku.dk".to_owned(),
            room: room().key(),
            sid: "RM_x".to_owned(),
            epoch,
            serial: 1,
            home: home.to_owned(),
            successor_of: (epoch > 1).then(|| "cph-1".to_owned()),
            terms: GrantTerms {
                trust_domain: "nordu.net".to_owned(),
                homes: nodes(),
                spill: nodes(),
                gateways: nodes(),
                class: "standard".to_owned(),
                e2ee: false,
                policy_version: 1,
                policy_hash: DocumentHash::of("policy"),
                directory_version: 1,
                directory_hash: DocumentHash::of("directory"),
            },
            issued_ms: unix_ms(),
            not_after_ms: 0,
        };
        grant.not_after_ms = grant.issued_ms + MAX_GRANT_LIFE_MS;
        change(&mut grant);
        let signed = SignedGrant::sign(grant, self.documents.node_key(home).unwrap()).unwrap();
        let mut record = Assignment::new(room(), "RM_x".to_owned(), home.into(), "1".to_owned(), 1);
        record.epoch = epoch;
        record.grant = signed.note().to_string();
        record
    }

    fn record(&self) -> Option<Assignment> {
        self.store.registry().assignment(&room()).map(|known| known.value)
    }

    /// Waits for a record that matches.
    async fn until_record(&self, what: &str, matches: impl Fn(Option<&Assignment>) -> bool) {
        let mut view = self.store.registry().watch();
        let found = view.wait_for(|view| matches(view.room(&room()).map(|known| &known.value)));
        let found = tokio::time::timeout(TIMEOUT, found).await.is_ok_and(|found| found.is_ok());
        assert!(found, "{what}: {:?}", self.record());
    }
}

fn room() -> RoomId {
    test_keys::room("lecture")
}

/// HTTP status and reason code of a refusal.
fn status_and_code(refusal: &Refusal) -> (u16, &'static str) {
    (systir_gateway::status_of(refusal.reason).as_u16(), refusal.reason.as_str())
}

fn nodes(assignment: Option<&Assignment>) -> Vec<&str> {
    assignment.into_iter().flat_map(Assignment::nodes).map(AsRef::as_ref).collect()
}

fn grants(identity: &str) -> Grants {
    Grants {
        name: identity.to_owned(),
        can_update_own_metadata: true,
        ..Grants::new("ku.dk", "lecture", identity)
    }
}

struct TestParticipant {
    pipe: SignalPipe,
    received: Vec<ServerMessage>,
}

impl TestParticipant {
    async fn try_join(node: &Node, grants: Grants) -> Result<Self, Refusal> {
        let joiner = Joiner { grants, client: Default::default(), auto_subscribe: true };
        let pipe = node.parts.joins.join(joiner).await?;
        let mut participant = Self { pipe, received: Vec::new() };
        participant.until("the join", |message| matches!(message, ServerMessage::Join(_))).await;
        Ok(participant)
    }

    async fn join(node: &Node, identity: &str) -> Self {
        Self::try_join(node, grants(identity)).await.unwrap()
    }

    async fn send(&self, message: ClientMessage) {
        self.pipe.to_media.send(Box::new(SignalRequest { message: Some(message) })).await.unwrap();
    }

    /// Receives messages until one matches.
    async fn until(&mut self, what: &str, matches: impl Fn(&ServerMessage) -> bool) {
        while !self.received.last().is_some_and(&matches) {
            let next = tokio::time::timeout(TIMEOUT, self.pipe.from_media.recv()).await;
            let Some(message) = next.ok().flatten().and_then(|response| response.message) else {
                panic!("{what} was not received: {:?}", self.received);
            };
            self.received.push(message);
        }
    }

    async fn until_sees(&mut self, identity: &str) {
        let sees = |message: &ServerMessage| match message {
            ServerMessage::Join(join) => join.other_participants.iter().any(|one| one.identity == identity),
            ServerMessage::Update(update) => update.participants.iter().any(|one| one.identity == identity),
            _ => false,
        };
        if !self.received.iter().any(sees) {
            self.until(identity, sees).await;
        }
    }

    async fn until_leave(&mut self) -> (LeaveAction, DisconnectReason) {
        self.until("the leave", |message| matches!(message, ServerMessage::Leave(_))).await;
        match self.received.last() {
            Some(ServerMessage::Leave(leave)) => (leave.action(), leave.reason()),
            other => panic!("{other:?}"),
        }
    }

    /// All identities that it has received.
    fn identities_seen(&self) -> BTreeSet<String> {
        let participants = |message: &ServerMessage| match message {
            ServerMessage::Join(join) => join.other_participants.clone(),
            ServerMessage::Update(update) => update.participants.clone(),
            _ => Vec::new(),
        };
        self.received.iter().flat_map(participants).map(|one| one.identity).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_participant_is_unique_on_all_nodes_and_visible_on_none() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let hidden = || Grants { hidden: true, ..grants("recorder") };
    let mut first = TestParticipant::try_join(&home, hidden()).await.unwrap();
    let mut bob = TestParticipant::join(&home, "bob").await;
    let mut second = TestParticipant::try_join(&home, hidden()).await.unwrap();
    assert_eq!(
        first.until_leave().await,
        (LeaveAction::Disconnect, DisconnectReason::DuplicateIdentity),
        "the same identity joined again, on the other node"
    );
    let mut chen = TestParticipant::join(&home, "chen").await;
    chen.until_sees("bob").await;
    bob.until_sees("chen").await;
    second.until_sees("bob").await;
    for participant in [&bob, &chen] {
        let seen = participant.identities_seen();
        assert!(!seen.contains("recorder"), "{seen:?}");
    }
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_updates_constantly_disturbs_no_other_on_any_node() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 2).await, cluster.node("sto-1", 5).await);
    let (mut anna, mut eve) =
        (TestParticipant::join(&home, "anna").await, TestParticipant::join(&home, "eve").await);
    let mut bob = TestParticipant::join(&home, "bob").await;
    anna.until_sees("bob").await;
    bob.until_sees("eve").await;
    let link = |node: &Node| node.directory.links().unwrap().list()[0].link;
    let links = (link(&home), link(&sister));
    eve.send(ClientMessage::AddTrack(livekit_protocol::AddTrackRequest {
        cid: "mic".to_owned(),
        ..Default::default()
    }))
    .await;
    eve.until("her track", |message| matches!(message, ServerMessage::TrackPublished(_))).await;
    let Some(ServerMessage::TrackPublished(published)) = eve.received.last() else { unreachable!() };
    let track_sid = published.track.clone().unwrap().sid;
    // No participant reads its messages during this.
    for _ in 0..10_000 {
        let (track_sid, features) = (track_sid.clone(), Vec::new());
        eve.send(ClientMessage::UpdateAudioTrack(livekit_protocol::UpdateLocalAudioTrack {
            track_sid,
            features,
        }))
        .await;
    }
    let metadata = "the last update".to_owned();
    eve.send(ClientMessage::UpdateMetadata(livekit_protocol::UpdateParticipantMetadata {
        metadata,
        ..Default::default()
    }))
    .await;
    for participant in [&mut anna, &mut bob] {
        let last = |message: &ServerMessage| match message {
            ServerMessage::Update(update) => {
                update.participants.iter().any(|one| one.metadata == "the last update")
            }
            _ => false,
        };
        participant.until("the last update", last).await;
        const GONE: i32 = livekit_protocol::participant_info::State::Disconnected as i32;
        let ended = |message: &ServerMessage| match message {
            ServerMessage::Leave(_) => true,
            ServerMessage::Update(update) => update.participants.iter().any(|one| one.state == GONE),
            _ => false,
        };
        assert!(!participant.received.iter().any(ended), "{:?}", participant.received);
    }
    assert_eq!(links, (link(&home), link(&sister)), "the link stayed up");
    for node in [&home, &sister] {
        for part in [Reason::LinkEventQueue, Reason::PeerQueue, Reason::CommandQueue] {
            assert_eq!(node.parts.metrics.rooms.overloads.get_or_create(&part.into()).get(), 0, "{part}");
        }
    }
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_record_is_rewritten_by_the_home_with_approved_nodes_only() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let mut anna = TestParticipant::join(&home, "anna").await;
    let _bob = TestParticipant::join(&home, "bob").await;
    anna.until_sees("bob").await;
    let registry = cluster.store.registry();
    // An attacker adds the unapproved node to the record, lets the nodes read it, and deletes the record.
    let known = registry.assignment(&room()).unwrap();
    let mut forged = known.value.clone();
    forged.add_spill("aws-sto-1".into(), 1);
    let forged = registry.update(&known, forged).await.unwrap();
    registry.delete(&forged).await.unwrap();
    let written = |known: Option<&Assignment>| {
        nodes(known).iter().copied().collect::<BTreeSet<_>>() == BTreeSet::from(["cph-1", "sto-1"])
    };
    cluster.until_record("the record with both nodes", written).await;
    assert_eq!(cluster.record().unwrap().sid, known.value.sid, "it is the same room");
    // A node with participants is added again when it is removed from the record.
    let known = registry.assignment(&room()).unwrap();
    let mut without = known.value.clone();
    without.remove_spill("sto-1");
    registry.update(&known, without).await.unwrap();
    cluster.until_record("the record with both nodes", written).await;
    anna.received.clear();
    let _chen = TestParticipant::join(&home, "chen").await;
    anna.until_sees("chen").await;
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_home_is_offline_is_refused_with_that_reason_when_no_other_node_may_be_home() {
    let cluster = TestCluster::new();
    let sister = cluster.node("sto-1", 5).await;
    let known = cluster.store.registry().create(cluster.granted("cph-1", 1)).await.unwrap();
    let refused = TestParticipant::try_join(&sister, grants("anna")).await.err().unwrap();
    assert_eq!(status_and_code(&refused), (503, "home-offline"));
    // A sister that already carries the room continues to admit.
    let mut wanted = known.value.clone();
    wanted.add_spill("sto-1".into(), 2);
    cluster.store.registry().update(&known, wanted).await.unwrap();
    let _anna = TestParticipant::join(&sister, "anna").await;
    assert_eq!(nodes(cluster.record().as_ref()), ["cph-1", "sto-1"]);
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_node_takes_over_from_an_offline_home_which_returns_as_sister() {
    let cluster = TestCluster::new();
    cluster.allow_any_nordic_home();
    let successor = cluster.node("sto-1", 1).await;
    cluster.store.registry().create(cluster.granted("cph-1", 1)).await.unwrap();
    let mut anna = TestParticipant::join(&successor, "anna").await;
    let record = cluster.record().unwrap();
    assert_eq!((nodes(Some(&record)), record.epoch), (vec!["sto-1"], 2));
    let mut counters = String::new();
    let registry = successor.parts.metrics.registry(&successor.parts.assignments);
    prometheus_client::encoding::text::encode(&mut counters, &registry).unwrap();
    assert!(counters.contains("systir_takeovers_total 1"), "{counters}");
    let old = cluster.node("cph-1", 5).await;
    let mut bob = TestParticipant::join(&old, "bob").await;
    bob.until_sees("anna").await;
    anna.until_sees("bob").await;
    let both = |known: Option<&Assignment>| {
        nodes(known) == ["sto-1", "cph-1"] && known.is_some_and(|known| known.epoch == 2)
    };
    cluster.until_record("the old home as spill node", both).await;
    successor.stop().await;
    old.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_dials_the_new_address_of_a_restarted_node() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 5).await;
    let _anna = TestParticipant::join(&home, "anna").await;
    let registry = cluster.store.registry();
    // Lease of the sister's previous start, with an address where nothing listens any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    registry.announce(Lease {
        node: "sto-1".into(),
        grpc: address.clone(),
        quic: address,
        load: Default::default(),
        draining: false,
        version: String::new(),
        versions: VersionRange::OWN,
    });
    home.parts.assignments.peer_carries(&room(), "sto-1");
    let links = &home.directory;
    assert!(!links.is_up("sto-1"));
    let sister = cluster.node("sto-1", 5).await;
    let found = async {
        while !links.is_up("sto-1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, found).await.expect("the home dials the new address");
    sister.stop().await;
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_room_closes_once_on_each_node_and_leaves_nothing() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let mut anna = TestParticipant::join(&home, "anna").await;
    let bob = TestParticipant::join(&home, "bob").await;
    anna.until_sees("bob").await;
    drop((anna, bob));
    cluster.until_record("no record", |known| known.is_none()).await;
    let idle = async {
        for node in [&home, &sister] {
            let metrics = &node.parts.metrics;
            while metrics.rooms.rooms.get() != 0 || metrics.links.get() != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, idle).await.expect("rooms and links end");
    for node in [&home, &sister] {
        let metrics = &node.parts.metrics.rooms;
        assert_eq!(metrics.rooms_opened.get(), 1, "{} opened it again", node.name);
        assert_eq!(metrics.participants.get(), 0);
        assert_eq!(node.parts.local_load.load().participants, 0);
        assert!(!node.parts.seats.are_held_by(&room().key()));
    }
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_worker_is_blocked_resets_and_its_participants_reconnect() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 5).await;
    let parts = &home.parts;
    let (messages, mut worker) = mpsc::channel(4);
    let assignment = Assignment::new(room(), "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
    let access = WorkerAccess { index: 0, messages, candidates: Vec::new() };
    let rooms = Arc::new(Rooms::new(RoomDependencies {
        policy_changes: parts.documents.changes(),
        node: home.name.clone(),
        authority: parts.authority.clone(),
        assignments: parts.assignments.clone(),
        seats: parts.seats.clone(),
        links: home.directory.clone(),
        flows: home.directory.clone(),
        workers: WorkerPool::new(vec![access], [0; 32]).unwrap(),
        keys: Arc::new(KeyAllocator::new()),
        metrics: parts.metrics.rooms.clone(),
        tasks: home.tasks.tracker.clone(),
        stop: home.tasks.stop.clone(),
    }));
    let anna = SeatApplicant { identity: "anna", elsewhere: 0, join_id: "seat" };
    parts.admission.reserve_here(&room(), anna).unwrap();
    let (_to_room, from_client) = mpsc::channel(16);
    let (to_client, from_room) = mpsc::channel(256);
    let arrival = ParticipantArrival {
        join_id: "seat".to_owned(),
        grants: grants("anna"),
        client: Default::default(),
        auto_subscribe: true,
        ticket: parts.joins.tickets.issue(&assignment, "cph-1", &grants("anna"), 0).unwrap(),
        signal: SignalChannels { from_client, tickets: mpsc::channel(1).1, to_client },
        span: tracing::Span::none(),
    };
    rooms.arrive(&assignment, Box::new(arrival)).await.unwrap();
    let handle = rooms.get(&room()).unwrap();
    // A participant on another node sends more than the command queue of a blocked worker can hold.
    let mut other = RoomState::new("sto-1", unix_ms());
    let ticket = parts.joins.tickets.issue(&assignment, "sto-1", &grants("eve"), 0).unwrap();
    let (sid, join_number) = (ticket.ticket().participant_sid.clone(), ticket.ticket().join_number);
    let mut info = livekit_protocol::ParticipantInfo {
        sid: sid.clone(),
        identity: "eve".to_owned(),
        permission: Some(grants("eve").permission()),
        ..Default::default()
    };
    let body = bytes::Bytes::from(info.encode_to_vec());
    let message = |body| RoomLinkEvent::Message { node: "sto-1".to_owned(), body };
    let (update, _) = other.local_join(sid.clone(), "eve", join_number, body, ticket.note().clone()).unwrap();
    handle.link_event(message(state_update(&update)));
    let packet: bytes::Bytes = livekit_protocol::DataPacket {
        participant_identity: "eve".to_owned(),
        participant_sid: sid.clone(),
        ..Default::default()
    }
    .encode_to_vec()
    .into();
    let mut anna = TestParticipant {
        pipe: SignalPipe { to_media: mpsc::channel(1).0, from_media: from_room },
        received: Vec::new(),
    };
    // After each burst an update that anna receives: then the room has processed all messages before it.
    let update_or_leave = |message: &ServerMessage| match message {
        ServerMessage::Update(update) => update.participants.iter().any(|one| one.identity == "eve"),
        ServerMessage::Leave(_) => true,
        _ => false,
    };
    while !matches!(anna.received.last(), Some(ServerMessage::Leave(_))) {
        for _ in 0..2_000 {
            let data = systir_proto::cluster::v1::ReliableData {
                sender_sid: sid.clone(),
                packet: packet.clone(),
                destination_identities: Vec::new(),
            };
            let body = systir_proto::cluster::v1::room_message::Body::ReliableData(data);
            assert_eq!(handle.link_event(message(body)), Queued::Kept);
        }
        info.metadata.push('x');
        let (update, _) = other.local_update(&sid, info.encode_to_vec().into()).unwrap();
        handle.link_event(message(state_update(&update)));
        anna.received.clear();
        anna.until("the update or a leave", update_or_leave).await;
    }
    let leave = anna.until_leave().await;
    assert_eq!(leave, (LeaveAction::Reconnect, DisconnectReason::MediaFailure));
    // The leave is sent first, then the seat is released.
    let free = async {
        while parts.local_load.load().participants > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, free).await.is_ok(), "the seat is free");
    // Once the worker reads again, it receives the close and the reopening of the room, and no command in
    // between.
    let mut received = Vec::new();
    while !matches!(
        received.as_slice(),
        [.., WorkerMessage::Command(WorkerCommand::CloseRoom { .. }), WorkerMessage::OpenRoom { .. }]
    ) {
        received.push(tokio::time::timeout(TIMEOUT, worker.recv()).await.unwrap().unwrap());
    }
    assert!(received.len() < 16, "{} commands of the old room", received.len());
    home.stop().await;
}

/// A state update of another node, as received over a link.
fn state_update(update: &systir_room::Update) -> systir_proto::cluster::v1::room_message::Body {
    let updates = vec![systir_room::wire::encode(update)];
    let update = systir_proto::cluster::v1::StateUpdate { updates, snapshot: false };
    systir_proto::cluster::v1::room_message::Body::StateUpdate(update)
}
