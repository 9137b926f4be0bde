//! Signed documents on running nodes: spread, order of versions, restart, and their dates.

use systir_cascade::HeldDocument;
use systir_documents::{DocumentHash, DocumentId, Validity};
use systir_identity::SpiffeId;

use super::*;
use crate::documents::exchange::{self, Fetcher, Offers};

/// Waits until the node uses this version of the bundle.
pub(super) async fn until_version(node: &Node, version: u64) {
    let mut changes = node.parts.documents.changes();
    let reached = async {
        loop {
            let newest = node.parts.documents.newest(&DocumentId::bundle("ku.dk"));
            if newest.is_some_and(|bundle| bundle.version() == version) {
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    let reached = tokio::time::timeout(TIMEOUT, reached).await;
    assert!(reached.is_ok(), "{} does not use version {version}", node.name);
}

/// Waits until the node's policy takes the bundle for this valid.
pub(super) async fn until_in_use(node: &Node, wanted: Validity) {
    let mut changes = node.parts.documents.changes();
    let reached = async {
        while node.parts.documents.validity_in_use(&DocumentId::bundle("ku.dk")) != Some(wanted) {
            changes.changed().await.unwrap();
        }
    };
    let reached = tokio::time::timeout(TIMEOUT, reached).await;
    assert!(reached.is_ok(), "the bundle of {} is not {wanted:?}", node.name);
}

fn take(node: &Node, note: &str) -> Result<(), String> {
    node.parts.documents.take(note).map(drop).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_one_node_took_reaches_the_others() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let second = cluster.documents.bundle(2, |_| {}).unwrap();
    // Nobody is in a meeting: there is no link between the nodes.
    take(&home, &second).unwrap();
    until_version(&sister, 2).await;
    // A node that was down meanwhile learns it from the others.
    sister.stop().await;
    let third = cluster.documents.bundle(3, |_| {}).unwrap();
    take(&home, &third).unwrap();
    let sister = cluster.node("sto-1", 5).await;
    until_version(&sister, 3).await;
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_decided_again_when_the_hours_of_a_rule_end() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 1).await;
    let end = crate::documents::store::unix_seconds() + 1800;
    let rule = format!(
        "\n@id(\"until-then\") @why(\"the hours have ended\") forbid (principal, action == Action::\"spill\", resource) \
         when {{ context.now >= datetime(\"{}\") }};",
        systir_documents::rfc3339(end)
    );
    let second = cluster.documents.bundle(2, |bundle| bundle.policy.push_str(&rule)).unwrap();
    take(&node, &second).unwrap();
    let store = &node.parts.documents;
    let spills =
        || node.parts.authority.institution_node(systir_policy::Action::Spill, "ku.dk", "sto-1").allowed;
    assert!(spills());
    let mut changes = store.changes();
    store.check_time_at(end - 60);
    assert!(!changes.has_changed().unwrap(), "no rule decides otherwise yet");
    store.check_time_at(end + 60);
    assert!(changes.has_changed().unwrap());
    // The node reads its own clock again within a second.
    let permitted = async {
        while !spills() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(TIMEOUT, permitted).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_answer_withholds_no_document_of_another_peer() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 1).await;
    let store = node.parts.documents.clone();
    let note = cluster.documents.bundle(2, |_| {}).unwrap();
    let peer = |name: &str| -> SpiffeId { format!("spiffe://nordu.net/relay/{name}").parse().unwrap() };
    let silent = peer("a-silent");
    let fetcher: Fetcher = Arc::new(move |from, _, _| {
        let (answers, note) = (from != silent, note.clone());
        Box::pin(async move { if answers { Ok(note) } else { std::future::pending().await } })
    });
    let offers = Arc::new(Offers::default());
    let offered = |version| HeldDocument {
        id: DocumentId::bundle("ku.dk"),
        version,
        hash: DocumentHash::of("another text"),
    };
    for version in [u64::MAX, u64::MAX - 1] {
        offers.offered(&store, &peer("a-silent"), vec![offered(version); 256]);
    }
    offers.offered(&store, &peer("osl-1"), vec![offered(2)]);
    let fetching = tokio::spawn(exchange::fetch(store, fetcher, offers));
    until_version(&node, 2).await;
    fetching.abort();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_does_not_take_an_older_version() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 1).await;
    take(&node, &cluster.documents.bundle(2, |_| {}).unwrap()).unwrap();
    node.stop().await;
    // The folder of documents still holds version 1.
    let node = cluster.node("cph-1", 1).await;
    until_version(&node, 2).await;
    let older = take(&node, &cluster.documents.bundle(1, |_| {}).unwrap()).unwrap_err();
    assert!(older.contains("older than version 2"), "{older}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_texts_with_one_version_each_node_keeps_its_first() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let text = |note: &str| {
        let comment = format!("\n// {note}\n");
        cluster.documents.bundle(2, |bundle| bundle.policy.push_str(&comment)).unwrap()
    };
    let (one, other) = (text("one"), text("other"));
    take(&home, &one).unwrap();
    until_version(&sister, 2).await;
    for node in [&home, &sister] {
        let refused = take(node, &other).unwrap_err();
        assert!(refused.contains("two texts are signed as version 2"), "{refused}");
        let kept = node.parts.documents.newest(&DocumentId::bundle("ku.dk")).unwrap();
        assert_eq!(kept.note().to_string(), one);
    }
    // The next version ends the conflict.
    take(&sister, &cluster.documents.bundle(3, |_| {}).unwrap()).unwrap();
    until_version(&home, 3).await;
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_another_owner_signed_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 1).await;
    let bundle = cluster.documents.bundle(2, |_| {}).unwrap();
    let text = systir_documents::Note::parse(&bundle).unwrap().text().to_owned();
    let forged = systir_documents::Note::sign(&text, cluster.documents.operator_key()).unwrap().to_string();
    let refused = take(&node, &forged).unwrap_err();
    assert!(refused.contains("the keys of ku.dk did not sign it"), "{refused}");
    let stranger = systir_documents::SigningKey::from_seed("ku.dk/demo", [9; 32]).unwrap();
    let forged = systir_documents::Note::sign(&text, &stranger).unwrap().to_string();
    let refused = take(&node, &forged).unwrap_err();
    assert!(refused.contains("no key that this node's configuration pins signed it"), "{refused}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_past_its_renewal_opens_no_new_room_and_an_expired_one_closes_all() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let mut anna = TestParticipant::join(&node, "anna").await;
    let now = crate::documents::store::unix_seconds();
    // Its renewal is overdue at once, and it expires in a few seconds.
    let ends = now + 4;
    let note = cluster.documents.bundle(2, |bundle| {
        bundle.lifetime.issued = now.max(bundle.lifetime.issued);
        bundle.lifetime.renew_by = bundle.lifetime.issued;
        bundle.lifetime.not_after = ends;
    });
    take(&node, &note.unwrap()).unwrap();
    until_in_use(&node, Validity::RenewalOverdue).await;
    let other_room = Grants { room: "another".to_owned(), ..grants("bo") };
    let refused = TestParticipant::try_join(&node, other_room.clone()).await.err().unwrap();
    assert_eq!(refused.reason, Reason::PolicyRenewalOverdue, "{refused:?}");
    // The room that runs goes on and admits.
    let _chen = TestParticipant::join(&node, "chen").await;
    until_in_use(&node, Validity::Expired).await;
    anna.until_leave().await;
    let refused = TestParticipant::try_join(&node, grants("dina")).await.err().unwrap();
    assert_eq!(refused.reason, Reason::PolicyExpired, "{refused:?}");
    // A new version opens everything again.
    take(&node, &cluster.documents.bundle(3, |bundle| bundle.lifetime.issued = now).unwrap()).unwrap();
    let _dina = TestParticipant::join(&node, "dina").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_when_the_directory_no_longer_lists_the_ca_of_its_peer() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
    let _anna = TestParticipant::join(&home, "anna").await;
    let mut bob = TestParticipant::join(&home, "bob").await;
    bob.until_sees("anna").await;
    let until_linked = async |linked: bool| {
        let reached = async {
            while home.directory.is_up("sto-1") != linked {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(TIMEOUT, reached).await.is_ok(), "linked: {linked}");
    };
    until_linked(true).await;
    let domain = systir_identity::TrustDomain::new("nordu.net").unwrap();
    let other = systir_identity::ca::create(&domain, std::time::SystemTime::now()).unwrap().certificate;
    // Both CAs, then the new one alone, although the sister has no certificate of it yet.
    let both = cluster.documents.directory(2, |directory| directory.roots.push_str(&other)).unwrap();
    take(&home, &both).unwrap();
    let new = cluster.documents.directory(3, |directory| directory.roots.clone_from(&other)).unwrap();
    assert!(home.directory.is_up("sto-1"));
    take(&home, &new).unwrap();
    until_linked(false).await;
    home.stop().await;
    sister.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_names_countries_and_no_zone() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 1).await;
    let second = cluster.documents.bundle(2, |_| {}).unwrap();
    let text = systir_documents::Note::parse(&second).unwrap().text().to_owned();
    // A zone in a zone, a zone in itself, and two zones in each other.
    for zones in ["EU = [\"EEA\"]", "EU = [\"EU\"]", "EU = [\"Nordic\"]\nNordic = [\"EU\"]"] {
        let (before, rest) = text.split_once("[zones]\n").unwrap();
        let after = rest.find("\n\n").map_or("", |end| &rest[end..]);
        let changed = format!("{before}[zones]\n{zones}{after}");
        let signed = systir_documents::Note::sign(&changed, cluster.documents.institution_key()).unwrap();
        let refused = take(&node, &signed.to_string()).unwrap_err();
        assert!(refused.contains("ISO 3166-1"), "{zones}: {refused}");
    }
    until_version(&node, 1).await;
    take(&node, &second).unwrap();
    node.stop().await;
}

/// How many documents the node refused for this reason.
pub(super) fn refused_for(node: &Node, reason: &str) -> u64 {
    let (mut text, registry) = (String::new(), node.parts.metrics.registry(&node.parts.assignments));
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let name = format!("systir_documents_refused_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_the_disk_does_not_keep_is_not_used_until_the_disk_works() {
    let cluster = TestCluster::new();
    let state = cluster.config("cph-1", 1).policy.state;
    let node = cluster.node("cph-1", 1).await;
    // A file in place of the folder: nobody can write there, not even root.
    let moved = state.with_extension("moved");
    std::fs::rename(&state, &moved).unwrap();
    std::fs::write(&state, "").unwrap();
    let second = cluster.documents.bundle(2, |_| {}).unwrap();
    let refused = take(&node, &second).unwrap_err();
    assert!(refused.contains("cannot be kept on the disk"), "{refused}");
    assert_eq!(refused_for(&node, "disk"), 1);
    until_version(&node, 1).await;
    let _anna = TestParticipant::join(&node, "anna").await;
    // The folder of documents is looked at again although the file stays the same.
    cluster.publish("ku.dk.note", &second);
    let looked = async {
        while refused_for(&node, "disk") < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, looked).await.expect("the node reads the folder");
    std::fs::remove_file(&state).unwrap();
    std::fs::rename(&moved, &state).unwrap();
    until_version(&node, 2).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_document_of_an_earlier_run_is_ignored_at_start() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 1).await;
    take(&node, &cluster.documents.bundle(2, |_| {}).unwrap()).unwrap();
    node.stop().await;
    let third = cluster.documents.bundle(3, |_| {}).unwrap();
    let (half, _) = third.split_at(third.len() / 2);
    // Whole or not, it was never in use.
    for left in [half, &third] {
        let file = cluster.config("cph-1", 1).policy.state.join("bundle-ku.dk.note-new");
        std::fs::write(&file, left).unwrap();
        let node = cluster.node("cph-1", 1).await;
        until_version(&node, 2).await;
        node.stop().await;
    }
    let node = cluster.node("cph-1", 1).await;
    take(&node, &third).unwrap();
    until_version(&node, 3).await;
    node.stop().await;
}

/// The time of a percentile, milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len() - 1)).map_or(0, Duration::as_millis)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_loses_its_right_closes_all_its_rooms() {
    const ROOMS: usize = 200;
    let cluster = TestCluster::new();
    cluster.allow_any_nordic_home();
    let nodes = [cluster.node("sto-1", 300).await, cluster.node("cph-1", 1).await];
    let mut participants = Vec::new();
    for room in 0..ROOMS {
        let grants = Grants { room: format!("lecture-{room}"), ..grants("anna") };
        participants.push(TestParticipant::try_join(&nodes[0], grants).await.unwrap());
    }
    let published = Instant::now();
    // Only Denmark is left. The file is found by both nodes.
    cluster.publish_rules(2, |rules| {
        rules.replace(r#"resource.country in Zone::"Nordic""#, r#"resource.country == Country::"DK""#)
    });
    let left = participants.into_iter().map(|mut participant| {
        tokio::spawn(async move {
            participant.until_leave().await;
            published.elapsed()
        })
    });
    let left = futures::future::join_all(left).await;
    let mut times: Vec<Duration> = left.into_iter().map(|time| time.unwrap()).collect();
    times.sort();
    println!(
        "from a published bundle to the leave message of {ROOMS} rooms: p50 {} ms, p99 {} ms",
        percentile(&times, 50),
        percentile(&times, 99)
    );
    assert_eq!(nodes[0].parts.seats.used_and_capacity().0, 0);
    for node in nodes {
        node.stop().await;
    }
}
