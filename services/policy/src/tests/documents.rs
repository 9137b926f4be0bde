//! Versions, validity and contradictions of the documents that an engine is loaded from.

use systir_documents::{AcceptedDocuments, Document, Note, OperatorPin, PinnedKeys, Pins};
use systir_identity::{TrustDomain, ca};
use systir_reason::Reason;

use super::*;
use crate::{PolicyTime, PolicyVersion};

fn version_of(floor: &Floor, bundle: &Bundle, directories: &[&Directory]) -> PolicyVersion {
    let engine = load_all(floor, &[bundle], directories).unwrap();
    engine.statement("ku.dk").unwrap().version.clone()
}

#[test]
fn the_hash_of_the_policy_version_covers_all_that_decides_in_any_order() {
    let DemoDocuments { floor, bundle, directory } = demo_documents();
    let lund = directory_of_sunet([own_node("lund-1", "SE")]);
    let bundle = Bundle { version: 7, ..bundle };
    let first = version_of(&floor, &bundle, &[&directory, &lund]);
    assert_eq!(first, version_of(&floor, &bundle, &[&lund, &directory]));
    assert_eq!((first.number, first.hash.len()), (7, 64));
    assert_eq!(first.to_string(), format!("7-{}", &first.hash[..12]));
    assert_eq!(serde_json::to_value(&first).unwrap()["hash"].as_str().unwrap(), &*first.hash);

    let mut rebuilt = b"systir.org/policy/v1\n".to_vec();
    let hash = |text: String| DocumentHash::of(&text).as_bytes().to_vec();
    let documents = [
        hash(format!("{floor:?}")),
        hash(format!("{bundle:?}")),
        hash(format!("{directory:?}")),
        hash(format!("{lund:?}")),
    ];
    for part in std::iter::once(crate::schema::SCHEMA.as_bytes().to_vec()).chain(documents) {
        rebuilt.extend_from_slice(&(part.len() as u64).to_be_bytes());
        rebuilt.extend_from_slice(&part);
    }
    let rebuilt = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &rebuilt);
    let rebuilt: String = rebuilt.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(*first.hash, *rebuilt, "anyone who has the documents can compute it");

    let stricter = Bundle { classes: Vec::new(), ..bundle.clone() };
    let moved = Directory { version: 2, ..directory.clone() };
    let floor_2 = Floor { version: 2, ..floor.clone() };
    for other in [
        version_of(&floor_2, &bundle, &[&directory, &lund]),
        version_of(&floor, &stricter, &[&directory, &lund]),
        version_of(&floor, &bundle, &[&moved, &lund]),
        version_of(&floor, &bundle, &[&directory]),
    ] {
        assert_ne!(first.hash, other.hash);
    }
}

#[test]
fn the_shown_text_has_countries_in_place_of_zones() {
    let engine = demo_engine();
    let shown = engine.text("ku.dk").unwrap();
    assert!(
        shown.institution.contains(r#"resource.country in [Country::"DK", Country::"FI", Country::"IS""#)
    );
    assert!(!shown.institution.contains("Zone::"));
}

#[test]
fn zones_and_vocabulary_are_each_documents_own() {
    let mut documents = demo_documents();
    documents.floor.policy = format!(
        "{}\n@id(\"floor-eea\") @why(\"w\") forbid (principal, action in Action::\"on-node\", resource) unless {{ \
         resource.country in Zone::\"EEA\" || resource.host == Host::\"amazon\" }};",
        demo::FLOOR
    );
    let error = load(&documents).unwrap_err().to_string();
    assert!(error.contains("floor of nordunet: its zones do not have [\"EEA\"]"), "{error}");
    documents.floor.zones.insert("EEA".into(), vec!["DK".into()]);
    let error = load(&documents).unwrap_err().to_string();
    assert!(error.contains("Host::\"amazon\" is not a host of the document's vocabulary"), "{error}");
    documents.floor.vocabulary.hosts.insert("amazon".into());
    let engine = load(&documents).unwrap();
    // The bundle's EEA has Sweden; the floor's has not.
    assert_eq!(rules_of(&decide_planned(&engine, Action::Spill, "sto-1")), ["floor-eea"]);
}

fn load_with(floor: Validity, bundle: Validity, directory: Validity) -> PolicyEngine {
    let documents = demo_documents();
    let hash = |document: Document| DocumentHash::of(&format!("{document:?}"));
    PolicyEngine::load(&Sources {
        floor: SourceDocument {
            document: &documents.floor,
            hash: hash(Document::Floor(documents.floor.clone())),
            validity: floor,
            signers: &[key_of("nordunet")],
        },
        bundles: &[SourceDocument {
            document: &documents.bundle,
            hash: hash(Document::Bundle(documents.bundle.clone())),
            validity: bundle,
            signers: &[key_of("ku.dk 1"), key_of("ku.dk 2")],
        }],
        directories: &[SourceDocument {
            document: &documents.directory,
            hash: hash(Document::Directory(documents.directory.clone())),
            validity: directory,
            signers: &[key_of("nordunet")],
        }],
    })
    .unwrap()
}

#[test]
fn an_expired_document_denies() {
    use Validity::{Expired, Valid};
    let table = [
        (Valid, Expired, Valid, Reason::PolicyExpired, "bundle of ku.dk"),
        (Expired, Valid, Valid, Reason::PolicyExpired, "floor of nordunet"),
        (Valid, Valid, Expired, Reason::DirectoryExpired, "directory of nordunet"),
    ];
    for (floor, bundle, directory, reason, document) in table {
        let engine = load_with(floor, bundle, directory);
        let decision = decide_planned(&engine, Action::Home, "cph-1");
        assert_eq!(decision.reason, reason, "{document}");
        assert!(decision.why.contains(document) && decision.why.contains("expired"), "{}", decision.why);
        assert!(decision.reason.is_policy_denial());
        let joined = engine.decide(&by_participant(Action::Join, "ku.dk")).allowed;
        assert_eq!(joined, reason == Reason::DirectoryExpired, "{document}");
    }
}

#[test]
fn an_overdue_renewal_denies_new_rooms_and_nodes_only() {
    use Validity::{RenewalOverdue, Valid};
    assert_eq!(load_with(Valid, Valid, Valid).renewal_overdue("ku.dk", "cph-1"), None);
    for (floor, bundle, directory, document) in [
        (Valid, RenewalOverdue, Valid, "bundle of ku.dk"),
        (RenewalOverdue, Valid, Valid, "floor of nordunet"),
        (Valid, Valid, RenewalOverdue, "directory of nordunet"),
    ] {
        let engine = load_with(floor, bundle, directory);
        assert!(decide_planned(&engine, Action::Home, "cph-1").allowed, "{document}");
        let refusal = engine.renewal_overdue("ku.dk", "cph-1").unwrap();
        assert_eq!(refusal.reason, Reason::PolicyRenewalOverdue);
        assert!(refusal.sentence.contains(document), "{refusal}");
    }
}

#[test]
fn statements_tell_who_signed_which_version() {
    let engine = load_with(Validity::Valid, Validity::Valid, Validity::Valid);
    let statement = engine.statement("ku.dk").unwrap();
    let fingerprints =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| key_of(name).fingerprint()).collect() };
    assert_eq!(statement.signers, fingerprints(&["ku.dk 1", "ku.dk 2"]));
    assert_eq!((statement.floor_operator.as_str(), statement.floor_version), ("nordunet", 1));
    assert_eq!(statement.floor_signers, fingerprints(&["nordunet"]));
    let json = serde_json::to_value(statement).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["hash"].as_str().unwrap().len(), 64);
    let facts = engine.facts("cph-1").unwrap();
    assert_eq!((facts.declared_by.as_str(), facts.directory.version), ("nordunet", 1));
    assert_eq!(facts.directory.signers, fingerprints(&["nordunet"]));
    assert!(facts.may_be_dialled_at("192.0.2.7".parse().unwrap()));
    assert!(!facts.may_be_dialled_at("198.51.100.7".parse().unwrap()));
}

#[test]
fn one_node_in_two_entries_of_a_directory_refuses_the_load() {
    let DemoDocuments { floor, bundle, directory } = demo_documents();
    let error_of =
        |directories: &[&Directory]| load_all(&floor, &[&bundle], directories).unwrap_err().to_string();
    let mut twice = directory.clone();
    twice.nodes.push(own_node("cph-1", "DK"));
    assert!(error_of(&[&twice]).contains("it lists the node cph-1 twice"));
    assert!(error_of(&[&directory, &directory]).contains("twice"));
}

#[test]
fn a_node_that_another_operator_lists_too_stays_the_own_operators() {
    let DemoDocuments { floor, bundle, directory } = demo_documents();
    let mut same_spiffe_id =
        directory_of_sunet([DirectoryNode { id: "lund-1".into(), ..own_node("cph-1", "SE") }]);
    same_spiffe_id.nodes[0].spiffe_id = "spiffe://nordu.net/relay/cph-1".into();
    same_spiffe_id.trust_domain = "nordu.net".into();
    let same_id = directory_of_sunet([own_node("cph-1", "SE")]);
    let cases =
        [(same_id, "the node cph-1"), (same_spiffe_id, "the SPIFFE id spiffe://nordu.net/relay/cph-1")];
    for (mut rival, what) in cases {
        rival.nodes.push(DirectoryNode {
            spiffe_id: format!("spiffe://{}/relay/umea-1", rival.trust_domain),
            ..own_node("umea-1", "SE")
        });
        for directories in [[&directory, &rival], [&rival, &directory]] {
            let engine = load_all(&floor, &[&bundle], &directories).unwrap();
            assert_eq!(engine.facts("cph-1").unwrap().operator, "nordunet");
            let of_spiffe_id = engine.node_of("spiffe://nordu.net/relay/cph-1").unwrap();
            assert_eq!((of_spiffe_id.id.as_str(), of_spiffe_id.operator.as_str()), ("cph-1", "nordunet"));
            assert!(engine.node_of("spiffe://sunet.se/relay/cph-1").is_none());
            assert!(engine.facts("lund-1").is_none());
            assert_eq!(engine.facts("umea-1").unwrap().operator, "sunet", "its other nodes count");
            let left_out: Vec<String> = engine.left_out().iter().map(ToString::to_string).collect();
            let expected = format!("does not count: it lists {what}, and so does the directory of nordunet");
            assert!(left_out.len() == 1 && left_out[0].starts_with("directory of sunet: "), "{left_out:?}");
            assert!(left_out[0].ends_with(&expected), "{left_out:?}");
        }
    }
}

#[test]
fn a_node_that_two_other_operators_list_is_neither_of_them() {
    let DemoDocuments { floor, bundle, directory } = demo_documents();
    let other = |operator: &str, domain: &str, own: &str| {
        let node = |id: &str| DirectoryNode {
            spiffe_id: format!("spiffe://{domain}/relay/{id}"),
            ..own_node(id, "SE")
        };
        let nodes = vec![node("claimed-1"), node(own)];
        let (operator, trust_domain) = (operator.to_owned(), domain.to_owned());
        Directory { operator, trust_domain, nodes, ..directory_of_sunet([]) }
    };
    let (one, two) = (other("sunet", "sunet.se", "lund-1"), other("sikt", "sikt.no", "oslo-1"));
    for directories in [[&directory, &one, &two], [&two, &one, &directory]] {
        let engine = load_all(&floor, &[&bundle], &directories).unwrap();
        assert!(engine.facts("claimed-1").is_none());
        assert!(engine.node_of("spiffe://sunet.se/relay/claimed-1").is_none());
        assert_eq!(engine.left_out().len(), 2);
        for (node, operator) in [("lund-1", "sunet"), ("oslo-1", "sikt"), ("cph-1", "nordunet")] {
            assert_eq!(engine.facts(node).unwrap().operator, operator);
        }
    }
}

#[test]
fn a_contradictory_directory_is_refused() {
    let error_of = |nodes: Vec<DirectoryNode>| {
        let documents = with_nodes(nodes);
        let checked = PolicyEngine::check(&Document::Directory(documents.directory.clone())).unwrap_err();
        assert_eq!(load(&documents).unwrap_err(), checked);
        checked.to_string()
    };
    assert!(error_of(vec![own_node("a", "Denmark")]).contains("write \"DK\", not \"Denmark\""));
    assert!(error_of(vec![own_node("", "DK")]).contains("the node id \"\""));
    assert!(error_of(vec![own_node("a b", "DK")]).contains("the node id \"a b\""));
    let other = "nordunet is controlled from DK and from US: state one country, or use two names";
    assert!(error_of(vec![leased_node("b", "DK", "nordunet", "US")]).contains(other));
    let moved = vec![leased_node("a", "DK", "amazon", "US"), leased_node("b", "DK", "amazon", "IE")];
    assert!(error_of(moved).contains("amazon is controlled from US and from IE"));
    for id in ["spiffe://sunet.se/relay/a", "spiffe://nordu.net.evil/relay/a", "nordu.net/relay/a"] {
        let foreign = DirectoryNode { spiffe_id: id.into(), ..own_node("a", "DK") };
        assert!(error_of(vec![foreign]).contains("is not a SPIFFE id of the trust domain nordu.net"), "{id}");
    }
}

/// Accepts the documents as notes signed by these owners' keys.
fn accepted(documents: &[Document]) -> AcceptedDocuments {
    let signer = |owner: &str| SigningKey::from_seed(owner, [5; 32]).unwrap();
    let pinned = |owner: &str| PinnedKeys::new(vec![signer(owner).public()], 1).unwrap();
    let operator = |name: &str, trust_domain: &str| {
        (name.to_owned(), OperatorPin { trust_domain: trust_domain.to_owned(), keys: pinned(name) })
    };
    let pins = Pins {
        institutions: [("ku.dk".to_owned(), pinned("ku.dk"))].into(),
        operators: [operator("nordunet", "nordu.net"), operator("sunet", "sunet.se")].into(),
    };
    let mut accepted = AcceptedDocuments::default();
    for document in documents {
        let note = Note::sign(&document.to_text(), &signer(document.owner())).unwrap();
        accepted.accept(pins.verify(&note.to_string()).unwrap()).unwrap();
    }
    accepted
}

#[test]
fn an_engine_is_loaded_from_the_newest_accepted_documents_of_its_own_operator() {
    let domain = TrustDomain::new("nordu.net").unwrap();
    let roots = ca::create(&domain, SystemTime::now()).unwrap().certificate.to_string();
    let DemoDocuments { floor, bundle, directory } =
        DemoDocuments::new(LIFETIME, &roots, |id| (vec![key_of(id)], prefixes())).unwrap();
    let foreign_floor = Floor {
        operator: "sunet".into(),
        policy: "@id(\"nothing\") @why(\"w\") forbid (principal, action, resource);".into(),
        ..floor.clone()
    };
    let documents = [
        Document::Floor(floor),
        Document::Floor(foreign_floor),
        Document::Bundle(bundle),
        Document::Directory(directory),
    ];
    let accepted = accepted(&documents);
    let load = |wall| PolicyEngine::load_accepted(&accepted, "nordunet", wall);
    let engine = load(LIFETIME.issued).unwrap();
    assert!(
        decide_planned(&engine, Action::Spill, "sto-1").allowed,
        "the floor of sunet does not apply here"
    );
    assert_eq!(engine.statement("ku.dk").unwrap().signers.len(), 1);
    assert!(load(LIFETIME.renew_by + 1).unwrap().renewal_overdue("ku.dk", "cph-1").is_some());
    let expired = decide_planned(&load(LIFETIME.not_after + 1).unwrap(), Action::Spill, "sto-1");
    assert_eq!(expired.reason, Reason::PolicyExpired);
    let error = PolicyEngine::load_accepted(&accepted, "uninett", LIFETIME.issued).unwrap_err().to_string();
    assert!(error.contains("floor of uninett: it is missing"), "{error}");
    for document in documents {
        PolicyEngine::check(&document).unwrap();
    }
}

#[test]
fn a_clock_that_is_behind_the_operators_documents_does_not_count() {
    let accepted = accepted(&[Document::Floor(demo_documents().floor)]);
    let of = |wall| PolicyTime::of_clock(&accepted, "nordunet", wall);
    assert_eq!(of(LIFETIME.issued - 300), Some(PolicyTime::at(LIFETIME.issued - 300)));
    assert_eq!(of(LIFETIME.issued - 301), None);
    assert_eq!(of(LIFETIME.not_after), Some(PolicyTime::at(LIFETIME.not_after)));
    assert!(PolicyTime::of_clock(&accepted, "sunet", 0).is_some(), "other operators' documents say nothing");
}
