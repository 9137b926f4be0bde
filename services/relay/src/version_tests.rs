//! Nodes and documents of other versions.

use systir_documents::Note;

use super::hostile_node_tests::counted;
use super::*;

/// The same document in the next format, signed by the institution.
fn in_next_format(cluster: &TestCluster, note: &str) -> String {
    let text =
        Note::parse(note).unwrap().text().replacen("systir.org/bundle/v1\n", "systir.org/bundle/v2\n", 1);
    Note::sign(&text, cluster.documents.institution_key()).unwrap().to_string()
}

fn refused(node: &Node) -> u64 {
    let counts = node.directory.links().unwrap().identity_counts();
    counts.refused.get(&Reason::UnsupportedVersion).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_one_minor_version_apart_carry_a_room_together() {
    for minors in [(1, 2), (2, 1)] {
        let cluster = TestCluster::new();
        let home = cluster.node_of("cph-1", 1, minors.0).await;
        let sister = cluster.node_of("sto-1", 5, minors.1).await;
        let mut anna = TestParticipant::join(&home, "anna").await;
        let mut bob = TestParticipant::join(&home, "bob").await;
        assert_eq!(sister.parts.local_load.load().participants, 1, "bob is on the other node");
        bob.until_sees("anna").await;
        anna.until_sees("bob").await;
        assert_eq!((refused(&home), refused(&sister)), (0, 0));
        home.stop().await;
        sister.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_two_minor_versions_apart_gets_nothing_of_a_room_that_goes_on() {
    let cluster = TestCluster::new();
    let home = cluster.node_of("cph-1", 2, 1).await;
    let later = cluster.node_of("sto-1", 5, 3).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    let bob = TestParticipant::join(&home, "bob").await;
    let full = TestParticipant::try_join(&home, grants("chen")).await.err().unwrap();
    assert_eq!(status_and_code(&full), (503, "approved-unavailable"), "{full}");
    assert!(refused(&home) > 0 && refused(&later) > 0, "both count it");
    assert!(!home.directory.is_up("sto-1") && later.parts.rooms.get(&room()).is_none());
    // Those who are in the room do not notice.
    let metadata = "still here".to_owned();
    let update = livekit_protocol::UpdateParticipantMetadata { metadata, ..Default::default() };
    bob.send(ClientMessage::UpdateMetadata(update)).await;
    let updated = |message: &ServerMessage| match message {
        ServerMessage::Update(update) => update.participants.iter().any(|one| one.metadata == "still here"),
        _ => false,
    };
    anna.until("the update", updated).await;
    // Operators see the versions of all.
    let (status, answer) = super::api::request(&home, "GET /systir/v1/nodes", b"").await;
    assert_eq!(status, 200);
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let nodes: serde_json::Value = serde_json::from_str(body).unwrap();
    let newest = |name: &str| {
        let node = nodes["nodes"].as_array().unwrap().iter().find(|node| node["node"] == name).unwrap();
        node["versions"]["newest"].clone()
    };
    assert_eq!((newest("cph-1"), newest("sto-1")), (1.into(), 3.into()), "{nodes}");
    later.stop().await;
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_a_later_format_is_refused_and_the_one_in_use_stays() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let later = in_next_format(&cluster, &cluster.documents.bundle(2, |_| {}).unwrap());
    let refused = node.parts.documents.take(&later).unwrap_err().to_string();
    assert!(refused.contains("a bundle of format 2") && refused.contains("upgrade this node"), "{refused}");
    assert_eq!(counted(&node, "documents_refused", Reason::UnsupportedVersion), 1);
    documents::until_version(&node, 1).await;
    let _anna = TestParticipant::join(&node, "anna").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_over_a_document_that_a_later_release_kept() {
    let cluster = TestCluster::new();
    let config = cluster.config("cph-1", 5);
    std::fs::create_dir_all(&config.policy.state).unwrap();
    let kept = config.policy.state.join("bundle-ku.dk.note");
    let later = in_next_format(&cluster, &cluster.documents.bundle(9, |_| {}).unwrap());
    std::fs::write(&kept, &later).unwrap();
    let registry = Arc::new(cluster.store.registry());
    let refused = Node::start(config, registry).await.err().map(|error| format!("{error:#}")).unwrap();
    assert!(refused.contains("bundle-ku.dk.note: a later release of this node kept it"), "{refused}");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), later, "it is not replaced by an older version");
}
