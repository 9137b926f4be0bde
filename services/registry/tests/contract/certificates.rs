//! A node's client certificate for etcd is replaced while it runs.

use super::*;

/// A node with credentials that can be replaced; `ku.dk` approves the users `a` and `b`, and not `c`.
fn node(etcd: &SecureEtcd, user: &str) -> Arc<EtcdRegistry> {
    let node = EtcdRegistry::start(etcd.config(user));
    node.follow(institutions(&["ku.dk"]));
    Arc::new(node)
}

#[tokio::test]
async fn all_connections_use_a_new_certificate() {
    let etcd = SecureEtcd::start().await;
    let b = etcd.node("b");
    let ours = created(&b, assignment("lecture", "b")).await;
    // The user tells which certificate a connection has: `c` may not use rooms of ku.dk, nor write a's lease.
    let replaced = node(&etcd, "c");
    let a: Node = replaced.clone();
    a.announce(lease("a"));
    wait_until(&a, "the refusal", |view| view.refused().eq(["ku.dk"])).await;
    let refused = a.create(assignment("other", "a")).await;
    assert!(matches!(refused, Err(CreateError::Registry(RegistryError::Refused(_)))), "{refused:?}");
    assert!(b.view().node("a").is_none());

    replaced.renew(etcd.credentials("a"));
    wait_until(&a, "the rooms", |view| view.room(&room("lecture")) == Some(&ours)).await;
    created(&a, assignment("other", "a")).await;
    wait_until(&b, "a's lease", |view| view.node("a").is_some()).await;
    // The lease goes on with the next certificate too.
    replaced.renew(etcd.credentials("a"));
    a.report(NodeLoad { participants: 3, ..NodeLoad::default() }, false);
    wait_until(&b, "a's load", |view| view.node("a").is_some_and(|a| a.load.participants == 3)).await;
}

#[tokio::test]
async fn a_certificate_that_etcd_does_not_accept_interrupts_nothing() {
    let etcd = SecureEtcd::start().await;
    let (replaced, b) = (node(&etcd, "a"), etcd.node("b"));
    let a: Node = replaced.clone();
    let first = created(&a, assignment("first", "a")).await;
    wait_until(&a, "etcd", View::is_read).await;
    replaced.renew(etcd.credentials_of_another_ca("a"));
    replaced.renew(etcd.credentials("unknown"));
    for name in ["second", "third", "fourth"] {
        let written = b.create(assignment(name, "b")).await.unwrap();
        wait_until(&a, "another node's room", |view| view.room(&room(name)) == Some(&written)).await;
        assert!(a.view().unavailable_since().is_none());
    }
    a.delete(&first).await.unwrap();
    replaced.renew(etcd.credentials("b"));
    a.announce(lease("b"));
    wait_until(&b, "the lease of the accepted certificate's user", |view| view.node("b").is_some()).await;
}
