//! Records of other versions.

use super::*;

/// What a release works with: its minor version, and the one before.
fn release(minor: u16) -> VersionRange {
    VersionRange::new(minor - 1, minor).unwrap()
}

fn of_release(etcd: &Etcd, minor: u16) -> Node {
    started(EtcdConfig { versions: release(minor), ..config(etcd) })
}

fn key(name: &str) -> String {
    format!("/systir/v1/test/rooms/{}", room(name).key())
}

async fn value(etcd: &Etcd, key: &str) -> Vec<u8> {
    etcd.client().await.get(key, None).await.unwrap().kvs()[0].value().to_vec()
}

#[tokio::test]
async fn a_record_of_a_node_one_minor_version_apart_is_read_with_fields_that_this_one_does_not_know() {
    let etcd = Etcd::start().await;
    let (older, newer) = (of_release(&etcd, 1), of_release(&etcd, 2));
    let written = created(&newer, assignment("board", "b")).await;
    wait_until(&older, "the newer node's record", |view| view.room(&room("board")) == Some(&written)).await;
    // The later version also writes what the older one does not know.
    let text = String::from_utf8(value(&etcd, &key("board")).await).unwrap();
    let extended = text.replacen('{', r#"{"colour":{"of":["later"]},"#, 1);
    etcd.client().await.put(key("board"), extended, None).await.unwrap();
    wait_until(&older, "the longer record", |view| {
        view.room(&room("board")).is_some_and(|known| known.revision > written.revision)
    })
    .await;
    let read = older.assignment(&room("board")).unwrap();
    assert_eq!(read.value, written.value);
    // The older node takes over: it writes the record whole, as its own version.
    let mut taken = read.value.clone();
    taken.home = "a".into();
    taken.epoch += 1;
    let taken = older.update(&read, taken).await.unwrap();
    wait_until(&newer, "the older node's record", |view| view.room(&room("board")) == Some(&taken)).await;
    assert_eq!((older.view().unsupported(), newer.view().unsupported()), (0, 0));
}

#[tokio::test]
async fn a_record_of_another_version_is_neither_replaced_nor_deleted_nor_read() {
    let etcd = Etcd::start().await;
    let (ours, later) = (of_release(&etcd, 1), of_release(&etcd, 3));
    let before = created(&ours, assignment("board", "a")).await;
    let own = value(&etcd, &key("board")).await;
    // A later release wrote the room's record.
    let theirs = String::from_utf8(own.clone())
        .unwrap()
        .replace(r#""oldest":0,"newest":1"#, r#""oldest":2,"newest":3"#);
    etcd.client().await.put(key("board"), theirs.clone(), None).await.unwrap();
    wait_until(&ours, "that it is unsupported", |view| {
        view.unsupported() > 0 && view.room(&room("board")).is_none()
    })
    .await;

    let why = match ours.create(assignment("board", "a")).await {
        Err(CreateError::Registry(RegistryError::UnsupportedVersion(unsupported))) => unsupported.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(why.contains("0.2 to 0.3") && why.contains("Upgrade this node to 0.2"), "{why}");
    // Neither if it is the record under another room key of the institution.
    let elsewhere = ours.create_unless(assignment("other", "a"), vec![(room("board"), 0)]).await;
    assert!(
        matches!(elsewhere, Err(CreateError::Registry(RegistryError::UnsupportedVersion(_)))),
        "{elsewhere:?}"
    );
    let updated = ours.update(&before, before.value.clone()).await;
    assert!(
        matches!(updated, Err(UpdateError::Registry(RegistryError::UnsupportedVersion(_)))),
        "{updated:?}"
    );
    let deleted = ours.delete(&before).await;
    assert!(
        matches!(deleted, Err(UpdateError::Registry(RegistryError::UnsupportedVersion(_)))),
        "{deleted:?}"
    );
    assert_eq!(value(&etcd, &key("board")).await, theirs.as_bytes(), "it is as the later release wrote it");
    wait_until(&later, "the later release's record", |view| view.room(&room("board")).is_some()).await;

    // A record without versions is of before they were stated: this release reads it, the later one does not.
    let unstated = String::from_utf8(own).unwrap().replace(r#""versions":{"oldest":0,"newest":1},"#, "");
    assert!(!unstated.contains("versions"), "{unstated}");
    etcd.client().await.put(key("board"), unstated, None).await.unwrap();
    wait_until(&ours, "a record without versions", |view| view.room(&room("board")).is_some()).await;
    wait_until(&later, "that it is unsupported", |view| view.room(&room("board")).is_none()).await;
    assert!(later.view().unsupported() > 0);
}

#[tokio::test]
async fn a_node_two_minor_versions_apart_has_no_lease_here_and_is_shown_with_its_version() {
    let etcd = Etcd::start().await;
    let (ours, later) = (of_release(&etcd, 1), of_release(&etcd, 3));
    // The nodes that a directory lists.
    for node in [&ours, &later] {
        node.remember(["cph-1".into(), "osl-1".into()].into());
    }
    ours.announce(lease("cph-1"));
    later.announce(Lease { version: "0.3.0".to_owned(), versions: release(3), ..lease("osl-1") });
    wait_until(&ours, "both", |view| {
        view.node("cph-1").is_some() && view.unsupported_lease("osl-1").is_some()
    })
    .await;
    let view = ours.view();
    let shown = view.unsupported_lease("osl-1").unwrap();
    assert_eq!((shown.version.as_str(), shown.versions), ("0.3.0", release(3)));
    assert!(view.node("osl-1").is_none() && view.last_lease("osl-1").is_none());
    wait_until(&later, "the same there", |view| view.unsupported_lease("cph-1").is_some()).await;
    // After its roll-back it is as any other.
    later.announce(Lease { versions: release(2), ..lease("osl-1") });
    wait_until(&ours, "a lease that is read", |view| view.node("osl-1").is_some()).await;
    assert!(ours.view().unsupported_lease("osl-1").is_none());
}
