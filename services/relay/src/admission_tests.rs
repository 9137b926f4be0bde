//! Joins and refusals over whole nodes: the reason of each refusal, and that a refused join leaves no seat
//! and no record.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use systir_assignment::Versioned;
use systir_placement::Demand;
use systir_proto::cluster::v1::SignalStart;
use systir_registry::{CreateError, LocalRegistry, NodeLoad, RegistryError, UpdateError, View};
use tokio::sync::watch;

use std::sync::Mutex;

use systir_admission::ReservationRequest;
use systir_room_runtime::CleanUp;
use systir_room_tag::test_keys;

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
    /// Another node creates the room first, with this record.
    LoseRace(Vec<Assignment>),
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
            Writes::LoseRace(records) => {
                self.set(Writes::Work);
                let record = records.iter().find(|record| record.room == *room).unwrap();
                self.inner.create(record.clone()).await.unwrap();
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

    fn follow(&self, institutions: BTreeSet<String>) {
        self.inner.follow(institutions);
    }

    fn wake_room(&self, room: &RoomId) {
        self.inner.wake_room(room);
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

    fn create_unless(
        &self,
        wanted: Assignment,
        others: Vec<(RoomId, u64)>,
    ) -> BoxFuture<'_, Result<Versioned<Assignment>, CreateError>> {
        async move {
            match self.write_error(&wanted.room).await {
                Some(error) => Err(error.into()),
                None => self.inner.create_unless(wanted, others).await,
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
    test_keys::room("seminar")
}

fn grants_for(room: &RoomId, identity: &str) -> Grants {
    Grants { room: test_keys::keys().name(room).unwrap(), ..grants(identity) }
}

/// Status and reason code of a refused join. `/rtc/validate` must return the same refusal.
async fn refused(node: &Node, room: &RoomId, identity: &str) -> (u16, &'static str) {
    let refusal =
        TestParticipant::try_join(node, grants_for(room, identity)).await.err().expect("the join succeeded");
    let validated = node
        .parts
        .admission
        .would_admit(room, &grants_for(room, identity), &Demand::default(), 0)
        .await
        .err();
    // Whether a home can be made is known only when it is made.
    if node.parts.assignments.get(room).is_some() {
        assert_eq!(validated.as_ref(), Some(&refusal), "/rtc/validate returns the same refusal");
    }
    status_and_code(&refusal)
}

pub(super) fn used(node: &Node) -> u32 {
    node.parts.local_load.load().participants
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_new_room_that_nobody_joined_is_removed() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 1).await);
    let _anna = TestParticipant::join(&home, "anna").await;
    let _bob = TestParticipant::join(&home, "bob").await;
    for name in ["seminar", "exam", "defence"] {
        let new = test_keys::room(name);
        assert_eq!(refused(&home, &new, "chen").await, (403, "approved-full"));
    }
    let when = CleanUp { interval: Duration::from_millis(20), stale_after: Duration::from_millis(100) };
    let cleaning = tokio::spawn(home.parts.rooms.clone().clean_up(when));
    let mut view = cluster.store.registry().watch();
    let cleaned = view.wait_for(|view| view.rooms().map(|record| &record.room).eq([&room()]));
    tokio::time::timeout(TIMEOUT, cleaned).await.unwrap().unwrap();
    cleaning.abort();
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_room_needs_the_registry_and_a_new_spill_node_does_not() {
    let cluster = TestCluster::new();
    let registry = FaultyRegistry::new(&cluster);
    let home = cluster.node_with("cph-1", 1, registry.clone()).await;
    let sister = cluster.node("sto-1", 5).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    for (writes, code) in [(Writes::Refuse, "registry-refuses"), (Writes::Fail, "registry-unavailable")] {
        registry.set(writes);
        assert_eq!(refused(&home, &other_room(), "bob").await, (503, code));
        assert_eq!((used(&home), used(&sister)), (1, 0), "no seat is held");
    }
    assert_eq!(cluster.store.registry().assignment(&other_room()), None);
    let mut bob = TestParticipant::join(&home, "bob").await;
    assert_eq!((used(&home), used(&sister)), (1, 1));
    anna.until_sees("bob").await;
    bob.until_sees("anna").await;
    assert_eq!(nodes(cluster.record().as_ref()), ["cph-1"]);
    registry.set(Writes::Work);
    let written = |known: Option<&Assignment>| nodes(known) == ["cph-1", "sto-1"];
    cluster.until_record("the record with the spill node", written).await;
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

/// Waits until a seat is taken or reserved at the node, or none is.
pub(super) async fn until_used(node: &Node, seats: u32) {
    let counted = async {
        while used(node) != seats {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Long before a reservation expires.
    let counted = tokio::time::timeout(systir_placement::RESERVATION_TTL / 2, counted).await;
    assert!(counted.is_ok(), "{} has {} seats in use instead of {seats}", node.name, used(node));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_no_participant_takes_is_released_at_each_node() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let admission = &home.parts.admission;
    let (room, demand) = (room(), Demand::default());
    let seat = admission.admit(&room, &grants("anna"), &demand, 0).await.unwrap();
    assert_eq!((seat.node.as_str(), used(&home)), ("cph-1", 1));
    // The client closes its connection, so that its join is dropped.
    drop(seat);
    until_used(&home, 0).await;
    let _chen = TestParticipant::join(&home, "chen").await;
    let seat = admission.admit(&room, &grants("bob"), &demand, 0).await.unwrap();
    assert_eq!((seat.node.as_str(), used(&sister)), ("sto-1", 1));
    drop(seat);
    until_used(&sister, 0).await;
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_reserves_no_seat_at_any_node() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 1).await);
    let _anna = TestParticipant::join(&home, "anna").await;
    let admission = &home.parts.admission;
    // Of one free seat, any number of questions at once is answered with yes.
    let (room, bob, demand) = (room(), grants("bob"), Demand::default());
    let questions = (0..20).map(|_| admission.would_admit(&room, &bob, &demand, 0));
    for answer in futures::future::join_all(questions).await {
        assert_eq!(answer, Ok(()));
        assert_eq!((used(&home), used(&sister)), (1, 0));
    }
    let _bob = TestParticipant::join(&home, "bob").await;
    assert_eq!(used(&sister), 1);
    let full = admission.would_admit(&room, &grants("chen"), &demand, 0).await.unwrap_err();
    assert_eq!(status_and_code(&full), (403, "approved-full"));
    sister.stop().await;
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_takes_no_more_seats_of_all_nodes_than_its_quota() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 2).await, cluster.node("sto-1", 9).await);
    // The home is full after two of them.
    let mut connected = Vec::new();
    for identity in ["anna", "anna#screen", "anna#slides", "anna#board"] {
        connected.push(TestParticipant::join(&home, identity).await);
    }
    assert!(used(&sister) > 0 && used(&home) + used(&sister) == 4);
    for (identity, participant) in [("anna#board", 0), ("anna", 3)] {
        connected[participant].until_sees(identity).await;
    }
    for gateway in [&home, &sister] {
        let refused = TestParticipant::try_join(gateway, grants("anna#more")).await.err().unwrap();
        assert_eq!(refused.reason, Reason::IdentityQuota, "{}", gateway.name);
        let known = gateway.parts.joins.known(&room(), "anna#more").await;
        let (room, claims, demand) = (room(), grants("anna#more"), Demand::default());
        let validated = gateway.parts.admission.would_admit(&room, &claims, &demand, known.elsewhere);
        assert_eq!(validated.await.unwrap_err().reason, Reason::IdentityQuota, "{}", gateway.name);
    }
    let _bob = TestParticipant::join(&sister, "bob").await;
    assert_eq!(used(&home) + used(&sister), 5);
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_loses_the_race_for_a_new_room_follows_the_winner() {
    let cluster = TestCluster::new();
    cluster.allow_any_nordic_home();
    let registries = [FaultyRegistry::new(&cluster), FaultyRegistry::new(&cluster)];
    let home = cluster.node_with("cph-1", 5, registries[0].clone()).await;
    let sister = cluster.node_with("sto-1", 5, registries[1].clone()).await;
    let proposed =
        home.parts.admission.explain(&room())["candidates"][0]["node"].as_str().unwrap().to_owned();
    let winner = if proposed == "cph-1" { "sto-1" } else { "cph-1" };
    for registry in &registries {
        registry.set(Writes::LoseRace(vec![cluster.granted(winner, 1)]));
    }
    let _anna = TestParticipant::join(&home, "anna").await;
    assert_eq!(nodes(cluster.record().as_ref()), [winner]);
    let seats = [("cph-1", used(&home)), ("sto-1", used(&sister))];
    assert_eq!(seats.map(|(node, used)| used == u32::from(node == winner)), [true; 2], "{seats:?}");
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_create_one_room_at_once_at_two_homes_meet_in_one() {
    let cluster = TestCluster::new();
    cluster.allow_any_nordic_home();
    let (home, sister) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    for name in (0..8).map(|number| format!("seminar-{number}")) {
        let room = test_keys::room(&name);
        let create = |node: &Node| {
            let (admission, room) = (node.parts.admission.clone(), room.clone());
            async move { admission.become_home(&room, systir_registry::GrantPurpose::Create).await.unwrap() }
        };
        let (one, other) = tokio::join!(create(&home), create(&sister));
        assert_eq!((&one.home, &one.sid, one.epoch), (&other.home, &other.sid, other.epoch));
    }
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
    let grant = cluster.granted("cph-1", 1).grant;
    let denied = reserve(&home, "sto-1", &grant, "one").await.unwrap_err();
    assert_eq!(denied, Reason::PolicyDenied);
    let silent = reserve(&home, "aws-sto-1", &grant, "two").await.unwrap_err();
    assert_eq!(silent, Reason::NoAnswer);
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
    // As a spill node it is denied, although the grant lists it.
    let grant = cluster.granted("cph-1", 1).grant;
    assert_eq!(reserve(&home, "sto-1", &grant, "one").await, Err(Reason::PolicyDenied));
    let own = cluster.granted("sto-1", 2).grant;
    let second = reserve(&home, "sto-1", &own, "two").await;
    assert_eq!(second, Ok(()), "as home of a later epoch, whose former home never answers");
    home.stop().await;
    other.stop().await;
}

async fn reserve(from: &Node, node: &str, grant: &str, join_id: &str) -> Result<(), Reason> {
    let request = ReservationRequest {
        room: room(),
        identity: join_id.to_owned(),
        join_id: Some(join_id.to_owned()),
        grant: grant.to_owned(),
    };
    from.directory.reserve(node, request).await.map(drop).map_err(|refused| refused.refusal.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_needs_a_grant_that_lists_both_nodes_and_the_newest_one_counts() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 5).await, cluster.node("sto-1", 5).await);
    let invalid = Err(Reason::GrantInvalid);
    assert_eq!(reserve(&home, "sto-1", "", "none").await, invalid, "no grant");
    let granted = cluster.granted("cph-1", 3);
    let forged = granted.grant.replace("spill", "spoil");
    assert_eq!(reserve(&home, "sto-1", &forged, "forged").await, invalid);
    // A node of the cluster that may not be home signs for itself.
    let usurper = cluster.granted("sto-1", 3).grant;
    assert_eq!(reserve(&home, "sto-1", &usurper, "usurper").await, Err(Reason::PolicyDenied));
    let unlisted = cluster.granted_with("cph-1", 3, |grant| grant.terms.spill.clear()).grant;
    assert_eq!(reserve(&home, "sto-1", &unlisted, "unlisted").await, invalid);
    let no_gateway = cluster.granted_with("cph-1", 4, |grant| grant.terms.gateways.clear()).grant;
    assert_eq!(reserve(&home, "sto-1", &no_gateway, "no-gateway").await, invalid);
    let record = cluster.granted("cph-1", 5);
    let granted = record.grant.clone();
    assert_eq!(reserve(&home, "sto-1", &granted, "anna").await, Ok(()));
    assert_eq!(reserve(&home, "sto-1", &unlisted, "bob").await, Ok(()), "an older grant changes nothing");
    let ticket = home.parts.joins.tickets.issue(&record, "sto-1", &grants("anna"), 0).unwrap();
    let start = SignalStart {
        room: room().key(),
        join_id: "anna".to_owned(),
        ticket: ticket.note().clone(),
        claims_json: serde_json::to_string(&grants("anna")).unwrap(),
        grant: granted,
        ..SignalStart::default()
    };
    assert!(home.directory.signal("sto-1", start).await.is_ok());
    home.stop().await;
    sister.stop().await;
}
