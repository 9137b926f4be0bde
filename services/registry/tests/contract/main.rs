//! Contract tests of both registries: in one process, and in a real etcd. Tests of outages, compaction and
//! foreign records need etcd and run only there.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod certificates;
mod etcd;
mod institutions;
mod replaced;
mod secure;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd::Etcd;
use etcd_client::{Txn, TxnOp};
use secure::SecureEtcd;
use systir_assignment::{Assignment, RoomId};
use systir_registry::{
    CreateError, EtcdConfig, EtcdRegistry, Lease, LocalStore, NodeLoad, Registry, RegistryError, UpdateError,
    View,
};
use systir_version::VersionRange;

type Node = Arc<dyn Registry>;

fn local(store: &LocalStore) -> Node {
    Arc::new(store.registry())
}

fn config(etcd: &Etcd) -> EtcdConfig {
    EtcdConfig {
        endpoints: vec![etcd.url()],
        cluster: "test".to_owned(),
        lease: Duration::from_secs(2),
        ..EtcdConfig::default()
    }
}

fn institutions(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A node that follows two institutions, the rooms of one of which the tests use.
fn started(config: EtcdConfig) -> Node {
    let node = Arc::new(EtcdRegistry::start(config));
    node.follow(institutions(&["au.dk", "ku.dk"]));
    node
}

fn in_etcd(etcd: &Etcd) -> Node {
    started(config(etcd))
}

fn room(name: &str) -> RoomId {
    RoomId::new("ku.dk", name)
}

fn assignment(name: &str, home: &str) -> Assignment {
    Assignment::new(room(name), format!("RM_{home}"), home.into(), "1-abc".to_owned(), 1)
}

fn lease(node: &str) -> Lease {
    Lease {
        node: node.into(),
        grpc: "127.0.0.1:7871".to_owned(),
        quic: "127.0.0.1:7870".to_owned(),
        load: NodeLoad { capacity: 4, ..NodeLoad::default() },
        draining: false,
        version: "0".to_owned(),
        versions: VersionRange::OWN,
    }
}

/// Waits until the copy meets the condition; the timeout only ends a failed test.
async fn wait_until(node: &Node, what: &str, is: impl Fn(&View) -> bool) {
    let mut watch = node.watch();
    let waited = tokio::time::timeout(Duration::from_secs(30), watch.wait_for(|view| is(view))).await;
    assert!(matches!(waited, Ok(Ok(_))), "{what}: never seen in {:?}", node.view());
}

/// Creates an assignment; retries while the store does not answer, as it may be starting.
async fn created(node: &Node, wanted: Assignment) -> systir_assignment::Versioned<Assignment> {
    for _ in 0..50 {
        match node.create(wanted.clone()).await {
            Ok(created) => return created,
            Err(CreateError::Registry(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the registry does not answer");
}

async fn two_nodes_race_for_a_room_and_one_wins(a: Node, b: Node) {
    let (first, second) = tokio::join!(a.create(assignment("race", "a")), b.create(assignment("race", "b")));
    let winner = match (first, second) {
        (Ok(won), Err(CreateError::AlreadyAssigned(seen)))
        | (Err(CreateError::AlreadyAssigned(seen)), Ok(won)) => {
            assert_eq!(won, *seen, "the loser gets the winner's record");
            won
        }
        other => panic!("one must win: {other:?}"),
    };
    for node in [&a, &b] {
        wait_until(node, "the winner", |view| view.room(&room("race")) == Some(&winner)).await;
    }
}

async fn two_nodes_race_for_a_name_under_two_room_keys_and_one_wins(a: Node, b: Node) {
    let (under_a, under_b) = (assignment("tag-a", "a"), assignment("tag-b", "b"));
    let without = |other: &Assignment| vec![(other.room.clone(), 0)];
    let (first, second) = tokio::join!(
        a.create_unless(under_a.clone(), without(&under_b)),
        b.create_unless(under_b.clone(), without(&under_a))
    );
    let winner = match (first, second) {
        (Ok(won), Err(CreateError::AlreadyAssigned(seen)))
        | (Err(CreateError::AlreadyAssigned(seen)), Ok(won)) => {
            assert_eq!(won, *seen, "the loser gets the winner's record");
            won
        }
        other => panic!("one must win: {other:?}"),
    };
    // A record that was read, and does not count, is no obstacle.
    let loser = if winner.value.room == under_a.room { under_b } else { under_a };
    let as_read = vec![(winner.value.room.clone(), winner.revision)];
    a.create_unless(loser, as_read).await.expect("the record is as it was read");
}

async fn a_paused_node_that_missed_a_takeover_is_refused(a: Node, b: Node) {
    let read = created(&a, assignment("epoch", "a")).await;
    let mut taken_over = read.value.clone();
    taken_over.home = "b".into();
    taken_over.epoch = 2;
    let current = b.update(&read, taken_over).await.expect("b takes over");
    let mut late = read.value.clone();
    late.add_spill("c".into(), 2);
    match a.update(&read, late).await {
        Err(UpdateError::Conflict(other)) if *other == current => {}
        other => panic!("a was paused and must be refused: {other:?}"),
    }
    assert!(matches!(a.delete(&read).await, Err(UpdateError::Conflict(_))), "nor may it delete the record");
    wait_until(&a, "the takeover", |view| view.room(&room("epoch")) == Some(&current)).await;
}

async fn a_change_of_a_record_that_changed_meanwhile_is_refused(a: Node, b: Node) {
    let read = created(&a, assignment("change", "a")).await;
    let with = |node: &str| {
        let mut wanted = read.value.clone();
        wanted.add_spill(node.into(), 2);
        wanted
    };
    let written = a.update(&read, with("b")).await.expect("nobody else changed it");
    match b.update(&read, with("c")).await {
        Err(UpdateError::Conflict(current)) => assert_eq!(*current, written),
        other => panic!("b read an older revision: {other:?}"),
    }
    a.delete(&written).await.expect("nobody else changed it");
    assert_eq!(b.update(&written, with("c")).await, Err(UpdateError::Gone));
    for node in [&a, &b] {
        wait_until(node, "the end of the room", |view| view.room(&room("change")).is_none()).await;
    }
}

async fn a_forged_epoch_can_be_replaced_by_the_true_one(a: Node, b: Node) {
    let forged = Assignment { epoch: systir_assignment::LAST_EPOCH, ..assignment("forged", "evil") };
    let forged = created(&b, forged).await;
    let restored = a.update(&forged, assignment("forged", "a")).await.expect("the forged epoch is not newer");
    wait_until(&b, "the true record", |view| view.room(&room("forged")) == Some(&restored)).await;
}

async fn nodes_see_each_others_leases(a: Node, b: Node) {
    a.announce(lease("a"));
    wait_until(&b, "a's lease", |view| view.node("a").is_some()).await;
    a.report(NodeLoad { participants: 3, capacity: 4, ..NodeLoad::default() }, true);
    wait_until(&b, "a's load", |view| view.node("a").is_some_and(|a| a.load.participants == 3 && a.draining))
        .await;
    a.retire().await;
    wait_until(&b, "a's end", |view| view.node("a").is_none()).await;
}

async fn a_lease_expires_when_its_node_disappears(a: Node, b: Node) {
    a.announce(lease("a"));
    wait_until(&b, "a's lease", |view| view.node("a").is_some()).await;
    // Dropped without `retire`, as in a power failure.
    drop(a);
    wait_until(&b, "a's end", |view| view.node("a").is_none()).await;
}

#[tokio::test]
async fn the_in_process_registry_meets_the_contract() {
    let store = LocalStore::with_lease(Duration::from_secs(2));
    let pair = || (local(&store), local(&store));
    let (a, b) = pair();
    two_nodes_race_for_a_room_and_one_wins(a, b).await;
    let (a, b) = pair();
    two_nodes_race_for_a_name_under_two_room_keys_and_one_wins(a, b).await;
    let (a, b) = pair();
    a_paused_node_that_missed_a_takeover_is_refused(a, b).await;
    let (a, b) = pair();
    a_change_of_a_record_that_changed_meanwhile_is_refused(a, b).await;
    let (a, b) = pair();
    a_forged_epoch_can_be_replaced_by_the_true_one(a, b).await;
    let (a, b) = pair();
    nodes_see_each_others_leases(a, b).await;
    let (a, b) = pair();
    a_lease_expires_when_its_node_disappears(a, b).await;
}

#[tokio::test]
async fn in_process_a_restarted_node_keeps_its_lease() {
    let store = LocalStore::with_lease(Duration::from_millis(200));
    let b = local(&store);
    let (first, second) = (local(&store), local(&store));
    first.announce(lease("a"));
    second.announce(lease("a"));
    first.announce(lease("other"));
    drop(first);
    wait_until(&b, "the other's end", |view| view.node("other").is_none()).await;
    assert!(b.view().node("a").is_some(), "its lease belongs to the later announcement");
    second.retire().await;
    wait_until(&b, "a's end", |view| view.node("a").is_none()).await;
}

#[tokio::test]
async fn the_etcd_registry_meets_the_contract() {
    let etcd = Etcd::start().await;
    let pair = || (in_etcd(&etcd), in_etcd(&etcd));
    let (a, b) = pair();
    two_nodes_race_for_a_room_and_one_wins(a, b).await;
    let (a, b) = pair();
    two_nodes_race_for_a_name_under_two_room_keys_and_one_wins(a, b).await;
    let (a, b) = pair();
    a_paused_node_that_missed_a_takeover_is_refused(a, b).await;
    let (a, b) = pair();
    a_change_of_a_record_that_changed_meanwhile_is_refused(a, b).await;
    let (a, b) = pair();
    a_forged_epoch_can_be_replaced_by_the_true_one(a, b).await;
    let (a, b) = pair();
    nodes_see_each_others_leases(a, b).await;
    let (a, b) = pair();
    a_lease_expires_when_its_node_disappears(a, b).await;
}

#[tokio::test]
async fn the_etcd_registry_meets_the_contract_with_tls_and_a_role_per_node() {
    let etcd = SecureEtcd::start().await;
    let pair = || (etcd.node("a"), etcd.node("b"));
    let (a, b) = pair();
    two_nodes_race_for_a_room_and_one_wins(a, b).await;
    let (a, b) = pair();
    two_nodes_race_for_a_name_under_two_room_keys_and_one_wins(a, b).await;
    let (a, b) = pair();
    a_paused_node_that_missed_a_takeover_is_refused(a, b).await;
    let (a, b) = pair();
    a_change_of_a_record_that_changed_meanwhile_is_refused(a, b).await;
    let (a, b) = pair();
    a_forged_epoch_can_be_replaced_by_the_true_one(a, b).await;
    let (a, b) = pair();
    nodes_see_each_others_leases(a, b).await;
    let (a, b) = pair();
    a_lease_expires_when_its_node_disappears(a, b).await;
    secure::a_node_can_write_no_other_nodes_lease(&etcd).await;
    secure::a_node_can_use_no_rooms_of_an_institution_that_does_not_approve_it(&etcd).await;
}

#[tokio::test]
async fn the_liveness_check_of_an_idle_watch_is_allowed_by_the_nodes_role() {
    let etcd = SecureEtcd::start().await;
    let a = etcd.node("a");
    wait_until(&a, "etcd", |view| view.unavailable_since().is_none()).await;
    // Longer than the interval at which an idle watch is checked. A slow machine may lose etcd once; a
    // request that the role does not allow loses it each time.
    let mut watch = a.watch();
    for _ in 0..3 {
        let lost = watch.wait_for(|view| view.unavailable_since().is_some());
        if tokio::time::timeout(Duration::from_secs(5), lost).await.is_err() {
            return;
        }
        wait_until(&a, "etcd again", |view| view.unavailable_since().is_none()).await;
    }
    panic!("the role does not allow the liveness check");
}

#[tokio::test]
async fn etcd_with_tls_admits_no_client_without_a_role() {
    let etcd = SecureEtcd::start().await;
    for (who, node) in [
        ("signed by another CA", etcd.node_of_another_ca("a")),
        ("without a certificate", etcd.node_without_certificate()),
        ("with no user", etcd.node("unknown")),
    ] {
        let refused = node.create(assignment("evil", "a")).await;
        assert!(matches!(refused, Err(CreateError::Registry(_))), "{who}: {refused:?}");
        assert!(node.view().unavailable_since().is_some(), "{who}: it must not read");
    }
    let a = etcd.node("a");
    wait_until(&a, "etcd", |view| view.unavailable_since().is_none()).await;
    assert_eq!(a.view().rooms().count(), 0, "nothing was written");
}

#[tokio::test]
async fn without_etcd_reads_continue_and_writes_fail() {
    let mut etcd = Etcd::start().await;
    let a = in_etcd(&etcd);
    let read = created(&a, assignment("away", "a")).await;
    wait_until(&a, "etcd", |view| view.unavailable_since().is_none()).await;
    etcd.crash();
    wait_until(&a, "the absence", |view| view.unavailable_since().is_some()).await;
    assert_eq!(a.assignment(&room("away")), Some(read.clone()), "the last known copy is read");
    let refused = a.create(assignment("later", "a")).await;
    assert!(matches!(refused, Err(CreateError::Registry(RegistryError::Unavailable(_)))), "{refused:?}");
    let refused = a.update(&read, read.value.clone()).await;
    assert!(matches!(refused, Err(UpdateError::Registry(RegistryError::Unavailable(_)))), "{refused:?}");

    etcd.resume().await;
    wait_until(&a, "etcd again", |view| view.unavailable_since().is_none()).await;
    assert_eq!(a.assignment(&room("away")), Some(read), "nothing was lost");
}

#[tokio::test]
async fn a_watch_that_missed_a_compaction_reads_everything_again() {
    let mut etcd = Etcd::start().await;
    let (a, b) = (in_etcd(&etcd), in_etcd(&etcd));
    let stays = created(&a, assignment("stays", "a")).await;
    let ends = created(&a, assignment("ends", "a")).await;
    wait_until(&b, "both rooms", |view| view.rooms().count() == 2).await;
    etcd.crash();
    wait_until(&b, "the absence", |view| view.unavailable_since().is_some()).await;
    etcd.resume().await;
    // The deletion is compacted away, so no watch can report it.
    let mut raw = etcd.client().await;
    let key = format!("/systir/v1/test/rooms/{}", room("ends").key());
    raw.delete(key, None).await.unwrap();
    // One more write: etcd before 3.5.18 drops a deletion at exactly the revision of the compaction, and
    // a watch that starts there does not report it.
    let revision = raw.put("/elsewhere", "", None).await.unwrap().header().unwrap().revision();
    raw.compact(revision, None).await.unwrap();
    wait_until(&b, "the deletion that no watch reported", |view| {
        view.room(&ends.value.room).is_none() && view.room(&stays.value.room) == Some(&stays)
    })
    .await;
}

#[tokio::test]
async fn a_deletion_that_no_watch_reports_is_seen_at_the_next_full_read() {
    let mut etcd = Etcd::start().await;
    let a = in_etcd(&etcd);
    let often = EtcdConfig { full_read_interval: Duration::from_millis(500), ..config(&etcd) };
    let b = started(often);
    let ends = created(&a, assignment("ends", "a")).await;
    wait_until(&b, "the room", |view| view.room(&ends.value.room).is_some()).await;
    etcd.crash();
    etcd.resume().await;
    // The deletion is at the compacted revision, where old versions of etcd do not report it.
    let mut raw = etcd.client().await;
    let key = format!("/systir/v1/test/rooms/{}", room("ends").key());
    let revision = raw.delete(key, None).await.unwrap().header().unwrap().revision();
    raw.compact(revision, None).await.unwrap();
    wait_until(&b, "its end", |view| view.room(&ends.value.room).is_none()).await;
    // Following continues over any number of full reads.
    let stays = created(&a, assignment("stays", "a")).await;
    wait_until(&b, "a later room", |view| view.room(&stays.value.room) == Some(&stays)).await;
}

#[tokio::test]
async fn an_unreadable_record_counts_as_absent() {
    let etcd = Etcd::start().await;
    let a = in_etcd(&etcd);
    let read = created(&a, assignment("good", "a")).await;
    let mut raw = etcd.client().await;
    let other = serde_json::to_vec(&assignment("other", "evil")).unwrap();
    // No takeover of it would be possible: there is no next epoch.
    let endless = Assignment { epoch: u64::MAX, ..assignment("endless", "evil") };
    for (key, value) in [
        (format!("/systir/v1/test/rooms/{}", room("bad").key()), b"{\"room\":".to_vec()),
        (format!("/systir/v1/test/rooms/{}", room("swapped").key()), other),
        (format!("/systir/v1/test/rooms/{}", room("endless").key()), serde_json::to_vec(&endless).unwrap()),
        ("/systir/v1/test/nodes/evil".to_owned(), vec![0xff, 0xfe]),
        // `!` is no base64.
        (format!("/systir/v1/test/rooms/{}!", room("x").key()), b"{}".to_vec()),
    ] {
        raw.put(key, value, None).await.unwrap();
    }
    wait_until(&a, "five unreadable records", |view| view.unreadable() >= 5).await;
    let view = a.view();
    assert_eq!(view.rooms().count(), 1);
    assert_eq!(view.nodes().count(), 0);
    assert_eq!(view.room(&room("good")), Some(&read));
}

#[tokio::test]
async fn an_unreadable_record_is_replaced_when_its_room_is_assigned() {
    let etcd = Etcd::start().await;
    let (a, b) = (in_etcd(&etcd), in_etcd(&etcd));
    let mut raw = etcd.client().await;
    let key = format!("/systir/v1/test/rooms/{}", room("board").key());
    let of_another_room = serde_json::to_vec(&assignment("other", "evil")).unwrap();
    let endless = Assignment { epoch: u64::MAX, ..assignment("board", "evil") };
    for garbage in [vec![0xff, 0xfe], of_another_room, serde_json::to_vec(&endless).unwrap()] {
        let read = created(&a, assignment("board", "a")).await;
        wait_until(&b, "the record", |view| view.room(&room("board")) == Some(&read)).await;
        raw.put(key.clone(), garbage, None).await.unwrap();
        wait_until(&b, "garbage", |view| view.room(&room("board")).is_none()).await;
        let mut wanted = read.value.clone();
        wanted.add_spill("b".into(), 2);
        assert_eq!(b.update(&read, wanted).await, Err(UpdateError::Gone), "garbage is no record");
        let (first, second) =
            tokio::join!(b.create(assignment("board", "b")), a.create(assignment("board", "a")));
        let written = match (first, second) {
            (Ok(won), Err(CreateError::AlreadyAssigned(seen)))
            | (Err(CreateError::AlreadyAssigned(seen)), Ok(won)) => {
                assert_eq!(won, *seen);
                won
            }
            other => panic!("one must replace it: {other:?}"),
        };
        for node in [&a, &b] {
            wait_until(node, "the record", |view| view.room(&room("board")) == Some(&written)).await;
        }
        a.delete(&written).await.unwrap();
    }
}

#[tokio::test]
async fn more_records_than_fit_into_one_message_are_all_read() {
    let etcd = Etcd::start().await;
    let mut raw = etcd.client().await;
    // 2,500 rooms with long records: three pages by count, and more than 4 MiB in the first alone.
    let long = |n| Assignment { grant: "x".repeat(4_500), ..assignment(&format!("room-{n}"), "a") };
    let rooms: Vec<Assignment> = (0..2_500).map(long).collect();
    for some in rooms.chunks(100) {
        let writes = some.iter().map(|record| {
            let key = format!("/systir/v1/test/rooms/{}", record.room.key());
            TxnOp::put(key, serde_json::to_vec(record).unwrap(), None)
        });
        raw.txn(Txn::new().and_then(writes.collect::<Vec<_>>())).await.unwrap();
    }
    let a = in_etcd(&etcd);
    wait_until(&a, "etcd", |view| view.unavailable_since().is_none()).await;
    let view = a.view();
    assert_eq!((view.rooms().count(), view.unreadable()), (2_500, 0));
    for record in &rooms {
        assert_eq!(view.room(&record.room).map(|known| &known.value), Some(record));
    }
    // Later changes are followed from that revision.
    let late = created(&a, assignment("late", "a")).await;
    wait_until(&a, "a later room", |view| view.room(&late.value.room) == Some(&late)).await;
}

#[tokio::test]
async fn writes_to_an_etcd_that_does_not_answer_do_not_wait_for_each_other() {
    // The kernel accepts connections, but no process answers on them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let a = started(EtcdConfig {
        endpoints: vec![format!("http://{}", silent.local_addr().unwrap())],
        cluster: "test".to_owned(),
        ..EtcdConfig::default()
    });
    let writes = (0..20).map(|n| {
        let a = a.clone();
        async move { a.create(assignment(&format!("room-{n}"), "a")).await }
    });
    // Each write waits 3 s; in sequence they would take a minute.
    let all = tokio::time::timeout(Duration::from_secs(9), futures::future::join_all(writes)).await;
    for refused in all.expect("each write has its own timeout") {
        assert!(matches!(refused, Err(CreateError::Registry(RegistryError::Unavailable(_)))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_refused_update_of_a_deleted_room_removes_it_from_the_copy() {
    let etcd = Etcd::start().await;
    let (a, b) = (in_etcd(&etcd), in_etcd(&etcd));
    let read = created(&a, assignment("gone", "a")).await;
    wait_until(&b, "the room", |view| view.room(&room("gone")) == Some(&read)).await;
    a.delete(&read).await.unwrap();
    assert_eq!(a.assignment(&room("gone")), None);
    assert_eq!(b.update(&read, read.value.clone()).await, Err(UpdateError::Gone));
    assert_eq!(b.assignment(&room("gone")), None, "removed even before the watch reports it");
}
