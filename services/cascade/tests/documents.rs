//! Signed documents between nodes. Their content does not matter here.

#![allow(clippy::unwrap_used)]

mod support;

use support::{TestCluster, linked, relay};
use systir_cascade::{CallError, DownReason};
use systir_documents::DocumentId;
use systir_hostile_node::{LINK, hello};
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{DocumentKind, DocumentList, DocumentVersion, FetchDocumentRequest};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_of_a_link_tell_each_other_which_documents_they_hold() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let (bundle, floor) = (DocumentId::bundle("ku.dk"), DocumentId::floor("nordunet"));
    let first = a.handler.hold(&bundle, 7, "seven");
    let second = a.handler.hold(&floor, 1, "one");
    linked(&mut a, &mut b, "ku.dk/lecture").await;
    assert_eq!(b.handler.offer().await, (a.id(), vec![first, second.clone()]));
    assert_eq!(a.handler.offer().await, (b.id(), vec![]));
    // Of several changes in a row the peer sees the last.
    for version in 8..20 {
        a.handler.hold(&bundle, version, "later");
        a.links.announce_documents();
    }
    let (_, offered) = b.handler.offer().await;
    let last = a.handler.hold(&bundle, 19, "later");
    assert_eq!(offered, [last, second]);
    assert!(b.handler.offered.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_fetched() {
    let cluster = TestCluster::new();
    let (a, b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let bundle = DocumentId::bundle("ku.dk");
    let text = "\u{e5}".repeat(250_000);
    let held = a.handler.hold(&bundle, 7, &text);
    // Without a link too.
    assert_eq!(b.links.exchange_documents(&a.address).await, Ok(vec![held]));
    assert_eq!(a.handler.offer().await, (b.id(), vec![]));
    let fetched = b.links.fetch_document(&a.address, &bundle, 7).await.unwrap();
    assert!(fetched == text);
    for (id, version) in [(&bundle, 6), (&DocumentId::floor("ku.dk"), 7)] {
        let missing = b.links.fetch_document(&a.address, id, version).await;
        assert!(matches!(missing, Err(CallError::Failed(_))), "{missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_too_long_is_not_taken() {
    let cluster = TestCluster::new();
    let (a, b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let bundle = DocumentId::bundle("ku.dk");
    a.handler.hold(&bundle, 7, &"x".repeat(systir_documents::MAX_NOTE_BYTES + 1));
    let refused = b.links.fetch_document(&a.address, &bundle, 7).await;
    assert!(matches!(refused, Err(CallError::Failed(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_fetches_one_document_at_a_time() {
    let cluster = TestCluster::new();
    let honest = cluster.node("cph-1").await;
    honest.handler.hold(&DocumentId::bundle("ku.dk"), 7, &"x".repeat(500_000));
    let node = cluster.hostile("sto-1");
    let mut client = node.client(&honest).await.unwrap();
    let request =
        || FetchDocumentRequest { kind: DocumentKind::Bundle.into(), owner: "ku.dk".to_owned(), version: 7 };
    // It does not read the document.
    let unread = client.fetch_document(request()).await.unwrap();
    assert_eq!(client.fetch_document(request()).await.unwrap_err().code(), Code::ResourceExhausted);
    let exchanged = client.exchange_documents(DocumentList::default()).await;
    assert_eq!(exchanged.unwrap_err().code(), Code::ResourceExhausted);
    drop(unread);
    while client.fetch_document(request()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_list_of_documents_ends_the_link() {
    let cluster = TestCluster::new();
    let mut honest = cluster.node("cph-1").await;
    let mut hostile = cluster.hostile("sto-1");
    hostile.session(&honest, hello("x")).await.unwrap();
    assert!(hostile.quic(&honest, LINK).await.unwrap());
    honest.up(&relay("sto-1")).await;
    let documents = vec![DocumentVersion::default(); 257];
    hostile.send(Body::Documents(DocumentList { documents })).await.unwrap();
    assert!(matches!(honest.down().await, DownReason::Protocol(_)));
    assert!(honest.handler.offered.lock().unwrap().is_empty());
}
