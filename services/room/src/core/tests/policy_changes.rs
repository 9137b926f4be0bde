//! Rooms whose nodes get a new policy while they run.

use systir_policy::{PolicyTime, RoomAttributes, RoomClass};
use systir_room_tag::RoomKeys;

use super::*;

/// ku.dk does not let its rooms spill to Sweden any more.
const NO_SPILL_IN_SWEDEN: &str = r#"
    @id("no-spill-in-sweden") @why("rooms of ku.dk do not spill to Sweden any more")
    forbid (principal, action == Action::"spill", resource) when { resource.country == Country::"SE" };"#;

/// ku.dk lets its rooms spill to Sweden only from 7 until before 13 o'clock.
const SWEDEN_BY_DAY: &str = r#"
    @id("sweden-by-day") @why("rooms of ku.dk spill to Sweden by day only")
    forbid (principal, action == Action::"spill", resource)
    when { resource.country == Country::"SE" }
    unless { context.now.toTime() >= duration("7h") && context.now.toTime() < duration("13h") };"#;

/// ku.dk does not let nodes in Sweden see its signalling any more.
pub(super) const NO_GATEWAY_IN_SWEDEN: &str = r#"
    @id("no-gateway-in-sweden") @why("nodes in Sweden see no signalling of ku.dk any more")
    forbid (principal, action == Action::"relay-signal", resource) when { resource.country == Country::"SE" };"#;

/// ku.dk lets nobody join any more.
const NO_JOIN: &str = r#"
    @id("closed-for-exams") @why("ku.dk holds no meetings this week")
    forbid (principal, action == Action::"join", resource);"#;

const NO_HIDDEN: &str = r#"
    @id("all-are-seen") @why("ku.dk permits no hidden participants any more")
    forbid (principal, action == Action::"join-hidden", resource);"#;

const NO_GUESTS: &str = r#"
    @id("members-only") @why("ku.dk admits no guests this week")
    forbid (principal, action == Action::"join-guest", resource);"#;

/// A room with one participant at each node: anna in Copenhagen, bob in Stockholm, chen in Oslo.
fn lecture() -> Network {
    let mut network = Network::new(11);
    for (index, identity) in ["anna", "bob", "chen"].into_iter().enumerate() {
        network.arrive(index, NODES[index], grants(identity));
    }
    network.settle();
    for node in &network.nodes {
        assert_eq!(participants(node).len(), 3, "{}", node.name);
    }
    network
}

fn sentence_to(network: &Network, identity: &str) -> Dismissed {
    network.dismissed.get(identity).cloned().unwrap_or_else(|| panic!("{identity} was not asked to leave"))
}

/// What the client of `identity` sees of others.
fn seen_by(network: &Network, index: usize, identity: &str) -> BTreeSet<String> {
    let clients = &network.nodes[index].clients;
    let client = clients.values().find(|client| client.identity == identity).unwrap();
    client.others.values().map(|(identity, _)| identity.clone()).collect()
}

#[test]
fn a_spill_node_that_loses_its_right_gets_nothing_more() {
    let mut network = lecture();
    let stricter = with_rule(NO_SPILL_IN_SWEDEN);
    // Stockholm does not have the new policy: it is late, or hostile.
    for index in [0, 2] {
        network.replace_policy(index, &stricter);
        assert!(!network.nodes[index].wanted.contains("sto-1"), "closed in the same pass");
    }
    let before = network.trace.len();
    network.arrive(0, "cph-1", grants("dina"));
    network.settle();
    network.advance(10_000);
    let sent: Vec<_> = network.trace[before..].iter().filter(|sent| sent.contains(" sto-1 ")).collect();
    assert!(sent.is_empty(), "{sent:?}");
    for index in [0, 2] {
        assert!(!participants(&network.nodes[index]).contains_key("bob"), "{}", NODES[index]);
        assert!(network.nodes[index].wanted.contains(NODES[2 - index]), "the others go on");
    }
    assert_eq!(seen_by(&network, 0, "anna"), ["chen", "dina"].map(str::to_owned).into());
    assert_eq!(
        network.nodes[0].removed,
        BTreeSet::from(["sto-1".to_owned()]),
        "the home corrects the record"
    );
    assert!(network.nodes[2].removed.is_empty(), "only the home does");

    network.replace_policy(1, &stricter);
    assert!(network.nodes[1].clients.is_empty());
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["bob".to_owned()]));
    assert!(network.nodes[1].wanted.is_empty(), "it closes its own links");
}

#[test]
fn a_spill_node_is_left_when_its_hours_end_and_used_when_they_begin() {
    let mut network = lecture();
    let engine = with_rule(SWEDEN_BY_DAY).engine().unwrap();
    let at = |text: &str| Some(PolicyTime::at(systir_documents::parse_rfc3339(text).unwrap()));
    for (index, name) in NODES.into_iter().enumerate() {
        network.nodes[index].authority.replace(engine.at(at("2027-02-03T12:59:00Z")));
        network.input(index, RoomInput::PolicyChanged);
        assert_eq!(participants(&network.nodes[index]).len(), 3, "{name}");
    }
    // Each node's clock shows 13 o'clock; Stockholm's is late.
    for index in [0, 2, 1] {
        assert!(network.nodes[index].authority.advance(at("2027-02-03T13:00:00Z")));
        network.input(index, RoomInput::PolicyChanged);
        assert!(!network.nodes[index].wanted.contains("sto-1"), "closed in the same pass");
    }
    network.settle();
    assert!(network.nodes[1].clients.is_empty() && network.nodes[1].wanted.is_empty());
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["bob".to_owned()]));
    assert_eq!(network.nodes[0].removed, BTreeSet::from(["sto-1".to_owned()]));
    for index in 0..NODES.len() {
        assert!(
            !network.nodes[index].authority.advance(at("2027-02-03T23:00:00Z")),
            "nothing changes at night"
        );
        assert!(network.nodes[index].authority.advance(at("2027-02-04T07:00:00Z")));
        network.input(index, RoomInput::PolicyChanged);
    }
    network.arrive(1, "sto-1", grants("bob"));
    network.settle();
    for node in &network.nodes {
        assert!(participants(node).contains_key("bob"), "{}", node.name);
    }
}

#[test]
fn a_node_that_cannot_read_the_rooms_name_follows_the_class_of_each_grant() {
    let standard = RoomAttributes::default();
    let confidential = RoomAttributes { class: RoomClass::Confidential, e2ee: true };
    let mut network = lecture();
    let sister = network.nodes[1].authority.clone();
    sister.note_granted(&network.nodes[1].core.id, Some(standard));
    sister.use_room_keys(RoomKeys::default());
    network.replace_policy(1, &documents());
    network.arrive(1, "sto-1", Grants { hidden: true, ..grants("dina") });
    network.settle();
    assert_eq!(network.nodes[1].core.attributes, standard);

    // The home signed a grant with another class. It has the same nodes, and no policy changed here.
    sister.note_granted(&network.nodes[1].core.id, Some(confidential));
    let view = network.nodes[1].core.cluster.clone();
    network.input(1, RoomInput::Cluster(view));
    assert_eq!(network.nodes[1].core.attributes, confidential);
    let (sentence, _) = sentence_to(&network, "dina");
    assert!(sentence.contains("join-hidden"), "confidential rooms have no hidden participants: {sentence}");
    assert!(!network.dismissed.contains_key("bob"));
}

#[test]
fn a_node_that_no_directory_lists_any_more_gets_nothing_more() {
    let mut network = lecture();
    let mut revoked = documents();
    revoked.directory.nodes.retain(|node| node.id != "sto-1");
    for index in 0..NODES.len() {
        network.replace_policy(index, &revoked);
    }
    assert!(network.nodes[0].wanted.contains("osl-1") && !network.nodes[0].wanted.contains("sto-1"));
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["bob".to_owned()]));
}

#[test]
fn a_node_that_regains_its_right_is_linked_again() {
    let mut network = lecture();
    for index in 0..NODES.len() {
        network.replace_policy(index, &with_rule(NO_SPILL_IN_SWEDEN));
    }
    network.settle();
    assert!(network.nodes[1].clients.is_empty());
    for index in 0..NODES.len() {
        network.replace_policy(index, &documents());
        if index != 1 {
            assert!(network.nodes[index].wanted.contains("sto-1"), "opened in the same pass");
        }
    }
    network.arrive(1, "sto-1", grants("bob"));
    network.settle();
    for node in &network.nodes {
        let known: Vec<String> = participants(node).into_keys().collect();
        assert_eq!(known, ["anna", "bob", "chen"], "{}", node.name);
    }
}

#[test]
fn a_home_that_loses_its_right_closes_the_room_and_leaves_the_record_to_its_successor() {
    let mut network = lecture();
    let moved = with_policy(
        &demo::KU_DK.replace("resource.country == Country::\"DK\"", "resource.country == Country::\"NO\""),
    );
    for index in 0..NODES.len() {
        network.replace_policy(index, &moved);
    }
    network.advance(10_000);
    assert!(network.nodes[0].clients.is_empty() && network.nodes[0].wanted.is_empty());
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["anna".to_owned()]));
    assert!(network.nodes.iter().all(|node| node.removed.is_empty()));
    assert!(network.nodes[1].wanted.contains("osl-1"), "the spill nodes go on");
}

#[test]
fn a_gateway_that_loses_its_right_loses_its_participants() {
    let mut network = Network::new(12);
    network.arrive(0, "sto-1", grants("anna"));
    network.arrive(0, "osl-1", grants("bob"));
    network.arrive(1, "sto-1", grants("chen"));
    network.settle();
    for index in 0..NODES.len() {
        network.replace_policy(index, &with_rule(NO_GATEWAY_IN_SWEDEN));
    }
    assert_eq!(network.clients_at(0), BTreeSet::from(["bob"]));
    assert!(network.nodes[1].clients.is_empty());
    assert_eq!(network.asked_to_rejoin, ["anna", "chen"].map(str::to_owned).into());
    assert!(network.dismissed.is_empty(), "they may join again, at another gateway");
    assert!(network.nodes[0].wanted.contains("sto-1"), "Stockholm is still a spill node");
    // One that arrives through it, because its gateway has not read the new policy yet, is sent on too.
    network.arrive(0, "sto-1", grants("dina"));
    assert_eq!(network.clients_at(0), BTreeSet::from(["bob"]));
}

#[test]
fn a_participant_whose_join_is_denied_leaves_with_the_reason() {
    let mut network = lecture();
    network.replace_policy(0, &with_rule(NO_JOIN));
    let (told, reason) = sentence_to(&network, "anna");
    assert_eq!(told, "ku.dk holds no meetings this week [forbidden: closed-for-exams]");
    assert_eq!(reason, proto::DisconnectReason::ParticipantRemoved);
    assert!(network.nodes[0].clients.is_empty());
    assert!(network.asked_to_rejoin.is_empty());
    // Copenhagen admits nobody either who was let in before.
    network.arrive(0, "cph-1", grants("dina"));
    assert_eq!(sentence_to(&network, "dina").1, proto::DisconnectReason::ParticipantRemoved);
    network.settle();
    assert_eq!(seen_by(&network, 1, "bob"), BTreeSet::from(["chen".to_owned()]));
}

#[test]
fn a_hidden_participant_leaves_when_policy_permits_hidden_ones_no_more() {
    let mut network = lecture();
    network.arrive(0, "cph-1", Grants { hidden: true, ..grants("dina") });
    network.settle();
    network.replace_policy(0, &with_rule(NO_HIDDEN));
    assert_eq!(network.clients_at(0), BTreeSet::from(["anna"]));
    let (told, _) = sentence_to(&network, "dina");
    assert_eq!(told, "ku.dk permits no hidden participants any more [forbidden: all-are-seen]");
    // ku.dk's policy has no rule for recorders at all.
    network.arrive(0, "cph-1", Grants { recorder: true, ..grants("emil") });
    assert!(sentence_to(&network, "emil").0.starts_with("no rule of ku.dk permits join-recorder"));
}

#[test]
fn guests_leave_when_policy_permits_them_no_more_and_others_stay() {
    let mut network = lecture();
    network.arrive(0, "cph-1", Grants { guest: true, ..grants("gina") });
    network.settle();
    assert!(network.clients_at(0).contains("gina"));
    network.replace_policy(0, &with_rule(NO_GUESTS));
    assert_eq!(network.clients_at(0), BTreeSet::from(["anna"]));
    let (told, _) = sentence_to(&network, "gina");
    assert_eq!(told, "ku.dk admits no guests this week [forbidden: members-only]");
}

#[test]
fn an_expired_bundle_ends_the_room() {
    let mut network = lecture();
    let documents = documents();
    let source = |validity| {
        let hash = systir_documents::DocumentHash::of("");
        let signers = &[];
        systir_policy::PolicyEngine::load(&systir_policy::Sources {
            floor: systir_policy::SourceDocument {
                document: &documents.floor,
                hash,
                validity: systir_documents::Validity::Valid,
                signers,
            },
            bundles: &[systir_policy::SourceDocument {
                document: &documents.bundle,
                hash,
                validity,
                signers,
            }],
            directories: &[systir_policy::SourceDocument {
                document: &documents.directory,
                hash,
                validity: systir_documents::Validity::Valid,
                signers,
            }],
        })
        .unwrap()
    };
    for index in 0..NODES.len() {
        network.nodes[index].authority.replace(source(systir_documents::Validity::Expired));
        network.input(index, RoomInput::PolicyChanged);
    }
    assert!(network.nodes.iter().all(|node| node.clients.is_empty() && node.wanted.is_empty()));
    let (told, _) = sentence_to(&network, "anna");
    assert!(told.contains("the bundle of ku.dk has expired"), "{told}");
    assert!(told.ends_with("[policy-expired]"), "{told}");
}

#[test]
fn residency_is_sent_anew_with_the_new_policy_and_its_places() {
    let mut network = lecture();
    let before = network.nodes[0].core.residency();
    let mut moved = documents();
    let oslo = moved.directory.nodes.iter_mut().find(|node| node.id == "osl-1").unwrap();
    (oslo.site, oslo.region, oslo.country) = ("Helsinki".into(), "fi-helsinki".into(), "FI".into());
    moved.directory.version = 2;
    network.replace_policy(0, &moved);
    let after = network.nodes[0].core.residency();
    assert_eq!(network.nodes[0].core.sent_residency.as_ref(), Some(&after));
    let policy = |residency: &Residency| residency.policy.clone().unwrap();
    assert_ne!(policy(&before).hash, policy(&after).hash);
    assert_eq!(policy(&after).hash.len(), 64);
    let node = after.nodes.iter().find(|node| node.node == "osl-1").unwrap();
    assert_eq!((node.country.as_str(), node.declared_by.as_str()), ("FI", "nordunet"));
    assert_eq!(node.directory_version, Some(2));
    let clients = &network.nodes[0].clients;
    let anna = clients.values().find(|client| client.identity == "anna").unwrap();
    assert_eq!(anna.countries.get("chen").map(String::as_str), Some("FI"));
}
