//! Decisions: the result, the deciding rule and the sentence.

use super::*;
use systir_reason::Reason;

use systir_identity::ProvenIdentity;

use crate::{NodeAttribute, RuleEffect};

#[test]
fn decisions_on_the_demo_nodes() {
    use Action::*;
    use Reason::{Allowed, Forbidden, NoRule};
    let engine = demo_engine();
    let us_controlled = "the machine is owned by amazon, controlled from US";
    let spill = "sto-1 is nordunet's own machine in the Nordic countries (SE)";
    let table = [
        (Home, "cph-1", Allowed, "ku-home-denmark", "cph-1 is nordunet's own machine in Denmark"),
        (Home, "sto-1", NoRule, "", "no rule of ku.dk permits home on sto-1 (nordunet's own machine in SE)"),
        (Home, "aws-sto-1", Forbidden, "ku-host-controlled-from-eea", us_controlled),
        (Spill, "sto-1", Allowed, "ku-spill-nordic", spill),
        (Spill, "aws-sto-1", Forbidden, "ku-host-controlled-from-eea", us_controlled),
        (Transit, "sto-1", Allowed, "ku-spill-nordic", spill),
        (Transit, "aws-sto-1", Forbidden, "ku-host-controlled-from-eea", us_controlled),
        (
            RelaySignal,
            "cph-1",
            Allowed,
            "ku-gateway",
            "cph-1 belongs to nordunet's own cluster and may carry the room itself",
        ),
        (RelaySignal, "aws-sto-1", Forbidden, "ku-host-controlled-from-eea", us_controlled),
        (
            Record,
            "cph-1",
            NoRule,
            "",
            "no rule of ku.dk permits record on cph-1 (nordunet's own machine in DK)",
        ),
        (
            Transcribe,
            "cph-1",
            NoRule,
            "",
            "no rule of ku.dk permits transcribe on cph-1 (nordunet's own machine in DK)",
        ),
        (Turn, "cph-1", NoRule, "", "no rule of ku.dk permits turn on cph-1 (nordunet's own machine in DK)"),
        (
            Telemetry,
            "cph-1",
            NoRule,
            "",
            "no rule of ku.dk permits telemetry on cph-1 (nordunet's own machine in DK)",
        ),
        (
            Webhook,
            "cph-1",
            NoRule,
            "",
            "no rule of ku.dk permits webhook on cph-1 (nordunet's own machine in DK)",
        ),
    ];
    for (action, node, reason, rule, why) in table {
        let decision = decide_planned(&engine, action, node);
        let rules: Vec<_> = decision.rules.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(decision.reason, reason, "{action} {node}: {}", decision.why);
        assert_eq!(decision.allowed, reason == Allowed, "{action} {node}");
        assert_eq!(rules.join(" "), rule, "{action} {node}");
        assert_eq!(decision.why, why, "{action} {node}");
        assert_eq!(decision.policy_version.unwrap().number, 1);
    }
}

#[test]
fn participants_of_the_institution_may_join_and_others_may_not() {
    let mut documents = demo_documents();
    documents.bundle.vocabulary.institutions.insert("lu.se".to_owned());
    let engine = load(&documents).unwrap();
    let decision = engine.decide(&by_participant(Action::Join, "ku.dk"));
    assert!(decision.allowed, "{decision:?}");
    assert_eq!(decision.why, "the token was signed with a key of ku.dk");
    assert!(engine.decide(&by_participant(Action::Administer, "ku.dk")).allowed);

    let decision = engine.decide(&by_participant(Action::Join, "lu.se"));
    assert_eq!(decision.reason, Reason::NoRule);
    assert_eq!(decision.why, "no rule of ku.dk permits join to participants of lu.se");
    let decision = engine.decide(&by_participant(Action::Join, "unknown.example"));
    assert_eq!(decision.reason, Reason::UnknownInstitution);
}

#[test]
fn a_hidden_participant_or_a_recorder_needs_a_permit_of_its_own() {
    let engine = demo_engine();
    assert!(engine.decide(&by_participant(Action::JoinHidden, "ku.dk")).allowed);
    let in_exam = Request { room: CONFIDENTIAL, ..by_participant(Action::JoinHidden, "ku.dk") };
    let decision = engine.decide(&in_exam);
    assert_eq!(decision.reason, Reason::NoRule);
    assert_eq!(decision.why, "no rule of ku.dk permits join-hidden to participants of ku.dk");
    assert!(engine.decide(&Request { room: CONFIDENTIAL, ..by_participant(Action::Join, "ku.dk") }).allowed);
    assert_eq!(engine.decide(&by_participant(Action::JoinRecorder, "ku.dk")).reason, Reason::NoRule);
}

#[test]
fn an_institution_without_policy_is_denied() {
    let decision = demo_engine()
        .decide(&Request { institution: "dtu.dk", ..request(Action::Home, Subject::Node("cph-1")) });
    assert!(!decision.allowed);
    assert_eq!(decision.reason, Reason::UnknownInstitution);
    assert_eq!(decision.why, "the institution dtu.dk has no policy here");
    assert_eq!(decision.policy_version, None);
}

#[test]
fn a_node_that_no_directory_lists_is_denied_everything() {
    let engine = demo_engine();
    for action in Action::ALL.into_iter().filter(|action| action.is_on_node()) {
        let decision = decide_planned(&engine, action, "cph-9");
        assert_eq!(decision.reason, Reason::UnknownNode);
        assert_eq!(decision.why, "no directory lists the node cph-9");
    }
}

#[test]
fn a_node_whose_operator_or_host_the_bundle_does_not_know_is_denied_everything() {
    let mut documents = demo_documents();
    documents.directory.nodes.push(leased_node("osl-1", "NO", "uninett", "NO"));
    let lund = directory_of_sunet([own_node("lund-1", "SE")]);
    let engine = load_all(&documents.floor, &[&documents.bundle], &[&documents.directory, &lund]).unwrap();
    for (node, why) in [
        ("osl-1", "osl-1 has the host \"uninett\", which the policy of ku.dk does not know"),
        ("lund-1", "lund-1 has the operator \"sunet\", which the policy of ku.dk does not know"),
    ] {
        for action in Action::ALL.into_iter().filter(|action| action.is_on_node()) {
            let decision = decide_planned(&engine, action, node);
            assert_eq!((decision.reason, decision.why.as_str()), (Reason::UnknownEntity, why));
        }
    }
}

#[test]
fn a_node_with_any_missing_attribute_is_denied() {
    type Clear = fn(&mut DirectoryNode);
    let cleared: [(NodeAttribute, Clear); 6] = [
        (NodeAttribute::SpiffeId, |node| node.spiffe_id.clear()),
        (NodeAttribute::Site, |node| node.site.clear()),
        (NodeAttribute::Region, |node| node.region.clear()),
        (NodeAttribute::Country, |node| node.country.clear()),
        (NodeAttribute::Host, |node| node.host.clear()),
        (NodeAttribute::HostControlledFrom, |node| node.host_controlled_from.clear()),
    ];
    for (attribute, clear) in cleared {
        let mut incomplete = own_node("cph-1", "DK");
        clear(&mut incomplete);
        let engine = load(&with_nodes([incomplete, own_node("cph-2", "DK")])).unwrap();
        assert!(decide_planned(&engine, Action::Home, "cph-2").allowed);
        let decision = decide_planned(&engine, Action::Home, "cph-1");
        assert!(!decision.allowed);
        assert_eq!(decision.reason, Reason::MissingAttribute);
        let why = format!("the directory of nordunet does not state {} of cph-1", attribute.as_str());
        assert_eq!(decision.why, why);
        let incomplete: Vec<_> = engine.incomplete().map(|facts| facts.id.as_str()).collect();
        assert_eq!(incomplete, ["cph-1"]);
    }
    let mut documents = demo_documents();
    documents.directory.controlled_from.clear();
    let decision = decide_planned(&load(&documents).unwrap(), Action::Home, "cph-1");
    assert_eq!(decision.reason, Reason::MissingAttribute);
}

fn peer(id: &str, key: PublicKey) -> ProvenIdentity {
    ProvenIdentity::for_tests(id.parse().unwrap(), key, now())
}

#[test]
fn a_peer_is_identified_by_its_certificate_and_its_node_key_alone() {
    let lund = directory_of_sunet([own_node("lund-1", "SE")]);
    let DemoDocuments { floor, bundle, directory } = demo_documents();
    let engine = load_all(&floor, &[&bundle], &[&directory, &lund]).unwrap();
    let decide = |peer: &ProvenIdentity, now| {
        engine.decide(&request(Action::Spill, Subject::Peer { identity: peer, now }))
    };
    let sto_1 = peer("spiffe://nordu.net/relay/sto-1", key_of("sto-1"));
    assert!(decide(&sto_1, now()).allowed);

    let leased = peer("spiffe://nordu.net/relay/aws-sto-1", key_of("aws-sto-1"));
    assert_eq!(decide(&leased, now()).reason, Reason::Forbidden);

    // Whoever can issue certificates of the trust domain still lacks the node key.
    let forged = peer("spiffe://nordu.net/relay/sto-1", key_of("aws-sto-1"));
    let decision = decide(&forged, now());
    assert_eq!(decision.reason, Reason::IdentityMismatch);
    assert_eq!(
        decision.why,
        format!(
            "the peer proved the SPIFFE id of sto-1 with the node key {}, which the directory of nordunet does not \
             list for it",
            key_of("aws-sto-1").fingerprint()
        )
    );
    // A key that is listed, but for a node of another operator.
    let other = peer("spiffe://nordu.net/relay/sto-1", key_of("lund-1"));
    assert_eq!(decide(&other, now()).reason, Reason::IdentityMismatch);

    let unknown = peer("spiffe://evil.example/relay/sto-1", key_of("sto-1"));
    assert_eq!(decide(&unknown, now()).reason, Reason::UnknownNode);

    let decision = decide(&sto_1, now() + Duration::from_secs(1));
    assert_eq!(decision.reason, Reason::CertificateExpired);
    assert_eq!(decision.why, "the certificate with which sto-1 proved its identity has expired");
}

#[test]
fn both_node_keys_prove_a_node_while_one_replaces_the_other() {
    let mut renewed = own_node("cph-2", "DK");
    renewed.keys.push(key_of("cph-2 renewed"));
    let engine = load(&with_nodes([renewed])).unwrap();
    for key in ["cph-2", "cph-2 renewed"] {
        let peer = peer("spiffe://nordu.net/relay/cph-2", key_of(key));
        let decision = engine.decide(&request(Action::Home, Subject::Peer { identity: &peer, now: now() }));
        assert!(decision.allowed, "{key}: {}", decision.why);
    }
}

#[test]
fn an_action_with_the_wrong_kind_of_subject_is_denied() {
    let engine = demo_engine();
    for action in Action::ALL {
        let request = if action.is_on_node() {
            by_participant(action, "ku.dk")
        } else {
            request(action, Subject::Node("cph-1"))
        };
        assert_eq!(engine.decide(&request).reason, Reason::WrongSubject, "{action}");
    }
}

#[test]
fn a_forbid_that_fails_to_evaluate_denies_what_a_permit_allows() {
    let failing = format!(
        "{}\n@id(\"overflows\") @why(\"too loaded\") forbid (principal, action == Action::\"home\", resource) \
         when {{ context has load_percent && context.load_percent * 9223372036854775807 > 0 }};",
        demo::KU_DK
    );
    let engine = load(&with_policy(&failing)).unwrap();
    assert!(decide_planned(&engine, Action::Home, "cph-1").allowed);
    let mut request = request(Action::Home, Subject::Node("cph-1"));
    request.claims.load_percent = Some(90);
    let decision = engine.decide(&request);
    assert!(!decision.allowed);
    assert_eq!(decision.reason, Reason::EvaluationError);
    assert_eq!(rules_of(&decision), ["overflows"]);
    assert_eq!(decision.why, "a rule could not be evaluated (overflows), so nothing is allowed");
}

#[test]
fn the_floor_overrides_every_permit() {
    let generous = "@id(\"all\") @why(\"anything\") @tier(\"9\") permit (principal in Institution::\"ku.dk\", \
                    action in [Action::\"spill\", Action::\"record\"], resource);";
    let mut documents = with_nodes([own_node("cph-1", "DK"), leased_node("hel-1", "FI", "upcloud", "FI")]);
    documents.bundle.policy = generous.to_owned();
    let engine = load(&documents).unwrap();

    assert!(decide_planned(&engine, Action::Spill, "hel-1").allowed);
    let spill = request(Action::Spill, Subject::Node("hel-1"));
    let decision = engine.decide(&Request { room: CONFIDENTIAL, ..spill });
    assert_eq!(decision.reason, Reason::Forbidden);
    assert_eq!(decision.why, "the room is confidential and the machine is owned by upcloud, not by nordunet");
    let own_machine = request(Action::Spill, Subject::Node("cph-1"));
    assert!(engine.decide(&Request { room: CONFIDENTIAL, ..own_machine }).allowed);

    let record = request(Action::Record, Subject::Node("cph-1"));
    assert!(engine.decide(&record).allowed);
    let claimed = Request { claims: Claims { e2ee: true, load_percent: None }, ..record };
    assert_eq!(engine.decide(&claimed).reason, Reason::Forbidden);
    let required = Request { room: ENCRYPTED, ..record };
    assert_eq!(rules_of(&engine.decide(&required)), ["floor-no-recording-of-encrypted-rooms"]);
}

#[test]
fn a_denial_lists_every_forbid_that_applies() {
    let mut documents = with_nodes([leased_node("iad-1", "US", "amazon", "US")]);
    documents.directory.operator = "aws".into();
    documents.directory.controlled_from = "US".into();
    documents.bundle.vocabulary.operators.insert("aws".into());
    let decision = decide_planned(&load(&documents).unwrap(), Action::Spill, "iad-1");
    assert_eq!(
        decision.why,
        "the machine is owned by amazon, controlled from US; iad-1 is run by aws, controlled from US"
    );
    assert_eq!(decision.rules.len(), 2);
}

#[test]
fn spill_tiers_follow_the_policy_and_the_cloud_is_never_approved() {
    let policy = "
        @id(\"far\") @tier(\"2\") @why(\"in the EEA\")
        permit (principal in Institution::\"ku.dk\", action == Action::\"spill\", resource)
        when { resource.country in Zone::\"EEA\" && resource.own_machine };
        @id(\"near\") @tier(\"1\") @why(\"in the Nordics\")
        permit (principal in Institution::\"ku.dk\", action == Action::\"spill\", resource)
        when { resource.country in Zone::\"Nordic\" && resource.own_machine };";
    let mut documents = with_nodes([
        own_node("ams-1", "NL"),
        leased_node("aws-sto-1", "SE", "amazon", "US"),
        own_node("sto-1", "SE"),
        own_node("osl-1", "NO"),
        own_node("zrh-1", "CH"),
    ]);
    documents.bundle.policy = policy.to_owned();
    let engine = load(&documents).unwrap();
    let tiers = ["aws-sto-1", "ams-1", "zrh-1", "osl-1", "sto-1", "unknown-1"].map(|id| {
        let decision = decide_planned(&engine, Action::Spill, id);
        (id, decision.allowed, decision.tier.filter(|_| decision.allowed))
    });
    let approved: Vec<_> =
        tiers.iter().filter(|(_, allowed, _)| *allowed).map(|(id, _, tier)| (*id, *tier)).collect();
    assert_eq!(approved, [("ams-1", Some(2)), ("osl-1", Some(1)), ("sto-1", Some(1))]);
    // Both rules permit osl-1; the lower tier gives tier and sentence.
    let decision = decide_planned(&engine, Action::Spill, "osl-1");
    assert_eq!(decision.why, "in the Nordics");
    assert_eq!(rules_of(&decision), ["near", "far"]);
}

#[test]
fn the_rules_can_be_listed_from_any_thread() {
    let engine = demo_engine();
    assert_eq!(engine.institutions().collect::<Vec<_>>(), ["ku.dk"]);
    fn shared(_: &(impl Send + Sync)) {}
    shared(&engine);
    let rules = engine.rules("ku.dk");
    assert_eq!(rules.first().unwrap().id.as_str(), "floor-declared-by-its-operator");
    assert_eq!(rules.last().unwrap().id.as_str(), "ku-administer");
    let spill = rules.iter().find(|rule| rule.id.as_str() == "ku-spill-nordic").unwrap();
    assert_eq!((spill.effect, spill.tier), (RuleEffect::Permit, Some(1)));
    assert_eq!(spill.actions, [Action::Spill, Action::Transit]);
    assert!(engine.rules("dtu.dk").is_empty());
}
