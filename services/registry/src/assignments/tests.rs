use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use systir_assignment::NodeId;
use systir_documents::{Grant, Lifetime, SigningKey};
use systir_policy::demo::DemoDocuments;
use systir_room_tag::{RoomKey, RoomKeys, test_keys};

use super::*;
use crate::LocalStore;

const HOSTILE: &str = "aws-sto-1";
const NODES: [&str; 3] = ["cph-1", "sto-1", HOSTILE];

fn room() -> RoomId {
    test_keys::room("lecture")
}

fn key(node: &str) -> SigningKey {
    let mut seed = [0; 32];
    for (byte, of_name) in seed.iter_mut().zip(node.bytes()) {
        *byte = of_name;
    }
    SigningKey::from_seed(node, seed).unwrap()
}

/// In the policy of tests cph-1 and sto-1 may be home, spill node and gateway, and the third node nothing.
fn authority(node: &str) -> Arc<Authority> {
    let lifetime = Lifetime { issued: 0, renew_by: u64::MAX, not_after: u64::MAX };
    let facts = |node: &str| (vec![key(node).public()], vec!["10.0.0.0/24".parse().unwrap()]);
    let mut documents = DemoDocuments::new(lifetime, "", facts).unwrap();
    let nordic_home = documents
        .bundle
        .policy
        .replace(r#"resource.country == Country::"DK""#, r#"resource.country in Zone::"Nordic""#);
    assert_ne!(nordic_home, documents.bundle.policy);
    documents.bundle.policy = nordic_home;
    let authority = Authority::new(documents.engine().unwrap(), node, Arc::default());
    authority.use_room_keys(test_keys::keys());
    Arc::new(authority)
}

/// The other nodes of a test.
#[derive(Debug, Default)]
struct Peers {
    /// Nodes with a link.
    linked: Vec<&'static str>,
    /// Since when.
    since: Mutex<Option<Instant>>,
    /// What each node answers; a node without an answer is silent.
    answers: Mutex<BTreeMap<&'static str, Result<ToldAssignment, Refusal>>>,
    asked: Mutex<Vec<(String, GrantPurpose)>>,
    /// Has this node participants?
    occupied: bool,
}

impl GrantPeers for Peers {
    fn link_since(&self, node: &str) -> Option<Instant> {
        let since = self.since.lock().unwrap().unwrap_or_else(Instant::now);
        self.linked.contains(&node).then_some(since)
    }

    fn ask_grant<'a>(
        &'a self,
        node: &'a str,
        _: &'a RoomId,
        _: String,
        purpose: GrantPurpose,
        _: Duration,
    ) -> BoxFuture<'a, Result<ToldAssignment, Refusal>> {
        self.asked.lock().unwrap().push((node.to_owned(), purpose));
        let silent = || Err(Refusal::new(Reason::NoAnswer, "a test"));
        let answer = self.answers.lock().unwrap().get(node).cloned().unwrap_or_else(silent);
        async move { answer }.boxed()
    }
}

impl Occupied for Peers {
    fn is_occupied(&self, _: &RoomId) -> bool {
        self.occupied
    }

    fn has_participants(&self, _: &RoomId) -> bool {
        self.occupied
    }
}

fn node_with(store: &LocalStore, name: &str, peers: Arc<Peers>) -> Arc<Assignments> {
    let signer = GrantSigner {
        node: name.to_owned(),
        trust_domain: "nordu.net".to_owned(),
        key: key(name).into(),
        life: Duration::from_secs(600),
    };
    let node = Assignments::new(Arc::new(store.registry()), signer, authority(name));
    node.connect(peers.clone(), Box::new(peers));
    node
}

fn node(store: &LocalStore, name: &str) -> Arc<Assignments> {
    node_with(store, name, Arc::default())
}

async fn created(node: &Assignments) -> Assignment {
    node.create(&room(), || "RM_1".to_owned()).await.unwrap()
}

#[tokio::test]
async fn a_node_that_cannot_read_the_name_is_home_of_no_room() {
    let store = LocalStore::default();
    let node = node(&store, "cph-1");
    node.authority.use_room_keys(RoomKeys::default());
    let refused = node.create(&room(), || "RM_1".to_owned()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoRoomKey);
    assert_eq!(store.registry().assignment(&room()), None);
    // A room that it has already goes on with its grant, which is not signed anew.
    node.authority.use_room_keys(test_keys::keys());
    created(&node).await;
    let note = node.note(&room());
    node.authority.use_room_keys(RoomKeys::default());
    assert_eq!((node.renew(&room()), node.note(&room())), (Ok(()), note), "it counts until it ends");
}

#[tokio::test]
async fn a_room_is_created_under_one_key_only() {
    let store = LocalStore::default();
    let (old, new) = (node(&store, "cph-1"), node(&store, "sto-1"));
    let next = RoomKeys::default().with("ku.dk", RoomKey::from_bytes([2; 32]));
    new.authority.use_room_keys(next.clone().with("ku.dk", test_keys::key()));
    let under_new = next.room("ku.dk", "lecture").unwrap();
    let first = created(&old).await;
    let refused = new.create(&under_new, || "RM_2".to_owned()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::OtherRoomKey);
    assert_eq!((new.get(&room()).unwrap().sid, new.get(&under_new)), (first.sid, None));
    // A record under the other key that rests on no grant does not count.
    forge(&store, |record| record.grant.clear()).await;
    lock(&new.book).forget(&room());
    let second = new.create(&under_new, || "RM_2".to_owned()).await.unwrap();
    assert_eq!(second.room, under_new);
}

/// Writes the room's record, as an attacker with access to the store.
async fn forge(store: &LocalStore, change: impl FnOnce(&mut Assignment)) {
    let registry = store.registry();
    let record = registry.assignment(&room()).unwrap();
    let mut forged = record.value.clone();
    change(&mut forged);
    registry.update(&record, forged).await.unwrap();
}

/// A grant as a node with this key would sign it.
fn signed_by(node: &str, of: &Assignment, change: impl FnOnce(&mut Grant)) -> String {
    let honest = SignedGrant::verify(&of.grant, |home| vec![key(home).public()]).unwrap();
    let mut grant = honest.grant().clone();
    grant.home = node.to_owned();
    grant.terms.homes.insert(node.to_owned());
    change(&mut grant);
    SignedGrant::sign(grant, &key(node)).unwrap().note().to_string()
}

#[tokio::test]
async fn whoever_writes_the_record_no_node_follows_another_home() {
    let store = LocalStore::default();
    let linked = Peers { linked: vec!["cph-1"], ..Peers::default() };
    let occupied = Peers { occupied: true, ..Peers::default() };
    let home = node_with(&store, "cph-1", Arc::new(occupied));
    let member = node_with(&store, "sto-1", Arc::new(linked));
    let honest = created(&home).await;
    assert_eq!(member.get(&room()).unwrap().home, honest.home);
    type Forgery = Box<dyn Fn(&mut Assignment)>;
    let at_home = |node: &'static str, grant: String| -> Forgery {
        Box::new(move |record| (record.home, record.grant) = (node.into(), grant.clone()))
    };
    let epoch = |epoch| move |grant: &mut Grant| grant.epoch = epoch;
    let forgeries: Vec<(&str, Forgery)> = vec![
        ("another home without a grant", at_home(HOSTILE, String::new())),
        ("another home with the home's grant", at_home(HOSTILE, honest.grant.clone())),
        ("garbage", at_home("cph-1", "garbage".to_owned())),
        ("an unapproved node signs", at_home(HOSTILE, signed_by(HOSTILE, &honest, |_| {}))),
        (
            "an unapproved node signs a high epoch",
            at_home(HOSTILE, signed_by(HOSTILE, &honest, epoch(1 << 48))),
        ),
        (
            "an approved node signs although the home lives",
            at_home("sto-1", signed_by("sto-1", &honest, epoch(2))),
        ),
        (
            "an approved node signs for the home",
            at_home("cph-1", signed_by("sto-1", &honest, |_| {}).replace("home sto-1", "home cph-1")),
        ),
    ];
    for (what, forgery) in forgeries {
        forge(&store, forgery).await;
        for (name, node) in [("member", &member), ("home", &home)] {
            let followed = node.get(&room()).unwrap();
            assert_eq!(
                (followed.home, followed.sid),
                (honest.home.clone(), honest.sid.clone()),
                "{what}: {name}"
            );
        }
        assert!(!home.is_recorded(&home.get(&room()).unwrap()), "{what}");
        member.write(&room()).await;
        assert!(!home.is_recorded(&home.get(&room()).unwrap()), "{what}: only the home writes it");
        home.write(&room()).await;
        assert!(home.is_recorded(&home.get(&room()).unwrap()), "{what}");
    }
}

#[tokio::test]
async fn a_node_that_knows_nothing_follows_no_record_without_a_grant_of_an_approved_home() {
    let store = LocalStore::default();
    let honest = created(&node(&store, "cph-1")).await;
    for grant in [String::new(), signed_by(HOSTILE, &honest, |_| {}), honest.grant.replace("spill", "spoil")]
    {
        forge(&store, |record| (record.home, record.grant) = (HOSTILE.into(), grant.clone())).await;
        assert_eq!(node(&store, "sto-1").get(&room()), None, "{grant}");
    }
}

#[tokio::test]
async fn a_grant_of_another_trust_domain_does_not_count_even_with_the_key_of_an_approved_home() {
    let store = LocalStore::default();
    let honest = created(&node(&store, "cph-1")).await;
    let gateway = node(&LocalStore::default(), "sto-1");
    let other = signed_by("cph-1", &honest, |grant| grant.terms.trust_domain = "test.nordu.net".to_owned());
    let refused = gateway.offered(&room(), &other, "cph-1").await.unwrap_err();
    assert_eq!(refused.reason, Reason::GrantInvalid);
    assert!(refused.sentence.contains("test.nordu.net"), "{refused}");
    assert_eq!(gateway.get(&room()), None);
    gateway.offered(&room(), &signed_by("cph-1", &honest, |_| {}), "cph-1").await.unwrap();
    assert_eq!(gateway.get(&room()).unwrap().home, honest.home);
}

#[tokio::test]
async fn a_node_that_has_not_read_the_record_yet_follows_no_other_home_either() {
    let store = LocalStore::default();
    let honest = created(&node(&store, "cph-1")).await;
    let linked = Arc::new(Peers { linked: vec!["cph-1"], ..Peers::default() });
    for epoch in [1, 2, 1_000_000] {
        let gateway = node_with(&store, "sto-1", linked.clone());
        let stolen = signed_by("osl-1", &honest, |grant| grant.epoch = epoch);
        assert!(gateway.offered(&room(), &stolen, "osl-1").await.is_err());
        let stolen = signed_by("sto-1", &honest, |grant| grant.epoch = epoch);
        let gateway = node_with(&store, "cph-2", linked.clone());
        let _ = gateway.offered(&room(), &stolen, "sto-1").await;
        assert_eq!(gateway.get(&room()).unwrap().home, honest.home, "{epoch}");
    }
}

#[tokio::test]
async fn a_room_that_is_used_again_while_its_record_is_deleted_keeps_its_grant() {
    let store = LocalStore::default();
    let home = node(&store, "cph-1");
    let honest = created(&home).await;
    // The first question is before the record is deleted, the second after it.
    let asked = std::cell::Cell::new(0);
    let ended = home
        .leave(&room(), || {
            asked.set(asked.get() + 1);
            asked.get() > 1
        })
        .await;
    assert!(!ended);
    assert_eq!(store.registry().assignment(&room()), None);
    assert_eq!(home.get(&room()).unwrap().sid, honest.sid);
    home.write(&room()).await;
    assert_eq!(store.registry().assignment(&room()).unwrap().value.sid, honest.sid);
}

#[tokio::test]
async fn the_record_adds_only_nodes_that_the_grant_lists() {
    let store = LocalStore::default();
    let home = node(&store, "cph-1");
    created(&home).await;
    forge(&store, |record| {
        record.add_spill(HOSTILE.into(), 1);
        record.add_spill("sto-1".into(), 1);
    })
    .await;
    let spill = |node: &Assignments| node.get(&room()).unwrap().spill;
    assert_eq!(spill(&node(&store, "sto-1")), vec![NodeId::from("sto-1")]);
    assert_eq!(spill(&home), Vec::<NodeId>::new(), "the home knows who carries its room");
}

#[tokio::test]
async fn a_room_whose_record_was_deleted_is_found_at_a_linked_node_and_not_created_again() {
    let store = LocalStore::default();
    let home = node(&store, "cph-1");
    let honest = created(&home).await;
    let registry = store.registry();
    registry.delete(&registry.assignment(&room()).unwrap()).await.unwrap();
    let peers = Arc::new(Peers { linked: vec!["cph-1", HOSTILE], ..Peers::default() });
    peers.answers.lock().unwrap().insert("cph-1", Ok(home.telling(&room()).unwrap()));
    let other = node_with(&store, "sto-1", peers.clone());
    assert_eq!(created(&other).await.sid, honest.sid);
    assert_eq!(registry.assignment(&room()), None, "it wrote nothing");
    let asked = peers.asked.lock().unwrap().clone();
    assert_eq!(asked, [("cph-1".to_owned(), GrantPurpose::Held)], "an unapproved node is not asked");
}

#[tokio::test]
async fn a_node_takes_over_only_when_the_home_is_silent() {
    let store = LocalStore::default();
    let home = node(&store, "cph-1");
    created(&home).await;
    let peers = Arc::new(Peers::default());
    let successor = node_with(&store, "sto-1", peers.clone());
    peers.answers.lock().unwrap().insert("cph-1", Ok(home.telling(&room()).unwrap()));
    let refused = successor.take_over(&room()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::GrantHomeAlive);
    // A home that was silent lately is not asked again for some seconds, so another node.
    peers.answers.lock().unwrap().clear();
    let successor = node_with(&store, "sto-1", peers);
    let taken = successor.take_over(&room()).await.unwrap();
    assert_eq!((taken.home.as_str(), taken.epoch), ("sto-1", 2));
    assert_eq!(store.registry().assignment(&room()).unwrap().value.home.as_str(), "sto-1");
    // The old home, which has nobody in the room, follows.
    assert_eq!(home.get(&room()).unwrap().home.as_str(), "sto-1");
}

#[tokio::test]
async fn a_home_hands_its_role_over_while_it_leads_the_room() {
    let store = LocalStore::default();
    let peers = Arc::new(Peers { linked: vec!["sto-1"], occupied: true, ..Peers::default() });
    let home = node_with(&store, "cph-1", peers.clone());
    let known = created(&home).await;
    let linked = Arc::new(Peers { linked: vec!["cph-1"], ..Peers::default() });
    let successor = node_with(&store, "sto-1", linked);
    let refused = successor.take_hand_over(&room(), "osl-1").await.unwrap_err();
    assert_eq!(refused.reason, Reason::NotAssigned, "only the home hands over");
    assert_eq!(home.listed_successors(&room()), ["sto-1"]);
    assert!(successor.listed_successors(&room()).is_empty());

    // What the successor answers when it is asked.
    let taken = successor.take_hand_over(&room(), "cph-1").await.unwrap();
    assert_eq!((taken.home.as_str(), taken.epoch, &taken.sid), ("sto-1", 2, &known.sid));
    peers.answers.lock().unwrap().insert("sto-1", Ok(successor.telling(&room()).unwrap()));
    let handed_over = home.hand_over(&room(), "sto-1").await.unwrap();
    assert_eq!((handed_over.home.as_str(), handed_over.epoch), ("sto-1", 2));
    assert!(handed_over.has("cph-1"), "it carries the room until it leaves");
    assert_eq!(peers.asked.lock().unwrap().last().unwrap(), &("sto-1".to_owned(), GrantPurpose::HandOver));
    assert_eq!(home.metrics.handed_over.get(), 1);

    // A node that can reach the old home follows only its word.
    let linked = Arc::new(Peers { linked: vec!["cph-1"], ..Peers::default() });
    let member = node_with(&LocalStore::default(), "sto-2", linked);
    member.offered(&room(), &known.grant, "cph-1").await.unwrap();
    let told = successor.telling(&room()).unwrap();
    let refused = member.told(&room(), &told, "sto-1").await.unwrap_err();
    assert_eq!(refused.reason, Reason::GrantHomeAlive);
    member.told(&room(), &told, "cph-1").await.unwrap();
    assert_eq!(member.get(&room()).unwrap().home.as_str(), "sto-1");
}

#[tokio::test]
async fn a_home_that_hands_over_does_not_contest_the_record_of_its_successor() {
    let store = LocalStore::default();
    let peers = Arc::new(Peers { linked: vec!["sto-1"], occupied: true, ..Peers::default() });
    let home = node_with(&store, "cph-1", peers);
    created(&home).await;
    lock(&home.handing_over).insert(room(), "sto-1".to_owned());
    node(&store, "sto-1").take_hand_over(&room(), "cph-1").await.unwrap();
    let followed = home.get(&room()).unwrap();
    assert_eq!((followed.home.as_str(), followed.epoch), ("sto-1", 2), "the record came before the answer");
}

#[tokio::test]
async fn a_hand_over_that_fails_leaves_the_home_as_it_is() {
    let store = LocalStore::default();
    let home = node_with(&store, "cph-1", Arc::new(Peers { occupied: true, ..Peers::default() }));
    created(&home).await;
    assert_eq!(home.hand_over(&room(), "sto-1").await.unwrap_err().reason, Reason::NoAnswer);
    assert!(lock(&home.handing_over).is_empty());
    assert_eq!(home.get(&room()).unwrap().home.as_str(), "cph-1");
}

#[tokio::test]
async fn a_restarted_home_begins_a_new_epoch_of_the_same_room() {
    let store = LocalStore::default();
    let first = created(&node(&store, "cph-1")).await;
    let restarted = created(&node(&store, "cph-1")).await;
    assert_eq!((restarted.sid, restarted.epoch), (first.sid, 2));
}

#[tokio::test]
async fn a_grant_is_signed_anew_only_when_it_is_due() {
    let store = LocalStore::default();
    let home = node(&store, "cph-1");
    let first = created(&home).await;
    home.renew_all(|_| true);
    assert_eq!(home.note(&room()), first.grant);
    home.renew_all(|_| false);
    assert_eq!(home.metrics.signed.get(), 1);
}

#[tokio::test]
async fn a_room_ends_when_the_link_to_its_home_was_up_for_10_s_without_a_renewal() {
    let store = LocalStore::default();
    let home = node(&store, "cph-1");
    created(&home).await;
    let peers = Arc::new(Peers { linked: vec!["cph-1"], ..Peers::default() });
    let (member, away) = (node_with(&store, "sto-1", peers.clone()), node(&store, "sto-1"));
    assert!(member.get(&room()).is_some() && away.get(&room()).is_some());
    // No grant that is held now lives longer.
    let ended = Instant::now() + Duration::from_secs(600);
    let at = |seconds| ended + Duration::from_secs(seconds);
    let link_is_up_since = |when: Instant| *peers.since.lock().unwrap() = Some(when);
    link_is_up_since(Instant::now());
    assert!(!member.had_ended(&room(), Instant::now()), "the grant has not ended");
    assert!(!member.had_ended(&room(), at(0)), "the home has 10 s from the end of the grant");
    assert!(member.had_ended(&room(), at(10)));
    // The link was down for a moment, between two questions.
    link_is_up_since(at(9));
    assert!(!member.had_ended(&room(), at(10)));
    assert!(!member.had_ended(&room(), at(18)));
    assert!(member.had_ended(&room(), at(19)));
    assert!(!away.had_ended(&room(), at(3600)), "its home is out of reach");
    assert!(!home.had_ended(&room(), at(3600)), "a home renews its own grant");
}

#[test]
fn nodes_of_tests_have_the_roles_that_tests_assume() {
    let authority = authority("cph-1");
    for action in [Action::Home, Action::Spill, Action::RelaySignal] {
        let allowed = NODES.map(|node| authority.node(action, &room(), node).allowed);
        assert!(!allowed[2], "{action:?}");
        assert!(allowed[0] && allowed[1] || action != Action::Home, "{action:?}");
    }
}
