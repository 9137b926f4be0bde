//! A directory of another operator whose keys are pinned too, and which lists nodes of this one.

use systir_documents::{Directory, Document, Note, SigningKey};
use systir_identity::{TrustDomain, ca};

use crate::config::OperatorSection;

use super::*;

/// Another operator.
struct Sunet {
    key: SigningKey,
    roots: String,
}

impl Sunet {
    fn new() -> Self {
        let domain = TrustDomain::new("sunet.se").unwrap();
        Self {
            key: SigningKey::from_seed("sunet.se/2026", [21; 32]).unwrap(),
            roots: ca::create(&domain, std::time::SystemTime::now()).unwrap().certificate,
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
        let directory = Directory { operator, trust_domain, nodes, roots: self.roots.clone(), ..demo };
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
