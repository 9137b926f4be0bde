//! A directory of another operator whose keys are pinned too, and which lists nodes of this one.

use systir_cascade::{LinkEvent, NamedLinks as _};
use systir_documents::{Directory, Document, Note, SigningKey};
use systir_identity::{NodeCertificate, TrustDomain, ca};

use crate::config::OperatorSection;

use super::hostile_node::HostileNode;
use super::*;

/// Another operator.
struct Sunet {
    key: SigningKey,
    ca: ca::Pem,
}

impl Sunet {
    fn new() -> Self {
        let domain = TrustDomain::new("sunet.se").unwrap();
        Self {
            key: SigningKey::from_seed("sunet.se/2026", [21; 32]).unwrap(),
            ca: ca::create(&domain, std::time::SystemTime::now()).unwrap(),
        }
    }

    fn pin(&self, config: &mut RelayConfig) {
        let keys = vec![self.key.public().to_string()];
        let pinned = OperatorSection { trust_domain: "sunet.se".to_owned(), keys, threshold: None };
        config.policy.operators.insert("sunet".to_owned(), pinned);
    }

    /// A version of its directory, which lists these nodes as its own.
    fn directory(&self, of: &TestCluster, version: u64, nodes: &[&str]) -> String {
        let note = Note::parse(&of.documents.directory(version, |_| {}).unwrap()).unwrap();
        let Ok(Document::Directory(demo)) = Document::parse(note.text()) else { unreachable!() };
        let listed = (30..).zip(nodes).map(|(seed, id)| systir_documents::DirectoryNode {
            id: (*id).to_owned(),
            spiffe_id: format!("spiffe://sunet.se/relay/{id}"),
            keys: vec![SigningKey::from_seed("sunet.se/node", [seed; 32]).unwrap().public()],
            ..demo.nodes[0].clone()
        });
        let nodes = listed.collect();
        let (operator, trust_domain) = ("sunet".to_owned(), "sunet.se".to_owned());
        let directory =
            Directory { operator, trust_domain, nodes, roots: self.ca.certificate.clone(), ..demo };
        Note::sign(&Document::Directory(directory).to_text(), &self.key).unwrap().to_string()
    }
}

fn operators(node: &Node, nodes: &[&str]) -> Vec<String> {
    let operator = |node_id: &&str| {
        node.parts.authority.facts(node_id).map_or("none".to_owned(), |facts| facts.operator.clone())
    };
    nodes.iter().map(operator).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_operators_directory_takes_no_node_and_refuses_no_version_of_the_own_one() {
    let (cluster, sunet) = (TestCluster::new(), Sunet::new());
    let start = async || {
        let mut config = cluster.config("cph-1", 5);
        sunet.pin(&mut config);
        Node::start(config, Arc::new(cluster.store.registry())).await.unwrap()
    };
    // Its directory is there first. Nobody else lists osl-1 yet.
    let rival = sunet.directory(&cluster, 1, &["cph-1", "osl-1", "lund-1"]);
    cluster.publish("sunet.note", &rival);
    let node = start().await;
    let all = ["cph-1", "sto-1", "osl-1", "lund-1"];
    assert_eq!(operators(&node, &all), ["nordunet", "nordunet", "sunet", "sunet"]);
    let mut anna = TestParticipant::join(&node, "anna").await;
    // The own operator adds a node of that name.
    let with_osl = cluster.documents.directory(2, |directory| {
        let mut osl = directory.nodes.iter().find(|node| node.id == "sto-1").unwrap().clone();
        osl.id = "osl-1".to_owned();
        osl.spiffe_id = "spiffe://nordu.net/relay/osl-1".to_owned();
        osl.keys = vec![SigningKey::from_seed("nordu.net/osl-1", [23; 32]).unwrap().public()];
        directory.nodes.push(osl);
    });
    let _ = node.parts.documents.take(&with_osl.unwrap()).unwrap();
    assert_eq!(operators(&node, &all), ["nordunet", "nordunet", "nordunet", "sunet"]);
    // The other one lists all nodes of this one.
    let _ = node.parts.documents.take(&sunet.directory(&cluster, 2, &all)).unwrap();
    assert_eq!(operators(&node, &all), ["nordunet", "nordunet", "nordunet", "sunet"]);
    assert!(node.parts.authority.node_of("spiffe://sunet.se/relay/cph-1").is_none());
    let _bob = TestParticipant::join(&node, "bob").await;
    anna.until_sees("bob").await;
    node.stop().await;
    let node = start().await;
    assert_eq!(operators(&node, &all), ["nordunet", "nordunet", "nordunet", "sunet"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_our_node_by_the_ca_of_another_pinned_operator_reaches_nothing() {
    let (cluster, sunet) = (TestCluster::new(), Sunet::new());
    let (id, now) = ("spiffe://nordu.net/relay/sto-1".parse().unwrap(), std::time::SystemTime::now());
    let minted = ca::issue(&sunet.ca, &id, now, Duration::from_secs(3600)).unwrap();
    let certificate = NodeCertificate::from_pem(&minted.certificate, &minted.key).unwrap();
    // It has the node key of sto-1 too.
    let mut hostile = HostileNode::start_with_certificate(&cluster, "sto-1", certificate).await;
    cluster.publish("sunet.note", &sunet.directory(&cluster, 1, &["lund-1"]));
    let mut config = cluster.config("cph-1", 5);
    sunet.pin(&mut config);
    let home = Node::start(config, Arc::new(cluster.store.registry())).await.unwrap();
    assert_eq!(operators(&home, &["lund-1"]), ["sunet"], "its directory counts, with its CA");
    let mut anna = TestParticipant::join(&home, "anna").await;
    let held = cluster.record().unwrap().grant;
    assert!(hostile.reserve("cph-1", &held).await.is_err());
    hostile.open_room("cph-1", &held);
    hostile.until("no link", |event| matches!(event, LinkEvent::Unreachable { .. })).await;
    let refused = home.directory.identity_counts().refused;
    assert!(refused.get(&Reason::TlsHandshake).copied().unwrap_or_default() >= 2, "{refused:?}");
    assert_eq!(hostile.asked(), [] as [&str; 0], "no node calls it either");
    anna.saw_only(&[]);
    home.stop().await;
}
