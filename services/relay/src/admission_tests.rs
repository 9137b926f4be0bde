//! Who is let in, who is told what, and what is left of those who are not.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use systir_assignment::Versioned;
use systir_placement::Demand;
use systir_proto::cluster::v1::SignalStart;
use systir_registry::{CreateError, Load, LocalRegistry, RegistryError, UpdateError, View};
use tokio::sync::watch;

use std::sync::Mutex;

use systir_admission::ReservationRequest;
use systir_cascade::CallError;
use systir_registry::JoinAssignment;

use super::*;

/// What becomes of writes.
#[derive(Debug, Clone, Default)]
enum Writes {
    #[default]
    Work,
    /// The store is away.
    Fail,
    /// The node's role is wrong.
    AreRefused,
    /// Nobody answers.
    Hang,
    /// Another front door writes a room down first, with this home.
    AreBeaten(String),
}

/// A registry whose copy is read as ever.
#[derive(Debug)]
struct Troubled {
    inner: LocalRegistry,
    writes: Mutex<Writes>,
}

impl Troubled {
    fn new(world: &World) -> Arc<Self> {
        Arc::new(Self { inner: world.store.registry(), writes: Mutex::default() })
    }

    fn set(&self, writes: Writes) {
        *self.writes.lock().unwrap() = writes;
    }

    /// None when the write goes on.
    async fn trouble(&self, room: &RoomId) -> Option<RegistryError> {
        let writes = self.writes.lock().unwrap().clone();
        match writes {
            Writes::Work => None,
            Writes::Fail => Some(RegistryError::Unavailable("a test".to_owned())),
            Writes::AreRefused => Some(RegistryError::Refused("a test".to_owned())),
            Writes::Hang => std::future::pending().await,
            Writes::AreBeaten(home) => {
                self.set(Writes::Work);
                let record =
                    Assignment::new(room.clone(), "RM_y".to_owned(), home.as_str().into(), String::new(), 1);
                self.inner.create(record).await.unwrap();
                None
            }
        }
    }
}

impl Registry for Troubled {
    fn view(&self) -> Arc<View> {
        self.inner.view()
    }

    fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.inner.watch()
    }

    fn announce(&self, lease: Lease) {
        self.inner.announce(lease);
    }

    fn report(&self, load: Load, draining: bool) {
        self.inner.report(load, draining);
    }

    fn retire(&self) -> BoxFuture<'_, ()> {
        self.inner.retire()
    }

    fn create(&self, wanted: Assignment) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        async move {
            match self.trouble(&wanted.room).await {
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
            match self.trouble(&wanted.room).await {
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

fn into_room(room: &RoomId, identity: &str) -> Grants {
    Grants { room: room.name.clone(), ..grants(identity) }
}

/// The status and the code of a refused join, which `/rtc/validate` must tell, too.
async fn refused(node: &Node, room: &RoomId, identity: &str) -> (u16, &'static str) {
    let told = Person::try_join(node, into_room(room, identity)).await.err().expect("somebody got in");
    let asked = node.parts.admission.would_admit(room, identity, &Demand::default()).await.err();
    if ![Reason::RegistryAway, Reason::RegistryRefuses].contains(&told.reason) {
        assert_eq!(asked.as_ref(), Some(&told), "who only asks hears the same");
    }
    answer(&told)
}

fn used(node: &Node) -> u32 {
    node.parts.local_load.load().participants
}

fn of_epoch(epoch: u64) -> Versioned<Assignment> {
    let mut value = Assignment::new(room(), "RM_x".to_owned(), "cph-1".into(), "1-abc".to_owned(), 1);
    value.add_spill("sto-1".into(), 1);
    value.epoch = epoch;
    Versioned { value, revision: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_room_that_is_refused_leaves_no_record() {
    let world = World::new();
    let (home, sister) = (world.node("cph-1", 1).await, world.node("sto-1", 1).await);
    let _anna = Person::join(&home, "anna").await;
    let _bob = Person::join(&home, "bob").await;
    let registry = world.store.registry();
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
async fn with_a_seat_at_a_sister_that_cannot_be_written_down_the_registry_is_the_reason() {
    let world = World::new();
    let registry = Troubled::new(&world);
    let home = world.node_with("cph-1", 1, registry.clone()).await;
    let sister = world.node("sto-1", 5).await;
    let _anna = Person::join(&home, "anna").await;
    for (writes, code) in [(Writes::Fail, "registry-away"), (Writes::AreRefused, "registry-refuses")] {
        registry.set(writes);
        assert_eq!(refused(&home, &room(), "bob").await, (503, code));
        assert_eq!(refused(&home, &other_room(), "bob").await, (503, code));
        assert_eq!((used(&home), used(&sister)), (1, 0), "the seat was given back");
    }
    assert_eq!(nodes(world.record().as_ref()), ["cph-1"]);
    assert_eq!(world.store.registry().assignment(&other_room()), None);
    // Once the sister is in the record she needs no registry.
    registry.set(Writes::Work);
    let _bob = Person::join(&home, "bob").await;
    registry.set(Writes::Fail);
    let _chen = Person::join(&home, "chen").await;
    assert_eq!((used(&home), used(&sister)), (1, 2));
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_waits_no_longer_than_its_limit_for_a_registry_that_says_nothing() {
    let world = World::new();
    let registry = Troubled::new(&world);
    let home = world.node_with("cph-1", 5, registry.clone()).await;
    registry.set(Writes::Hang);
    let joiner = Joiner { grants: grants("anna"), client: Default::default(), auto_subscribe: true };
    let refused = home.parts.joins.join_within(Duration::from_millis(200), joiner).await.err().unwrap();
    assert_eq!(answer(&refused), (503, "join-timeout"));
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_race_for_a_new_room_goes_on_with_the_winners_record() {
    let world = World::new();
    world.allow_any_nordic_home();
    let registry = Troubled::new(&world);
    let home = world.node_with("cph-1", 5, registry.clone()).await;
    let sister = world.node("sto-1", 5).await;
    let proposed =
        home.parts.admission.explain(&room())["candidates"][0]["node"].as_str().unwrap().to_owned();
    let winner = if proposed == "cph-1" { "sto-1" } else { "cph-1" };
    registry.set(Writes::AreBeaten(winner.to_owned()));
    let _anna = Person::join(&home, "anna").await;
    assert_eq!(nodes(world.record().as_ref()), [winner]);
    let seats = [("cph-1", used(&home)), ("sto-1", used(&sister))];
    assert_eq!(seats.map(|(node, used)| used == u32::from(node == winner)), [true; 2], "{seats:?}");
    // With the same home nothing needs to be thought over.
    registry.set(Writes::AreBeaten("cph-1".to_owned()));
    let _bob = Person::try_join(&home, into_room(&other_room(), "bob")).await.unwrap();
    assert!(world.store.registry().assignment(&other_room()).is_some());
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_refuses_for_is_not_taken_for_full() {
    let world = World::new();
    let home = world.node("cph-1", 5).await;
    // The sister holds rules by which she carries nothing.
    let path = world.folder.path().join("ku.dk.cedar");
    let rules = std::fs::read_to_string(&path).unwrap();
    let narrower =
        rules.replace(r#"resource.country in Zone::"Nordic""#, r#"resource.country == Country::"DK""#);
    assert_ne!(rules, narrower);
    std::fs::write(&path, narrower).unwrap();
    let sister = world.node("sto-1", 5).await;
    let denied = ask(&home, "sto-1", 1, "one").await.unwrap_err();
    assert_eq!(denied.reason, Reason::PolicyDenied);
    let silent = ask(&home, "aws-sto-1", 1, "two").await.unwrap_err();
    assert_eq!(silent.reason, Reason::NoAnswer);
    home.stop().await;
    sister.stop().await;
}

/// Asks a node for a seat in the room as of an epoch; 0 without a record.
async fn ask(from: &Node, node: &str, epoch: u64, join_id: &str) -> Result<(), Refusal> {
    let request = ReservationRequest {
        room: room(),
        identity: join_id.to_owned(),
        join_id: join_id.to_owned(),
        epoch,
        policy_version: 1,
    };
    from.directory.reserve(node, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_door_with_an_overtaken_epoch_is_refused_and_one_that_is_ahead_is_not() {
    let world = World::new();
    let (home, sister) = (world.node("cph-1", 5).await, world.node("sto-1", 5).await);
    world.store.registry().create(of_epoch(3).value).await.unwrap();
    let asked = async |epoch, join_id: &str| {
        ask(&home, "sto-1", epoch, join_id).await.map_err(|refusal| refusal.reason)
    };
    assert_eq!(asked(2, "old").await, Err(Reason::EpochOvertaken));
    assert_eq!(asked(3, "anna").await, Ok(()));
    assert_eq!(asked(4, "ahead").await, Ok(()), "the sister's copy may be a moment behind");
    let new = JoinAssignment::New(home.parts.admission.new_assignment(&room(), "cph-1"));
    assert_eq!(asked(new.epoch(), "unaware").await, Ok(()));
    let start = |epoch| SignalStart {
        room: room().key(),
        join_id: "anna".to_owned(),
        identity: "anna".to_owned(),
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
async fn a_front_door_that_was_away_is_not_told_full_and_goes_on_once_it_hears_the_news() {
    let world = World::new();
    let sister = world.node("sto-1", 5).await;
    let known = of_epoch(3);
    world.store.registry().create(known.value.clone()).await.unwrap();
    // The front door's copy of the registry stands still at epoch 1.
    let frozen = LocalStore::default();
    let copy = frozen.registry();
    copy.announce(world.store.registry().view().node("sto-1").unwrap().clone());
    let old = copy.create(of_epoch(1).value).await.unwrap();
    let home = world.node_with("cph-1", 0, Arc::new(frozen.registry())).await;
    let told = Person::try_join(&home, grants("anna")).await.err().unwrap();
    assert_eq!(answer(&told), (503, "approved-unavailable"));
    let (anna, news) =
        tokio::join!(Person::try_join(&home, grants("anna")), copy.update(&old, known.value.clone()));
    news.unwrap();
    assert!(anna.is_ok());
    assert_eq!(used(&sister), 1);
    home.stop().await;
    sister.stop().await;
}
