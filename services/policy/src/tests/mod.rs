//! Tests of the engine, with the demo's documents and with documents and peers that try to bypass it.

mod authority;
mod decisions;
mod documents;
mod journal;
mod properties;
mod refusals;
mod rooms;
mod time;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use systir_documents::{
    Bundle, Directory, DirectoryNode, DocumentHash, Floor, IpPrefix, Lifetime, PublicKey, SigningKey,
    Validity,
};

use crate::demo::DemoDocuments;
use crate::{
    Action, Claims, Decision, LoadError, PolicyEngine, Request, RoomAttributes, RoomClass, SourceDocument,
    Sources, Subject, demo,
};

const LIFETIME: Lifetime =
    Lifetime { issued: 1_800_000_000, renew_by: 1_800_100_000, not_after: 1_800_200_000 };

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(LIFETIME.issued + 60)
}

/// The node key of the node with this id, or another key for this name.
fn key_of(id: &str) -> PublicKey {
    let mut seed = [7; 32];
    for (at, byte) in id.bytes().enumerate().take(32) {
        seed[at] = byte;
    }
    SigningKey::from_seed("node", seed).unwrap().public()
}

fn prefixes() -> Vec<IpPrefix> {
    vec!["192.0.2.0/24".parse().unwrap()]
}

fn demo_documents() -> DemoDocuments {
    DemoDocuments::new(LIFETIME, "", |id| (vec![key_of(id)], prefixes())).unwrap()
}

fn demo_engine() -> PolicyEngine {
    load(&demo_documents()).unwrap()
}

/// A node of nordunet in `country`, on nordunet's own machine.
fn own_node(id: &str, country: &str) -> DirectoryNode {
    DirectoryNode {
        id: id.into(),
        spiffe_id: format!("spiffe://nordu.net/relay/{id}"),
        keys: vec![key_of(id)],
        prefixes: prefixes(),
        site: "Somewhere".into(),
        region: "xx-somewhere".into(),
        country: country.into(),
        host: "nordunet".into(),
        host_controlled_from: "DK".into(),
    }
}

/// A node of nordunet on a machine of `host`, which is controlled from `from`.
fn leased_node(id: &str, country: &str, host: &str, from: &str) -> DirectoryNode {
    DirectoryNode { host: host.into(), host_controlled_from: from.into(), ..own_node(id, country) }
}

/// The demo's documents with these nodes; the bundle knows their hosts.
fn with_nodes(nodes: impl IntoIterator<Item = DirectoryNode>) -> DemoDocuments {
    let mut documents = demo_documents();
    documents.directory.nodes = nodes.into_iter().collect();
    let hosts = documents.directory.nodes.iter().map(|node| node.host.clone());
    documents.bundle.vocabulary.hosts.extend(hosts);
    documents
}

/// The demo's documents with these rules of ku.dk.
fn with_policy(policy: &str) -> DemoDocuments {
    let mut documents = demo_documents();
    documents.bundle.policy = policy.to_owned();
    documents
}

/// A directory of `sunet`, in its own trust domain.
fn directory_of_sunet(nodes: impl IntoIterator<Item = DirectoryNode>) -> Directory {
    let in_domain = |node: DirectoryNode| DirectoryNode {
        spiffe_id: node.spiffe_id.replace("nordu.net", "sunet.se"),
        host: node.host.replace("nordunet", "sunet"),
        host_controlled_from: node.host_controlled_from.replace("DK", "SE"),
        ..node
    };
    Directory {
        operator: "sunet".into(),
        trust_domain: "sunet.se".into(),
        controlled_from: "SE".into(),
        nodes: nodes.into_iter().map(in_domain).collect(),
        ..demo_documents().directory
    }
}

fn source<D: std::fmt::Debug>(document: &D, validity: Validity) -> SourceDocument<'_, D> {
    SourceDocument { document, hash: DocumentHash::of(&format!("{document:?}")), validity, signers: &[] }
}

fn load_all(
    floor: &Floor,
    bundles: &[&Bundle],
    directories: &[&Directory],
) -> Result<PolicyEngine, LoadError> {
    let bundles: Vec<_> = bundles.iter().map(|bundle| source(*bundle, Validity::Valid)).collect();
    let directories: Vec<_> =
        directories.iter().map(|directory| source(*directory, Validity::Valid)).collect();
    PolicyEngine::load(&Sources {
        floor: source(floor, Validity::Valid),
        bundles: &bundles,
        directories: &directories,
    })
}

fn load(documents: &DemoDocuments) -> Result<PolicyEngine, LoadError> {
    load_all(&documents.floor, &[&documents.bundle], &[&documents.directory])
}

fn request(action: Action, subject: Subject<'_>) -> Request<'_> {
    Request {
        institution: "ku.dk",
        action,
        subject,
        room: RoomAttributes::default(),
        claims: Claims::default(),
    }
}

fn by_participant(action: Action, institution: &str) -> Request<'_> {
    request(action, Subject::Participant { institution })
}

/// The decision on a plan that names the node `id`.
fn decide_planned(engine: &PolicyEngine, action: Action, id: &str) -> Decision {
    engine.decide(&request(action, Subject::Node(id)))
}

fn rules_of(decision: &Decision) -> Vec<&str> {
    decision.rules.iter().map(|rule| rule.as_str()).collect()
}

const STANDARD: RoomAttributes = RoomAttributes { class: RoomClass::Standard, e2ee: false };
const CONFIDENTIAL: RoomAttributes = RoomAttributes { class: RoomClass::Confidential, e2ee: false };
const ENCRYPTED: RoomAttributes = RoomAttributes { class: RoomClass::Standard, e2ee: true };
