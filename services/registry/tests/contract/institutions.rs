//! A node follows the rooms of the institutions that approve it, and of no others.

use etcd_client::Permission;
use systir_assignment::{StoreKeys, Versioned};

use super::*;

fn room_of(institution: &str, name: &str) -> RoomId {
    RoomId::new(institution, name)
}

fn assignment_of(institution: &str, name: &str) -> Assignment {
    Assignment::new(room_of(institution, name), "RM_x".to_owned(), "a".into(), "1-abc".to_owned(), 1)
}

fn has(view: &View, known: &Versioned<Assignment>) -> bool {
    view.room(&known.value.room) == Some(known)
}

#[tokio::test]
async fn the_followed_institutions_change_while_the_node_runs() {
    let etcd = Etcd::start().await;
    let a = in_etcd(&etcd);
    let ours = created(&a, assignment_of("ku.dk", "lecture")).await;
    let theirs = created(&a, assignment_of("au.dk", "lecture")).await;

    let b: Node = Arc::new(EtcdRegistry::start(config(&etcd)));
    wait_until(&b, "etcd", View::is_read).await;
    assert_eq!(b.view().rooms().count(), 0, "it follows no institution");
    b.follow(institutions(&["ku.dk"]));
    assert!(!b.view().is_read() && b.view().rooms_unavailable_since("ku.dk").is_some(), "not asked for yet");
    wait_until(&b, "the room of ku.dk", |view| view.is_read() && has(view, &ours)).await;
    assert_eq!(b.view().rooms().count(), 1);
    let refused = b.create(assignment_of("au.dk", "other")).await;
    assert!(
        matches!(&refused, Err(CreateError::Registry(RegistryError::Refused(why))) if why.contains("au.dk")),
        "{refused:?}"
    );

    b.follow(institutions(&["au.dk"]));
    assert_eq!(b.view().rooms().count(), 0, "a lost institution's rooms leave the copy at once");
    assert!(matches!(b.delete(&ours).await, Err(UpdateError::Registry(RegistryError::Refused(_)))));
    wait_until(&b, "the room of au.dk", |view| view.is_read() && has(view, &theirs)).await;
    // Later changes: of the institution that is followed, in the order in which etcd made them.
    let mut spilled = ours.value.clone();
    spilled.add_spill("b".into(), 2);
    a.update(&ours, spilled).await.unwrap();
    let later = created(&a, assignment_of("au.dk", "later")).await;
    wait_until(&b, "a later room", |view| has(view, &later)).await;
    assert_eq!(b.view().rooms().count(), 2);

    b.follow(institutions(&["au.dk", "ku.dk"]));
    wait_until(&b, "all rooms", |view| view.is_read() && view.rooms().count() == 3).await;
}

#[tokio::test]
async fn an_institution_that_etcd_refuses_stops_neither_the_others_nor_the_lease() {
    let etcd = SecureEtcd::start().await;
    let (a, c) = (etcd.node("a"), etcd.node("c"));
    let ours = created(&a, assignment_of("ku.dk", "lecture")).await;
    // Policy approves the node, and the operator has not changed its role yet.
    c.follow(institutions(&["au.dk", "ku.dk"]));
    c.announce(lease("c"));
    wait_until(&c, "the refusal", |view| view.is_read() && view.refused().eq(["ku.dk"])).await;
    assert!(c.view().rooms_unavailable_since("ku.dk").is_some());
    assert!(c.view().unavailable_since().is_none() && c.view().rooms_unavailable_since("au.dk").is_none());
    let theirs = created(&c, assignment_of("au.dk", "lecture")).await;
    let refused = c.create(assignment_of("ku.dk", "other")).await;
    assert!(matches!(refused, Err(CreateError::Registry(RegistryError::Refused(_)))), "{refused:?}");
    wait_until(&a, "c's lease", |view| view.node("c").is_some()).await;
    c.report(NodeLoad { participants: 3, ..NodeLoad::default() }, false);
    wait_until(&a, "c's load", |view| view.node("c").is_some_and(|c| c.load.participants == 3)).await;

    // With the role, the rooms come without a restart.
    let mut root = etcd.client("root").await;
    let rooms = Permission::read_write(StoreKeys::new("test").rooms("ku.dk")).with_prefix();
    root.role_grant_permission("c", rooms).await.unwrap();
    wait_until(&c, "the rooms", |view| has(view, &ours) && view.refused().count() == 0).await;
    assert!(has(&c.view(), &theirs) && c.view().rooms_unavailable_since("ku.dk").is_none());
}

#[tokio::test]
async fn a_role_that_loses_an_institution_keeps_the_last_known_rooms_and_the_rest() {
    let etcd = SecureEtcd::start().await;
    let a = etcd.node("a");
    let ours = created(&a, assignment_of("ku.dk", "lecture")).await;
    let often = EtcdConfig { full_read_interval: Duration::from_millis(300), ..etcd.config("b") };
    let b: Node = Arc::new(EtcdRegistry::start(often));
    b.follow(institutions(&["ku.dk"]));
    b.announce(lease("b"));
    wait_until(&b, "the room", |view| has(view, &ours)).await;
    let (mut root, rooms) = (etcd.client("root").await, StoreKeys::new("test").rooms("ku.dk"));
    let options = etcd_client::RoleRevokePermissionOptions::new().with_prefix();
    root.role_revoke_permission("b", rooms, Some(options)).await.unwrap();
    wait_until(&b, "the refusal", |view| view.refused().eq(["ku.dk"])).await;
    assert!(has(&b.view(), &ours), "as while etcd does not answer");
    a.announce(lease("a"));
    wait_until(&b, "a's lease", |view| view.node("a").is_some()).await;
}
