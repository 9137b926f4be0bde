//! Joins and refusals over whole nodes: the reason of each refusal, and that a refused join leaves no seat
//! and no record.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use systir_assignment::{MediaRole, Versioned};
use systir_placement::Demand;
use systir_proto::cluster::v1::SignalStart;
use systir_registry::{CreateError, LocalRegistry, NodeLoad, RegistryError, UpdateError, View};
use tokio::sync::watch;

use std::sync::Mutex;

use systir_admission::ReservationRequest;
use systir_cascade::CallError;
use systir_registry::JoinAssignment;

use super::*;

/// Behaviour of writes to the registry.
#[derive(Debug, Clone, Default)]
enum Writes {
    #[default]
    Work,
    /// The store is unavailable.
    Fail,
    /// The store refuses: the node's role lacks a permission.
    Refuse,
    /// The store never answers.
    Hang,
    /// Another gateway creates the room first, with this home.
    LoseRace(String),
}

/// A registry whose writes can fail. Reads always work.
#[derive(Debug)]
struct FaultyRegistry {
    inner: LocalRegistry,
    writes: Mutex<Writes>,
}

impl FaultyRegistry {
    fn new(cluster: &TestCluster) -> Arc<Self> {
        Arc::new(Self { inner: cluster.store.registry(), writes: Mutex::default() })
    }

    fn set(&self, writes: Writes) {
        *self.writes.lock().unwrap() = writes;
    }

    /// The error of a write; none when the write succeeds.
    async fn write_error(&self, room: &RoomId) -> Option<RegistryError> {
        let writes = self.writes.lock().unwrap().clone();
        match writes {
            Writes::Work => None,
            Writes::Fail => Some(RegistryError::Unavailable("a test".to_owned())),
            Writes::Refuse => Some(RegistryError::Refused("a test".to_owned())),
            Writes::Hang => std::future::pending().await,
            Writes::LoseRace(home) => {
                self.set(Writes::Work);
                let record =
                    Assignment::new(room.clone(), "RM_y".to_owned(), home.as_str().into(), String::new(), 1);
                self.inner.create(record).await.unwrap();
                None
            }
        }
    }
}

impl Registry for FaultyRegistry {
    fn view(&self) -> Arc<View> {
        self.inner.view()
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.inner.watch()
    }

    fn watch_room(&self, room: &RoomId) -> systir_registry::RoomWatch {
        self.inner.watch_room(room)
    }

    fn announce(&self, lease: Lease) {
        self.inner.announce(lease);
    }

    fn report(&self, load: NodeLoad, draining: bool) {
        self.inner.report(load, draining);
    }

    fn retire(&self) -> BoxFuture<'_, ()> {
        self.inner.retire()
    }

    fn create(&self, wanted: Assignment) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        async move {
            match self.write_error(&wanted.room).await {
                Some(error) => Err(error.into()),
                None => self.inner.create(wanted).await,
            }
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        read: &'a Versioned<Assignment>,
        wanted: Assignment,
    ) -> BoxFuture<'a, Result<Versioned<Assignment>, UpdateError>> {
        async move {
            match self.write_error(&wanted.room).await {
                Some(error) => Err(error.into()),
                None => self.inner.update(read, wanted).await,
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, read: &'a Versioned<Assignment>) -> BoxFuture<'a, Result<(), UpdateError>> {
        self.inner.delete(read)
    }
}

fn other_room() -> RoomId {
    RoomId::new("ku.dk", "seminar")
}

fn grants_for(room: &RoomId, identity: &str) -> Grants {
    Grants { room: room.name.clone(), ..grants(identity) }
}

/// Status and reason code of a refused join. `/rtc/validate` must return the same refusal.
async fn refused(node: &Node, room: &RoomId, identity: &str) -> (u16, &'static str) {
    let refusal =
        TestParticipant::try_join(node, grants_for(room, identity)).await.err().expect("the join succeeded");
    let validated =
        node.parts.admission.would_admit(room, &grants_for(room, identity), &Demand::default()).await.err();
    if ![Reason::RegistryUnavailable, Reason::RegistryRefuses].contains(&refusal.reason) {
        assert_eq!(validated.as_ref(), Some(&refusal), "/rtc/validate returns the same refusal");
    }
    status_and_code(&refusal)
}

fn used(node: &Node) -> u32 {
    node.parts.local_load.load().participants
}

fn record_with_epoch(epoch: u64) -> Versioned<Assignment> {
    let mut value = Assignment::new(room(), "RM_x".to_owned(), "cph-1".into(), "1-abc".to_owned(), 1);
    value.add_spill("sto-1".into(), 1);
    value.epoch = epoch;
    Versioned { value, revision: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_new_room_leaves_no_record() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 1).await);
    let _anna = TestParticipant::join(&home, "anna").await;
    let _bob = TestParticipant::join(&home, "bob").await;
    let registry = cluster.store.registry();
    let before = registry.assignment(&room());
    for name in ["seminar", "exam", "defence"] {
        let new = RoomId::new("ku.dk", name);
        assert_eq!(refused(&home, &new, "chen").await, (403, "approved-full"));
    }
    assert_eq!(registry.view().rooms().count(), 1);
    assert_eq!(registry.assignment(&room()), before);
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spill_that_cannot_be_written_is_refused_with_the_registry_as_reason() {
    let cluster = TestCluster::new();
    let registry = FaultyRegistry::new(&cluster);
    let home = cluster.node_with("cph-1", 1, registry.clone()).await;
    let sister = cluster.node("sto-1", 5).await;
    let _anna = TestParticipant::join(&home, "anna").await;
    for (writes, code) in [(Writes::Fail, "registry-unavailable"), (Writes::Refuse, "registry-refuses")] {
        registry.set(writes);
        assert_eq!(refused(&home, &room(), "bob").await, (503, code));
        assert_eq!(refused(&home, &other_room(), "bob").await, (503, code));
        assert_eq!((used(&home), used(&sister)), (1, 0), "the seat was released");
    }
    assert_eq!(nodes(cluster.record().as_ref()), ["cph-1"]);
    assert_eq!(cluster.store.registry().assignment(&other_room()), None);
    // Once the sister is in the record, joins to it need no registry.
    registry.set(Writes::Work);
    let _bob = TestParticipant::join(&home, "bob").await;
    registry.set(Writes::Fail);
    let _chen = TestParticipant::join(&home, "chen").await;
    assert_eq!((used(&home), used(&sister)), (1, 2));
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_times_out_when_the_registry_does_not_answer() {
    let cluster = TestCluster::new();
    let registry = FaultyRegistry::new(&cluster);
    let home = cluster.node_with("cph-1", 5, registry.clone()).await;
    registry.set(Writes::Hang);
    let joiner = Joiner { grants: grants("anna"), client: Default::default(), auto_subscribe: true };
    let refused = home.parts.joins.join_within(Duration::from_millis(200), joiner).await.err().unwrap();
    assert_eq!(status_and_code(&refused), (503, "join-timeout"));
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_loses_the_race_for_a_new_room_uses_the_winners_record() {
    let cluster = TestCluster::new();
    cluster.allow_any_nordic_home();
    let registry = FaultyRegistry::new(&cluster);
    let home = cluster.node_with("cph-1", 5, registry.clone()).await;
    let sister = cluster.node("sto-1", 5).await;
    let proposed =
        home.parts.admission.explain(&room())["candidates"][0]["node"].as_str().unwrap().to_owned();
    let winner = if proposed == "cph-1" { "sto-1" } else { "cph-1" };
    registry.set(Writes::LoseRace(winner.to_owned()));
    let _anna = TestParticipant::join(&home, "anna").await;
    assert_eq!(nodes(cluster.record().as_ref()), [winner]);
    let seats = [("cph-1", used(&home)), ("sto-1", used(&sister))];
    assert_eq!(seats.map(|(node, used)| used == u32::from(node == winner)), [true; 2], "{seats:?}");
    // The winner chose the same home: the reservation stays valid.
    registry.set(Writes::LoseRace("cph-1".to_owned()));
    let _bob = TestParticipant::try_join(&home, grants_for(&other_room(), "bob")).await.unwrap();
    assert!(cluster.store.registry().assignment(&other_room()).is_some());
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_or_silence_of_another_node_does_not_count_as_full() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 5).await;
    // By the sister's own rules it may carry nothing; it is only a gateway.
    cluster.publish_rules(1, |rules| {
        rules.replacen(r#"resource.country in Zone::"Nordic""#, r#"resource.country == Country::"DK""#, 1)
    });
    let sister = cluster.node("sto-1", 5).await;
    let denied = reserve(&home, "sto-1", 1, "one").await.unwrap_err();
    assert_eq!(denied.reason, Reason::PolicyDenied);
    let silent = reserve(&home, "aws-sto-1", 1, "two").await.unwrap_err();
    assert_eq!(silent.reason, Reason::NoAnswer);
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_policy_allows_only_as_home_reserves_no_seat_as_spill_node() {
    let cluster = TestCluster::new();
    // Both nodes may be home, and none may be a spill node.
    cluster.publish_rules(1, |rules| {
        let home_only = rules
            .replace(r#"resource.country == Country::"DK""#, r#"resource.country in Zone::"Nordic""#)
            .replace(r#"action in [Action::"spill", Action::"transit"]"#, r#"action == Action::"transit""#)
            .replace("@tier(\"1\")\n", "");
        assert!(!home_only.contains("Action::\"spill\""), "{home_only}");
        home_only
    });
    let (home, other) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    // Without a record the role of the request counts: as spill node it is denied.
    let denied = reserve(&home, "sto-1", 0, "one").await.unwrap_err();
    assert_eq!(denied.reason, Reason::PolicyDenied);
    let as_home = ReservationRequest { role: MediaRole::Home, ..request(0, "two") };
    assert_eq!(home.directory.reserve("sto-1", as_home.clone()).await, Ok(0));
    // With a record that names another home, the node could only be a spill node, whatever the request says.
    let mut record = record_with_epoch(3).value;
    record.spill.clear();
    cluster.store.registry().create(record).await.unwrap();
    let lies = ReservationRequest { epoch: 3, join_id: "three".to_owned(), ..as_home.clone() };
    let denied = home.directory.reserve("sto-1", lies).await.unwrap_err();
    assert_eq!(denied.reason, Reason::PolicyDenied);
    // A gateway whose copy is behind learns that it is, and asks again.
    let old = ReservationRequest { epoch: 2, join_id: "four".to_owned(), ..as_home.clone() };
    assert_eq!(home.directory.reserve("sto-1", old).await.unwrap_err().reason, Reason::EpochOvertaken);
    let unaware = ReservationRequest { epoch: 0, join_id: "five".to_owned(), ..as_home };
    assert_eq!(home.directory.reserve("sto-1", unaware).await, Ok(0), "its write of the record fails");
    home.stop().await;
    other.stop().await;
}

/// A request for a seat as spill node, with this epoch (0: no record is known).
fn request(epoch: u64, join_id: &str) -> ReservationRequest {
    ReservationRequest {
        room: room(),
        identity: join_id.to_owned(),
        join_id: join_id.to_owned(),
        epoch,
        policy_version: 1,
        role: MediaRole::Spill,
    }
}

async fn reserve(from: &Node, node: &str, epoch: u64, join_id: &str) -> Result<(), Refusal> {
    from.directory.reserve(node, request(epoch, join_id)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_an_older_epoch_is_refused_and_one_with_a_newer_epoch_is_not() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    cluster.store.registry().create(record_with_epoch(3).value).await.unwrap();
    let reserve_with = async |epoch, join_id: &str| {
        reserve(&home, "sto-1", epoch, join_id).await.map_err(|refusal| refusal.reason)
    };
    assert_eq!(reserve_with(2, "old").await, Err(Reason::EpochOvertaken));
    assert_eq!(reserve_with(3, "anna").await, Ok(()));
    assert_eq!(reserve_with(4, "ahead").await, Ok(()), "the sister's copy may be behind");
    let new = JoinAssignment::New(home.parts.admission.new_assignment(&room(), "cph-1"));
    assert_eq!(reserve_with(new.epoch(), "unaware").await, Ok(()));
    let record = record_with_epoch(3).value;
    let ticket = home.parts.joins.tickets.issue(&record, "sto-1", &grants("anna"), 0).unwrap();
    let start = |epoch| SignalStart {
        room: room().key(),
        join_id: "anna".to_owned(),
        ticket: ticket.note().clone(),
        claims_json: serde_json::to_string(&grants("anna")).unwrap(),
        epoch,
        ..SignalStart::default()
    };
    let refused = home.directory.signal("sto-1", start(2)).await.err().unwrap();
    assert!(matches!(&refused, CallError::Refused(why) if why.contains("overtaken")), "{refused}");
    assert!(home.directory.signal("sto-1", start(3)).await.is_ok());
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_stale_copy_gets_unavailable_not_full_and_joins_once_the_copy_is_updated() {
    let cluster = TestCluster::new();
    let sister = cluster.node("sto-1", 5).await;
    let known = record_with_epoch(3);
    cluster.store.registry().create(known.value.clone()).await.unwrap();
    // The gateway's copy of the registry stays at epoch 1.
    let frozen = LocalStore::default();
    let copy = frozen.registry();
    copy.announce(cluster.store.registry().view().node("sto-1").unwrap().clone());
    let old = copy.create(record_with_epoch(1).value).await.unwrap();
    let home = cluster.node_with("cph-1", 0, Arc::new(frozen.registry())).await;
    let refusal = TestParticipant::try_join(&home, grants("anna")).await.err().unwrap();
    assert_eq!(status_and_code(&refusal), (503, "approved-unavailable"));
    let (anna, updated) = tokio::join!(
        TestParticipant::try_join(&home, grants("anna")),
        copy.update(&old, known.value.clone())
    );
    updated.unwrap();
    assert!(anna.is_ok());
    assert_eq!(used(&sister), 1);
    home.stop().await;
    sister.stop().await;
}
