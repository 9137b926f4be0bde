//! Texts that are refused, and what their authors are told.

use super::*;

/// The complaints about ku.dk's policy `text`.
fn refused(text: &str) -> String {
    match load(demo::FLOOR, text, &demo_nodes()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

/// A permit of home with this condition.
fn home_when(condition: &str) -> String {
    format!(
        "@id(\"r\") @why(\"w\") permit (principal in Institution::\"ku.dk\", action == Action::\"home\", resource) \
         when {{ {condition} }};"
    )
}

#[test]
fn a_typo_is_refused_with_what_is_wrong() {
    let table = [
        (
            r#"resource.country == Country::"Denmark""#,
            "Country::\"Denmark\" is not an ISO 3166-1 alpha-2 country",
        ),
        (r#"[Country::"DK", Country::"dk"].contains(resource.country)"#, "Country::\"dk\" is not"),
        (r#"resource.operator == Operator::"nordnet""#, "is no operator that the nodes file knows"),
        (r#"resource.host == Host::"amazone""#, "is no host that the nodes file knows"),
        (r#"resource == Node::"cph-9""#, "is no node of the nodes file"),
        (r#"principal in Institution::"dtu.dk""#, "is no institution that is known here"),
        (r#"principal == Room::"board""#, "cannot be named"),
        (r#"resource.country in Zone::"EAA""#, "there is no zone [\"EAA\"]"),
        (r#"resource.county == Country::"DK""#, "county"),
        (r#"resource.country == "DK""#, "r:"),
        (r#"resource.region == "dk-copenhagen""#, "region"),
        (r#"resource.country == Zone::"EEA""#, "r:"),
        (r#"resource.host == resource.operator"#, "r:"),
        (r#"principal.class == RoomClass::"secret""#, "secret"),
        (r#"resource.country == Land::"DK""#, "Land"),
        (r#"resource.own_machine && false"#, "r:"),
        (r#"resource.own_machine"#, ""),
    ];
    for (condition, complaint) in table {
        if complaint.is_empty() {
            load(demo::FLOOR, &home_when(condition), &demo_nodes()).unwrap();
            continue;
        }
        let told = refused(&home_when(condition));
        assert!(told.contains(complaint), "{condition}: {told}");
    }
}

#[test]
fn a_rule_says_who_it_is_and_why() {
    let scope = r#"(principal in Institution::"ku.dk", action == Action::"home", resource)"#;
    let forbid = r#"(principal, action == Action::"home", resource)"#;
    let table = [
        (format!("@why(\"w\") permit {scope};"), "needs an @id"),
        (format!("@id(\"Not An Id\") @why(\"w\") permit {scope};"), "needs an @id"),
        (format!("@id(\"\") @why(\"w\") permit {scope};"), "needs an @id"),
        (format!("@id(\"r\") permit {scope};"), "needs a @why"),
        (format!("@id(\"r\") @why(\" \") permit {scope};"), "@why is empty"),
        (format!("@id(\"r\") @why(\"of {{hots}}\") permit {scope};"), "quotes {hots}"),
        (format!("@id(\"r\") @why(\"of {{host\") permit {scope};"), "without a '}'"),
        (format!("@id(\"r\") @why(\"of {{participant_institution}}\") permit {scope};"), "not every action"),
        (format!("@id(\"r\") @why(\"w\") @teir(\"1\") permit {scope};"), "@teir is not known"),
        (
            format!("@id(\"r\") @why(\"w\") @tier(\"1\") permit {scope};"),
            "@tier is for rules that permit spill",
        ),
        (
            format!("@id(\"r\") @why(\"w\") @tier(\"1\") forbid {forbid};"),
            "@tier is for rules that permit spill",
        ),
        (format!("@id(\"r\") @why(\"w\") permit {};", scope.replace("home", "spill")), "needs a @tier"),
        (
            format!("@id(\"r\") @why(\"w\") @tier(\"first\") permit {};", scope.replace("home", "spill")),
            "is not a number",
        ),
        (
            format!("@id(\"r\") @why(\"w\") permit {scope}; @id(\"r\") @why(\"w\") forbid {forbid};"),
            "already",
        ),
        (
            format!("@id(\"floor-declared-by-its-operator\") @why(\"w\") permit {scope};"),
            "another rule has this @id",
        ),
    ];
    for (text, complaint) in table {
        let told = refused(&text);
        assert!(told.contains(complaint), "{text}: {told}");
    }
}

#[test]
fn a_permit_gives_away_no_more_than_it_says() {
    let permit = |scope: &str| format!("@id(\"r\") @why(\"w\") @tier(\"1\") permit ({scope});");
    let ku = r#"principal in Institution::"ku.dk""#;
    let table = [
        (
            permit("principal, action == Action::\"spill\", resource"),
            "it is about the institution's own rooms",
        ),
        (permit(&format!("{ku}, action, resource")), "one by one"),
        (permit(&format!("{ku}, action in Action::\"on-node\", resource")), "one by one"),
        (
            permit(&format!("{ku}, action in [Action::\"spill\", Action::\"on-node\"], resource")),
            "one by one",
        ),
        (home_when("context.e2ee"), "claims can only forbid"),
        (home_when("context has load_percent && context.load_percent < 80"), "claims can only forbid"),
        (home_when("resource.own_machine } unless { !context.e2ee"), "claims can only forbid"),
    ];
    for (text, complaint) in table {
        let told = refused(&text);
        assert!(told.contains(complaint), "{text}: {told}");
    }
}

#[test]
fn the_floor_cannot_permit() {
    let told = load(demo::KU_DK, "", &demo_nodes()).unwrap_err().to_string();
    assert!(told.contains("floor line 3: rule ku-home-denmark: the floor only forbids"), "{told}");
}

#[test]
fn every_fault_is_told_at_once_and_where() {
    let text = format!("{}\n{}", home_when("context.e2ee"), "forbid (principal, action, resource);");
    let error = load(demo::FLOOR, &text, &demo_nodes()).unwrap_err();
    let told: Vec<_> = error.problems.iter().map(|p| (p.place.as_str(), p.rule.as_deref())).collect();
    assert_eq!(told, [("ku.dk", Some("r")), ("ku.dk", Some("number 2")), ("ku.dk", Some("number 2"))]);
}

#[test]
fn templates_and_odd_institutions_are_refused() {
    let template = "@id(\"r\") @why(\"w\") forbid (principal in ?principal, action, resource);";
    assert!(refused(template).contains("templates"));
    let institution = |institution| InstitutionPolicy { institution, version: 1, text: "" };
    for institutions in [vec![institution("ku.dk\"")], vec![institution("")], vec![institution("ku.dk"); 2]] {
        let zones = Zones::default();
        let sources = Sources { floor: "", institutions: &institutions, zones: &zones, nodes: &demo_nodes() };
        assert!(Gate::load(&sources).is_err(), "{institutions:?}");
    }
}

#[test]
fn a_text_that_would_exhaust_the_parser_is_refused() {
    let owned = |times| home_when(&vec!["resource.own_machine"; times].join(" && "));
    let countries = vec!["Country::\"DK\""; 300].join(", ");
    for text in [
        home_when(&format!("{}true{}", "(".repeat(33), ")".repeat(33))),
        owned(80),
        home_when(&format!("resource.country in [{countries}]")),
    ] {
        assert!(refused(&text).contains("a rule has more than"), "{text}");
    }
    let big = format!("// {}\n", "x".repeat(70_000));
    assert!(refused(&big).contains("at most 65536 are read"));
    load(demo::FLOOR, &owned(60), &demo_nodes()).unwrap();
}

#[test]
fn the_deepest_rule_that_is_read_never_runs_out_of_a_threads_stack() {
    for condition in [
        format!("resource{}", ".x".repeat(190)),
        format!("{}true", "if true then true else ".repeat(190)),
        format!("{}1{}", "[".repeat(30), "]".repeat(30)),
        format!("1{} > 0", " + 1".repeat(190)),
        format!("{}true", "!".repeat(190)),
    ] {
        match load(demo::FLOOR, &home_when(&condition), &demo_nodes()) {
            Ok(gate) => {
                let decision = planned(&gate, &demo_nodes(), Action::Home, "cph-1");
                assert!(decision.allowed, "{}: {condition}", decision.why);
            }
            Err(error) => {
                let told = error.to_string();
                assert!(!told.contains("a rule has more than"), "it never came to Cedar: {condition}");
            }
        }
    }
}

#[test]
fn a_nodes_file_that_contradicts_itself_is_refused() {
    let told = |nodes: Vec<NodeFacts>| Nodes::new(nodes, Default::default()).unwrap_err().to_string();
    assert!(told(vec![own("a", "DK"), own("a", "SE")]).contains("two nodes have the id"));
    let same = NodeFacts { spiffe_id: own("a", "DK").spiffe_id, ..own("b", "DK") };
    assert!(told(vec![own("a", "DK"), same]).contains("same SPIFFE id"));
    assert!(told(vec![own("a", "Denmark")]).contains("write \"DK\", not \"Denmark\""));
    assert!(told(vec![own("", "DK")]).contains("the id \"\""));
    let moved = NodeFacts { host_controlled_from: "US".into(), ..own("b", "DK") };
    assert!(told(vec![own("a", "DK"), moved]).contains("nordunet is controlled from DK and from US"));
    for wrong in ["[[node]]\nid = \"a\"\nload = 3", "nodes = 1", "[[node]]\nid = 1"] {
        assert!(Nodes::parse(wrong).is_err(), "{wrong}");
    }
}
