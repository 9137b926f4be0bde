//! Whole nodes in one process, without clients' media: who is in a room, where, and what is left.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use livekit_protocol::leave_request::Action as LeaveAction;
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DisconnectReason, SignalRequest, SignalResponse};
use prost::Message as _;
use systir_assignment::Assignment;
use systir_livekit::token::Grants;
use systir_registry::LocalStore;
use systir_room::RoomState;

use systir_admission::PeerNodes as _;
use systir_assignment::RoomId;
use systir_gateway::SignalPipe;
use systir_media_control::Command;
use systir_reason::{Reason, Refusal};
use systir_room::{LinkEvent, Queued};
use systir_room_runtime::{ParticipantArrival, SignalEnds};
use systir_worker::WorkerMessage;
use tokio::sync::mpsc;

use super::*;
use crate::join::Joiner;

/// Nothing here takes so long; it only keeps a failed test from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

#[path = "admission_tests.rs"]
mod admission;

/// The parts of a node that tests look into.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) authority: Arc<systir_policy::Authority>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) joins: Joins,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) local_load: Arc<LocalLoad>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) metrics: Metrics,
}

struct World {
    store: LocalStore,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        crate::demo::write_files(folder.path()).unwrap();
        Self { store: LocalStore::default(), folder }
    }

    /// Lets a node of any Nordic country be home, not only those in Denmark.
    fn allow_any_nordic_home(&self) {
        let path = self.folder.path().join("ku.dk.cedar");
        let text = std::fs::read_to_string(&path).unwrap();
        let wider =
            text.replace(r#"resource.country == Country::"DK""#, r#"resource.country in Zone::"Nordic""#);
        assert_ne!(text, wider);
        std::fs::write(path, wider).unwrap();
    }

    async fn node(&self, name: &str, capacity: u32) -> Node {
        self.node_with(name, capacity, Arc::new(self.store.registry())).await
    }

    async fn node_with(&self, name: &str, capacity: u32, registry: Arc<dyn Registry>) -> Node {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut config = crate::demo::config(self.folder.path(), name, capacity, 0, localhost);
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
        Node::start(config, registry).await.unwrap()
    }

    fn record(&self) -> Option<Assignment> {
        self.store.registry().assignment(&room()).map(|known| known.value)
    }

    /// Waits for a record that fits.
    async fn until_record(&self, what: &str, fits: impl Fn(Option<&Assignment>) -> bool) {
        let mut view = self.store.registry().watch();
        let fits = view.wait_for(|view| fits(view.room(&room()).map(|known| &known.value)));
        let found = tokio::time::timeout(PATIENCE, fits).await.is_ok_and(|found| found.is_ok());
        assert!(found, "{what}: {:?}", self.record());
    }
}

fn room() -> RoomId {
    RoomId::new("ku.dk", "lecture")
}

/// The status and the code of a refusal.
fn answer(refusal: &Refusal) -> (u16, &'static str) {
    (systir_gateway::status_of(refusal.reason).as_u16(), refusal.reason.as_str())
}

fn nodes(assignment: Option<&Assignment>) -> Vec<&str> {
    assignment.into_iter().flat_map(Assignment::nodes).map(AsRef::as_ref).collect()
}

fn grants(identity: &str) -> Grants {
    Grants {
        identity: identity.to_owned(),
        name: identity.to_owned(),
        metadata: String::new(),
        attributes: Default::default(),
        kind: 0,
        can_publish: true,
        can_subscribe: true,
        can_publish_data: true,
        can_publish_sources: None,
        can_update_own_metadata: true,
        hidden: false,
        recorder: false,
        agent: false,
        room_admin: false,
        room: "lecture".to_owned(),
        institution: "ku.dk".to_owned(),
        expires: 0,
    }
}

struct Person {
    pipe: SignalPipe,
    heard: Vec<Told>,
}

impl Person {
    async fn try_join(node: &Node, grants: Grants) -> Result<Self, Refusal> {
        let joiner = Joiner { grants, client: Default::default(), auto_subscribe: true };
        let pipe = node.parts.joins.join(joiner).await?;
        let mut person = Self { pipe, heard: Vec::new() };
        person.until("the join", |told| matches!(told, Told::Join(_))).await;
        Ok(person)
    }

    async fn join(node: &Node, identity: &str) -> Self {
        Self::try_join(node, grants(identity)).await.unwrap()
    }

    async fn say(&self, message: Asked) {
        self.pipe.to_media.send(SignalRequest { message: Some(message) }).await.unwrap();
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&Told) -> bool) {
        while !self.heard.last().is_some_and(&fits) {
            let next = tokio::time::timeout(PATIENCE, self.pipe.from_media.recv()).await;
            let Ok(Some(SignalResponse { message: Some(told) })) = next else {
                panic!("{what} does not come: {:?}", self.heard);
            };
            self.heard.push(told);
        }
    }

    async fn until_sees(&mut self, identity: &str) {
        let sees = |told: &Told| match told {
            Told::Join(join) => join.other_participants.iter().any(|one| one.identity == identity),
            Told::Update(update) => update.participants.iter().any(|one| one.identity == identity),
            _ => false,
        };
        if !self.heard.iter().any(sees) {
            self.until(identity, sees).await;
        }
    }

    async fn until_told_to_leave(&mut self) -> (LeaveAction, DisconnectReason) {
        self.until("the leave", |told| matches!(told, Told::Leave(_))).await;
        match self.heard.last() {
            Some(Told::Leave(leave)) => (leave.action(), leave.reason()),
            other => panic!("{other:?}"),
        }
    }

    /// Identities that it was ever told of.
    fn ever_saw(&self) -> BTreeSet<String> {
        let told = |told: &Told| match told {
            Told::Join(join) => join.other_participants.clone(),
            Told::Update(update) => update.participants.clone(),
            _ => Vec::new(),
        };
        self.heard.iter().flat_map(told).map(|one| one.identity).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_identity_counts_on_every_node_and_is_shown_on_none() {
    let world = World::new();
    let (home, sister) = (world.node("cph-1", 1).await, world.node("sto-1", 5).await);
    let hidden = || Grants { hidden: true, ..grants("recorder") };
    let mut first = Person::try_join(&home, hidden()).await.unwrap();
    let mut bob = Person::join(&home, "bob").await;
    let mut second = Person::try_join(&home, hidden()).await.unwrap();
    assert_eq!(
        first.until_told_to_leave().await,
        (LeaveAction::Disconnect, DisconnectReason::DuplicateIdentity),
        "the same person came again, on the other node"
    );
    let mut chen = Person::join(&home, "chen").await;
    chen.until_sees("bob").await;
    bob.until_sees("chen").await;
    second.until_sees("bob").await;
    for person in [&bob, &chen] {
        assert!(!person.ever_saw().contains("recorder"), "{:?}", person.ever_saw());
    }
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_without_end_disturbs_nobody_here_or_on_another_node() {
    let world = World::new();
    let (home, sister) = (world.node("cph-1", 2).await, world.node("sto-1", 5).await);
    let (mut anna, mut eve) = (Person::join(&home, "anna").await, Person::join(&home, "eve").await);
    let mut bob = Person::join(&home, "bob").await;
    anna.until_sees("bob").await;
    bob.until_sees("eve").await;
    let link = |node: &Node| node.directory.links().unwrap().list()[0].link;
    let links = (link(&home), link(&sister));
    eve.say(Asked::AddTrack(livekit_protocol::AddTrackRequest {
        cid: "mic".to_owned(),
        ..Default::default()
    }))
    .await;
    eve.until("her track", |told| matches!(told, Told::TrackPublished(_))).await;
    let Some(Told::TrackPublished(published)) = eve.heard.last() else { unreachable!() };
    let track_sid = published.track.clone().unwrap().sid;
    // Nobody reads what they are told meanwhile.
    for _ in 0..10_000 {
        let (track_sid, features) = (track_sid.clone(), Vec::new());
        eve.say(Asked::UpdateAudioTrack(livekit_protocol::UpdateLocalAudioTrack { track_sid, features }))
            .await;
    }
    let metadata = "the last word".to_owned();
    eve.say(Asked::UpdateMetadata(livekit_protocol::UpdateParticipantMetadata {
        metadata,
        ..Default::default()
    }))
    .await;
    for person in [&mut anna, &mut bob] {
        let last = |told: &Told| match told {
            Told::Update(update) => update.participants.iter().any(|one| one.metadata == "the last word"),
            _ => false,
        };
        person.until("the last word", last).await;
        const GONE: i32 = livekit_protocol::participant_info::State::Disconnected as i32;
        let ended = |told: &Told| match told {
            Told::Leave(_) => true,
            Told::Update(update) => update.participants.iter().any(|one| one.state == GONE),
            _ => false,
        };
        assert!(!person.heard.iter().any(ended), "{:?}", person.heard);
    }
    assert_eq!(links, (link(&home), link(&sister)), "the link stands");
    for node in [&home, &sister] {
        for part in [Reason::RoomInbox, Reason::RoomOutbox, Reason::WorkerCommands] {
            assert_eq!(node.parts.metrics.rooms.overloads.get_or_create(&part.into()).get(), 0, "{part}");
        }
    }
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_room_is_written_again_by_its_nodes_with_approved_nodes_only() {
    let world = World::new();
    let (home, sister) = (world.node("cph-1", 1).await, world.node("sto-1", 5).await);
    let mut anna = Person::join(&home, "anna").await;
    let _bob = Person::join(&home, "bob").await;
    anna.until_sees("bob").await;
    let registry = world.store.registry();
    // An attacker puts the cloud into the record, lets the nodes read it, and erases it.
    let known = registry.assignment(&room()).unwrap();
    let mut forged = known.value.clone();
    forged.add_spill("aws-sto-1".into(), 1);
    let forged = registry.update(&known, forged).await.unwrap();
    registry.delete(&forged).await.unwrap();
    let written = |known: Option<&Assignment>| {
        nodes(known).iter().copied().collect::<BTreeSet<_>>() == BTreeSet::from(["cph-1", "sto-1"])
    };
    world.until_record("the record with both nodes", written).await;
    assert_eq!(world.record().unwrap().sid, known.value.sid, "it is the same room");
    // Taken out of the record, a node with people puts itself back.
    let known = registry.assignment(&room()).unwrap();
    let mut without = known.value.clone();
    without.remove_spill("sto-1");
    registry.update(&known, without).await.unwrap();
    world.until_record("the record with both nodes", written).await;
    anna.heard.clear();
    let _chen = Person::join(&home, "chen").await;
    anna.until_sees("chen").await;
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_home_is_away_is_refused_with_that_reason_where_no_other_may_lead() {
    let world = World::new();
    let sister = world.node("sto-1", 5).await;
    let record = Assignment::new(room(), "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
    let known = world.store.registry().create(record).await.unwrap();
    let refused = Person::try_join(&sister, grants("anna")).await.err().unwrap();
    assert_eq!(answer(&refused), (503, "home-away"));
    // A sister that carries the room already goes on to admit.
    let mut wanted = known.value.clone();
    wanted.add_spill("sto-1".into(), 2);
    world.store.registry().update(&known, wanted).await.unwrap();
    let _anna = Person::join(&sister, "anna").await;
    assert_eq!(nodes(world.record().as_ref()), ["cph-1", "sto-1"]);
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_node_takes_over_from_a_home_that_is_away_and_the_old_one_comes_back_as_sister() {
    let world = World::new();
    world.allow_any_nordic_home();
    let successor = world.node("sto-1", 1).await;
    let record = Assignment::new(room(), "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
    world.store.registry().create(record).await.unwrap();
    let mut anna = Person::join(&successor, "anna").await;
    let record = world.record().unwrap();
    assert_eq!((nodes(Some(&record)), record.epoch), (vec!["sto-1"], 2));
    let mut counters = String::new();
    let registry = successor.parts.metrics.registry(&successor.parts.assignments);
    prometheus_client::encoding::text::encode(&mut counters, &registry).unwrap();
    assert!(counters.contains("systir_takeovers_total 1"), "{counters}");
    let old = world.node("cph-1", 5).await;
    let mut bob = Person::join(&old, "bob").await;
    bob.until_sees("anna").await;
    anna.until_sees("bob").await;
    let record = world.record().unwrap();
    assert_eq!((nodes(Some(&record)), record.epoch), (vec!["sto-1", "cph-1"], 2));
    successor.stop().await;
    old.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_new_address_is_found_by_a_room_that_needs_it() {
    let world = World::new();
    let home = world.node("cph-1", 5).await;
    let _anna = Person::join(&home, "anna").await;
    let registry = world.store.registry();
    // The sister's last life ended at an address where nobody answers.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    registry.announce(Lease {
        node: "sto-1".into(),
        grpc: address.clone(),
        quic: address,
        load: Default::default(),
        draining: false,
        version: String::new(),
    });
    let known = registry.assignment(&room()).unwrap();
    let mut wanted = known.value.clone();
    wanted.add_spill("sto-1".into(), 2);
    registry.update(&known, wanted).await.unwrap();
    let links = &home.directory;
    assert!(!links.is_up("sto-1"));
    let sister = world.node("sto-1", 5).await;
    let found = async {
        while !links.is_up("sto-1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the home dials the new address");
    sister.stop().await;
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_everybody_left_closes_once_on_each_node_and_leaves_nothing() {
    let world = World::new();
    let (home, sister) = (world.node("cph-1", 1).await, world.node("sto-1", 5).await);
    let mut anna = Person::join(&home, "anna").await;
    let bob = Person::join(&home, "bob").await;
    anna.until_sees("bob").await;
    drop((anna, bob));
    world.until_record("no record", |known| known.is_none()).await;
    let idle = async {
        for node in [&home, &sister] {
            let metrics = &node.parts.metrics;
            while metrics.rooms.rooms.get() != 0 || metrics.links.get() != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, idle).await.expect("rooms and links end");
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
async fn who_comes_to_a_node_that_has_just_left_the_room_is_let_in() {
    let world = World::new();
    let (home, sister) = (world.node("cph-1", 1).await, world.node("sto-1", 5).await);
    let _anna = Person::join(&home, "anna").await;
    let mut bob = Person::join(&home, "bob").await;
    bob.until_sees("anna").await;
    // A front door whose copy of the registry is a moment old sends people to the sister; meanwhile
    // the record lost her.
    let known = world.store.registry().assignment(&room()).unwrap();
    let stale = known.value.clone();
    sister.parts.admission.reserve_here(&room(), "late", "late").unwrap();
    let mut without = stale.clone();
    without.remove_spill("sto-1");
    world.store.registry().update(&known, without).await.unwrap();
    let fresh = |node: &Node, room: &RoomId| node.parts.admission.new_assignment(room, &node.name);
    let claimed = sister.parts.rooms.claim(&room(), || fresh(&sister, &room())).await;
    assert_eq!(nodes(claimed.as_ref()), ["cph-1", "sto-1"]);
    let other = RoomId::new("ku.dk", "other");
    assert_eq!(home.parts.rooms.claim(&other, || fresh(&home, &other)).await, None, "no seat");
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_worker_stands_still_begins_again_and_its_people_come_back() {
    let world = World::new();
    let home = world.node("cph-1", 5).await;
    let parts = &home.parts;
    let (messages, mut worker) = mpsc::channel(4);
    let assignment = Assignment::new(room(), "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
    let access = WorkerAccess { index: 0, messages, candidates: Vec::new() };
    let rooms = Arc::new(Rooms::new(RoomDependencies {
        node: home.name.clone(),
        authority: parts.authority.clone(),
        assignments: parts.assignments.clone(),
        seats: parts.seats.clone(),
        links: home.directory.clone(),
        flows: home.directory.clone(),
        workers: WorkerPool::new(vec![access], [0; 32]).unwrap(),
        keys: Arc::new(KeyMint::new()),
        metrics: parts.metrics.rooms.clone(),
        tasks: home.tasks.tracker.clone(),
        stop: home.tasks.stop.clone(),
    }));
    parts.admission.reserve_here(&room(), "anna", "seat").unwrap();
    let (_to_room, from_client) = mpsc::channel(16);
    let (to_client, from_room) = mpsc::channel(256);
    let arrival = ParticipantArrival {
        join_id: "seat".to_owned(),
        grants: grants("anna"),
        client: Default::default(),
        auto_subscribe: true,
        gateway: "cph-1".to_owned(),
        joined_after: 0,
        signal: SignalEnds { from_client, to_client },
        span: tracing::Span::none(),
    };
    rooms.arrive(&assignment, Box::new(arrival)).await.unwrap();
    let handle = rooms.get(&room()).unwrap();
    // A participant on another node sends more than a worker that takes nothing can be told.
    let mut other = RoomState::new("sto-1", unix_ms());
    let info = livekit_protocol::ParticipantInfo {
        sid: "PA_eve".to_owned(),
        identity: "eve".to_owned(),
        ..Default::default()
    };
    let body = bytes::Bytes::from(info.encode_to_vec());
    let message = |body| LinkEvent::Message { node: "sto-1".to_owned(), body };
    let (update, _) = other.local_join("PA_eve", "eve", unix_ms(), body.clone()).unwrap();
    handle.link_event(message(state_update(&update)));
    let packet: bytes::Bytes = livekit_protocol::DataPacket {
        participant_identity: "eve".to_owned(),
        participant_sid: "PA_eve".to_owned(),
        ..Default::default()
    }
    .encode_to_vec()
    .into();
    let mut anna = Person {
        pipe: SignalPipe { to_media: mpsc::channel(1).0, from_media: from_room },
        heard: Vec::new(),
    };
    // After so many messages a word that anna hears: then the room has taken all before it.
    let heard = |told: &Told| match told {
        Told::Update(update) => update.participants.iter().any(|one| one.identity == "eve"),
        Told::Leave(_) => true,
        _ => false,
    };
    while !matches!(anna.heard.last(), Some(Told::Leave(_))) {
        for _ in 0..2_000 {
            let data = systir_proto::cluster::v1::ReliableData {
                sender_sid: "PA_eve".to_owned(),
                packet: packet.clone(),
                destination_identities: Vec::new(),
            };
            let body = systir_proto::cluster::v1::room_message::Body::ReliableData(data);
            assert_eq!(handle.link_event(message(body)), Queued::Kept);
        }
        let (update, _) = other.local_update("PA_eve", body.clone()).unwrap();
        handle.link_event(message(state_update(&update)));
        anna.heard.clear();
        anna.until("a word or the end", heard).await;
    }
    let told = anna.until_told_to_leave().await;
    assert_eq!(told, (LeaveAction::Reconnect, DisconnectReason::MediaFailure));
    // The client is told first, then the seat is given back.
    let free = async {
        while parts.local_load.load().participants > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, free).await.is_ok(), "the seat is free");
    // Once it moves again, the worker hears that the room begins anew, and nothing between.
    let mut heard = Vec::new();
    while !matches!(
        heard.as_slice(),
        [.., WorkerMessage::Command(Command::CloseRoom { .. }), WorkerMessage::OpenRoom { .. }]
    ) {
        heard.push(tokio::time::timeout(PATIENCE, worker.recv()).await.unwrap().unwrap());
    }
    assert!(heard.len() < 16, "{} commands of the old life", heard.len());
    home.stop().await;
}

/// A write of another node as it comes over a link.
fn state_update(update: &systir_room::Update) -> systir_proto::cluster::v1::room_message::Body {
    let updates = vec![systir_room::wire::encode(update)];
    let update = systir_proto::cluster::v1::StateUpdate { updates, snapshot: false };
    systir_proto::cluster::v1::room_message::Body::StateUpdate(update)
}
