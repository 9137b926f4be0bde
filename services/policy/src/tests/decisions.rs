//! Decisions: the result, the deciding rule and the sentence.

use super::*;
use systir_reason::Reason;

use crate::{KnownNames, NodeAttribute, ProvenIdentity, RuleEffect};

#[test]
fn decisions_on_the_demo_nodes() {
    use Action::*;
    use Reason::{Allowed, Forbidden, NoRule};
    let nodes = demo_nodes();
    let engine = demo::engine(&nodes).unwrap();
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
        let decision = decide_planned(&engine, &nodes, action, node);
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
    let known = KnownNames { institutions: ["lu.se".to_owned()].into(), ..Default::default() };
    let nodes = Nodes::new(vec![own_node("cph-1", "DK")], known).unwrap();
    let engine = demo::engine(&nodes).unwrap();
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
fn an_institution_without_policy_is_denied() {
    let nodes = demo_nodes();
    let engine = demo::engine(&nodes).unwrap();
    let request = Request {
        institution: "dtu.dk",
        ..on_node(Action::Home, nodes.evidence("cph-1", IdentityProof::Local))
    };
    let decision = engine.decide(&request);
    assert!(!decision.allowed);
    assert_eq!(decision.reason, Reason::UnknownInstitution);
    assert_eq!(decision.why, "the institution dtu.dk has no policy here");
    assert_eq!(decision.policy_version, None);
}

#[test]
fn a_node_that_is_not_in_the_nodes_file_is_denied_everything() {
    let nodes = demo_nodes();
    let engine = demo::engine(&nodes).unwrap();
    for action in Action::ALL.into_iter().filter(|action| action.is_on_node()) {
        let decision = decide_planned(&engine, &nodes, action, "cph-9");
        assert_eq!(decision.reason, Reason::UnknownNode);
        assert_eq!(decision.why, "the node cph-9 is not in this operator's nodes file");
    }
    // Evidence from another nodes file does not help either when its operator is unknown to this engine.
    let other_file = nodes_file([NodeFacts { operator: "evil".into(), ..own_node("cph-9", "DK") }]);
    let decision = decide_planned(&engine, &other_file, Action::Home, "cph-9");
    assert_eq!(decision.reason, Reason::UnknownEntity);
    assert_eq!(decision.why, "cph-9 states the operator \"evil\", which is not known here");
}

#[test]
fn a_node_with_any_missing_attribute_is_denied() {
    for attribute in NodeAttribute::ALL.into_iter().filter(|attribute| *attribute != NodeAttribute::Id) {
        let mut facts = own_node("cph-1", "DK");
        let field = match attribute {
            NodeAttribute::Id => &mut facts.id,
            NodeAttribute::SpiffeId => &mut facts.spiffe_id,
            NodeAttribute::Site => &mut facts.site,
            NodeAttribute::Region => &mut facts.region,
            NodeAttribute::Country => &mut facts.country,
            NodeAttribute::Operator => &mut facts.operator,
            NodeAttribute::OperatorControlledFrom => &mut facts.operator_controlled_from,
            NodeAttribute::Host => &mut facts.host,
            NodeAttribute::HostControlledFrom => &mut facts.host_controlled_from,
            NodeAttribute::DeclaredBy => &mut facts.declared_by,
        };
        field.clear();
        let nodes = nodes_file([facts, own_node("cph-2", "DK")]);
        let engine = demo::engine(&nodes).unwrap();
        assert!(decide_planned(&engine, &nodes, Action::Home, "cph-2").allowed);
        let decision = decide_planned(&engine, &nodes, Action::Home, "cph-1");
        assert!(!decision.allowed);
        assert_eq!(decision.reason, Reason::MissingAttribute);
        assert_eq!(decision.why, format!("the nodes file does not state {} of cph-1", attribute.as_str()));
        let incomplete: Vec<_> = nodes.incomplete().map(|(facts, missing)| (&*facts.id, missing)).collect();
        assert_eq!(incomplete, [("cph-1", attribute)]);
    }
}

#[test]
fn a_peer_is_identified_by_its_certificate_alone() {
    let nodes = demo_nodes();
    let engine = demo::engine(&nodes).unwrap();
    let peer =
        |spiffe: &str, domain: &str| ProvenIdentity { spiffe_id: spiffe.into(), trust_domain: domain.into() };

    let sto_1 = peer("spiffe://nordu.net/relay/sto-1", "nordu.net");
    let decision = engine.decide(&on_node(Action::Spill, nodes.evidence_of_peer(&sto_1)));
    assert!(decision.allowed, "{decision:?}");

    // The node on the leased machine claims to be sto-1.
    let leased = peer("spiffe://nordu.net/relay/aws-sto-1", "nordu.net");
    let decision =
        engine.decide(&on_node(Action::Spill, nodes.evidence("sto-1", IdentityProof::Proven(&leased))));
    assert_eq!(decision.reason, Reason::IdentityMismatch);
    assert_eq!(
        engine.decide(&on_node(Action::Spill, nodes.evidence_of_peer(&leased))).reason,
        Reason::Forbidden
    );

    // The CA of another trust domain issued a certificate with sto-1's URI, and that domain's roots verified it.
    for domain in ["sunet.se", "nordu", "", "nordu.net/relay"] {
        let forged = peer("spiffe://nordu.net/relay/sto-1", domain);
        let decision = engine.decide(&on_node(Action::Spill, nodes.evidence_of_peer(&forged)));
        assert_eq!(decision.reason, Reason::IdentityMismatch, "{domain}");
    }

    let unknown = peer("spiffe://evil.example/relay/sto-1", "evil.example");
    let decision = engine.decide(&on_node(Action::Spill, nodes.evidence_of_peer(&unknown)));
    assert_eq!(decision.reason, Reason::UnknownNode);
}

#[test]
fn an_action_with_the_wrong_kind_of_subject_is_denied() {
    let nodes = demo_nodes();
    let engine = demo::engine(&nodes).unwrap();
    for action in Action::ALL {
        let request = if action.is_on_node() {
            by_participant(action, "ku.dk")
        } else {
            on_node(action, nodes.evidence("cph-1", IdentityProof::Local))
        };
        assert_eq!(engine.decide(&request).reason, Reason::WrongSubject, "{action}");
    }
}

#[test]
fn a_forbid_that_fails_to_evaluate_denies_what_a_permit_allows() {
    let nodes = demo_nodes();
    let failing = format!(
        "{}\n@id(\"overflows\") @why(\"too loaded\") forbid (principal, action == Action::\"home\", resource) \
         when {{ context has load_percent && context.load_percent * 9223372036854775807 > 0 }};",
        demo::KU_DK
    );
    let engine = load(demo::FLOOR, &failing, &nodes).unwrap();
    assert!(decide_planned(&engine, &nodes, Action::Home, "cph-1").allowed);
    let mut request = on_node(Action::Home, nodes.evidence("cph-1", IdentityProof::Local));
    request.claims.load_percent = Some(90);
    let decision = engine.decide(&request);
    assert!(!decision.allowed);
    assert_eq!(decision.reason, Reason::EvaluationError);
    assert_eq!(decision.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>(), ["overflows"]);
    assert_eq!(decision.why, "a rule could not be evaluated (overflows), so nothing is allowed");
}

#[test]
fn the_floor_overrides_every_permit() {
    let generous = "@id(\"all\") @why(\"anything\") @tier(\"9\") permit (principal in Institution::\"ku.dk\", \
                    action in [Action::\"spill\", Action::\"record\"], resource);";
    let declared_by_other =
        NodeFacts { operator: "sunet".into(), host: "sunet".into(), ..own_node("lund-1", "SE") };
    let nodes =
        nodes_file([own_node("cph-1", "DK"), leased_node("hel-1", "FI", "upcloud", "FI"), declared_by_other]);
    let engine = load(demo::FLOOR, generous, &nodes).unwrap();

    let decision = decide_planned(&engine, &nodes, Action::Spill, "lund-1");
    assert_eq!(decision.why, "the attributes of lund-1 were declared by nordunet, but sunet runs it");

    assert!(decide_planned(&engine, &nodes, Action::Spill, "hel-1").allowed);
    let spill = on_node(Action::Spill, nodes.evidence("hel-1", IdentityProof::Local));
    let decision = engine.decide(&Request { room: CONFIDENTIAL, ..spill });
    assert_eq!(decision.reason, Reason::Forbidden);
    assert_eq!(decision.why, "the room is confidential and the machine is owned by upcloud, not by nordunet");
    let own_machine = on_node(Action::Spill, nodes.evidence("cph-1", IdentityProof::Local));
    assert!(engine.decide(&Request { room: CONFIDENTIAL, ..own_machine }).allowed);

    let record = on_node(Action::Record, nodes.evidence("cph-1", IdentityProof::Local));
    assert!(engine.decide(&record).allowed);
    let encrypted = Request { claims: Claims { e2ee: true, load_percent: None }, ..record };
    assert_eq!(engine.decide(&encrypted).reason, Reason::Forbidden);
}

#[test]
fn a_denial_lists_every_forbid_that_applies() {
    let far = NodeFacts {
        operator: "aws".into(),
        operator_controlled_from: "US".into(),
        declared_by: "aws".into(),
        ..leased_node("iad-1", "US", "amazon", "US")
    };
    let nodes = nodes_file([own_node("cph-1", "DK"), far]);
    let engine = demo::engine(&nodes).unwrap();
    let decision = decide_planned(&engine, &nodes, Action::Spill, "iad-1");
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
    let nodes = nodes_file([
        own_node("ams-1", "NL"),
        leased_node("aws-sto-1", "SE", "amazon", "US"),
        own_node("sto-1", "SE"),
        own_node("osl-1", "NO"),
        own_node("zrh-1", "CH"),
    ]);
    let engine = load(demo::FLOOR, policy, &nodes).unwrap();
    let tiers = ["aws-sto-1", "ams-1", "zrh-1", "osl-1", "sto-1", "unknown-1"].map(|id| {
        let decision = decide_planned(&engine, &nodes, Action::Spill, id);
        (id, decision.allowed, decision.tier.filter(|_| decision.allowed))
    });
    let approved: Vec<_> =
        tiers.iter().filter(|(_, allowed, _)| *allowed).map(|(id, _, tier)| (*id, *tier)).collect();
    assert_eq!(approved, [("ams-1", Some(2)), ("osl-1", Some(1)), ("sto-1", Some(1))]);
    // Both rules permit osl-1; the lower tier gives tier and sentence.
    let decision = decide_planned(&engine, &nodes, Action::Spill, "osl-1");
    assert_eq!(decision.why, "in the Nordics");
    assert_eq!(decision.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>(), ["near", "far"]);
}

#[test]
fn evidence_from_a_newer_nodes_file_is_decided_on_its_own_facts() {
    // A engine loaded before cph-2 was in the file decides on the evidence, not on its prebuilt entities.
    let engine = demo::engine(&demo_nodes()).unwrap();
    let moved =
        nodes_file([NodeFacts { country: "SE".into(), ..own_node("cph-1", "DK") }, own_node("cph-2", "DK")]);
    assert!(decide_planned(&engine, &moved, Action::Home, "cph-2").allowed);
    assert_eq!(decide_planned(&engine, &moved, Action::Home, "cph-1").reason, Reason::NoRule);
}

#[test]
fn the_version_hash_covers_floor_policy_and_zones() {
    let nodes = demo_nodes();
    let version = |floor: &str, text: &str, zones: &str| {
        let engine = PolicyEngine::load(&Sources {
            floor,
            institutions: &[InstitutionPolicy { institution: "ku.dk", version: 7, text }],
            zones: &Zones::parse(zones).unwrap(),
            nodes: &nodes,
        });
        engine.unwrap().text("ku.dk").unwrap().version.clone()
    };
    let first = version(demo::FLOOR, demo::KU_DK, demo::ZONES);
    assert_eq!(first, version(demo::FLOOR, demo::KU_DK, demo::ZONES));
    assert_eq!(first.to_string(), format!("7-{}", first.hash));
    assert_eq!(first.hash.len(), 16);
    let others = [
        version("", demo::KU_DK, demo::ZONES),
        version(demo::FLOOR, &demo::KU_DK.replace("own machine in Denmark", "machine"), demo::ZONES),
        version(demo::FLOOR, demo::KU_DK, &demo::ZONES.replace("\"NO\", \"SE\"]", "\"SE\"]")),
    ];
    for other in others {
        assert_ne!(first.hash, other.hash);
    }
    let engine = demo::engine(&nodes).unwrap();
    let shown = engine.text("ku.dk").unwrap();
    assert!(
        shown.institution.contains(r#"resource.country in [Country::"DK", Country::"FI", Country::"IS""#)
    );
    assert!(!shown.institution.contains("Zone::"));
}

#[test]
fn the_rules_can_be_listed_from_any_thread() {
    let nodes = demo_nodes();
    let engine = demo::engine(&nodes).unwrap();
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
