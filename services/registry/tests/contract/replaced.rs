//! etcd that was restored from a backup, or replaced by another one, at the same address.

use super::*;

/// Waits until both copies hold the same rooms with the same revisions.
async fn wait_until_equal(a: &Node, b: &Node) {
    let rooms = |node: &Node| {
        let view = node.view();
        let ids: Vec<RoomId> = view.rooms().map(|assignment| assignment.room.clone()).collect();
        ids.iter().filter_map(|id| view.room(id).cloned()).collect::<Vec<_>>()
    };
    for _ in 0..300 {
        if a.view().unavailable_since().is_none()
            && b.view().unavailable_since().is_none()
            && rooms(a) == rooms(b)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the copies stay different: {:?} and {:?}", rooms(a), rooms(b));
}

/// A backup with one room, after which that room spills and another one opens; then etcd is restored.
async fn nodes_follow_a_restored_etcd(token: Option<&str>) {
    let mut etcd = Etcd::start().await;
    let a = in_etcd(&etcd);
    let old = created(&a, assignment("old", "a")).await;
    let backup = etcd.backup();
    let mut spilled = old.value.clone();
    spilled.add_spill("b".into(), 2);
    a.update(&old, spilled).await.unwrap();
    created(&a, assignment("new", "a")).await;
    wait_until(&a, "both rooms", |view| view.rooms().count() == 2).await;

    etcd.restore(&backup, token).await;
    let fresh = in_etcd(&etcd);
    wait_until(&fresh, "the room in the backup", |view| view.room(&room("old")) == Some(&old)).await;
    wait_until(&fresh, "etcd", |view| view.unavailable_since().is_none()).await;
    assert_eq!(fresh.view().rooms().count(), 1);
    wait_until_equal(&a, &fresh).await;
    assert_eq!((a.view().replaced(), fresh.view().replaced()), (1, 0));

    // Both nodes continue in the restored etcd: each sees what the other writes.
    let again = created(&a, assignment("new", "a")).await;
    wait_until(&fresh, "the room that was written again", |view| view.room(&room("new")) == Some(&again))
        .await;
    let read = fresh.assignment(&room("old")).unwrap();
    let mut spilled = read.value.clone();
    spilled.add_spill("b".into(), 3);
    let spilled = fresh.update(&read, spilled).await.unwrap();
    wait_until(&a, "the other node's write", |view| view.room(&room("old")) == Some(&spilled)).await;
}

#[tokio::test]
async fn a_node_that_knew_a_later_state_reads_a_restored_etcd_anew() {
    nodes_follow_a_restored_etcd(None).await;
}

#[tokio::test]
async fn a_node_reads_an_etcd_that_was_restored_as_another_cluster_anew() {
    nodes_follow_a_restored_etcd(Some("another")).await;
}

#[tokio::test]
async fn a_write_that_reaches_the_restored_etcd_first_makes_the_node_read_it_anew() {
    let mut etcd = Etcd::start().await;
    let a = in_etcd(&etcd);
    created(&a, assignment("old", "a")).await;
    let backup = etcd.backup();
    for name in ["new", "newer"] {
        created(&a, assignment(name, "a")).await;
    }
    etcd.restore(&backup, None).await;
    // Without a pause: whichever request of the node is first detects it.
    let again = created(&a, assignment("again", "a")).await;
    let fresh = in_etcd(&etcd);
    wait_until(&fresh, "the new room", |view| view.room(&room("again")) == Some(&again)).await;
    wait_until_equal(&a, &fresh).await;
    assert_eq!(a.view().replaced(), 1, "one restore counts once");
}
