//! Texts that are refused, and the error that their authors see.

use systir_documents::Document;

use super::*;

/// The error for ku.dk's policy `text`.
fn load_error(text: &str) -> String {
    match load(&with_policy(text)) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

/// A rule that permits home under this condition.
fn home_when(condition: &str) -> String {
    format!(
        "@id(\"r\") @why(\"w\") permit (principal in Institution::\"ku.dk\", action == Action::\"home\", resource) \
         when {{ {condition} }};"
    )
}

#[test]
fn a_typo_is_refused_and_the_error_tells_what_is_wrong() {
    let table = [
        (
            r#"resource.country == Country::"Denmark""#,
            "Country::\"Denmark\" is not an ISO 3166-1 alpha-2 country",
        ),
        (r#"[Country::"DK", Country::"dk"].contains(resource.country)"#, "Country::\"dk\" is not"),
        (r#"resource.operator == Operator::"nordnet""#, "is not an operator of the document's vocabulary"),
        (r#"resource.host == Host::"amazone""#, "is not a host of the document's vocabulary"),
        (r#"resource == Node::"cph-9""#, "is not a node of the document's vocabulary"),
        (r#"principal in Institution::"dtu.dk""#, "is not an institution of the document's vocabulary"),
        (r#"principal == Room::"board""#, "cannot be named"),
        (r#"resource.country in Zone::"EAA""#, "its zones do not have [\"EAA\"]"),
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
    for (condition, expected) in table {
        if expected.is_empty() {
            load(&with_policy(&home_when(condition))).unwrap();
            continue;
        }
        let error = load_error(&home_when(condition));
        assert!(error.contains(expected), "{condition}: {error}");
    }
}

#[test]
fn a_rule_needs_an_id_a_sentence_and_for_spill_a_tier() {
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
    for (text, expected) in table {
        let error = load_error(&text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_permit_must_name_its_institution_and_actions_and_read_no_claims() {
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
    for (text, expected) in table {
        let error = load_error(&text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_floor_cannot_permit() {
    let mut documents = with_policy("");
    documents.floor.policy = demo::KU_DK.to_owned();
    documents.floor.zones = documents.bundle.zones.clone();
    let error = load(&documents).unwrap_err().to_string();
    let expected = "floor of nordunet, line 3 of its policy: rule ku-home-denmark: the floor only forbids";
    assert!(error.contains(expected), "{error}");
    assert!(PolicyEngine::check(&Document::Floor(documents.floor.clone())).is_err());
}

#[test]
fn the_error_lists_every_problem_with_its_place() {
    let text = format!("{}\n{}", home_when("context.e2ee"), "forbid (principal, action, resource);");
    let error = load(&with_policy(&text)).unwrap_err();
    assert!(error.problems.iter().all(|problem| problem.place == "bundle of ku.dk"));
    let places: Vec<_> = error.problems.iter().map(|p| (p.rule.as_deref().unwrap(), p.line)).collect();
    assert_eq!(places, [("r", 1), ("number 2", 2), ("number 2", 2)].map(|(rule, line)| (rule, Some(line))));
}

#[test]
fn templates_and_malformed_or_duplicate_institutions_are_refused() {
    let template = "@id(\"r\") @why(\"w\") forbid (principal in ?principal, action, resource);";
    assert!(load_error(template).contains("templates"));
    let DemoDocuments { floor, bundle, directory } = demo_documents();
    let error = load_all(&floor, &[&bundle, &bundle], &[&directory]).unwrap_err().to_string();
    assert!(error.contains("bundle of ku.dk: the institution has two bundles"), "{error}");
    for wrong in ["ku.dk\"", "", "ku dk"] {
        let mut named = Bundle { institution: wrong.to_owned(), policy: String::new(), ..bundle.clone() };
        assert!(load_all(&floor, &[&named], &[&directory]).is_err(), "{wrong}");
        named.institution = "ku.dk".to_owned();
        named.vocabulary.institutions.insert(wrong.to_owned());
        assert!(PolicyEngine::check(&Document::Bundle(named.clone())).is_err(), "{wrong}");
    }
}

#[test]
fn a_text_that_could_exhaust_the_parser_is_refused() {
    let owned = |times| home_when(&vec!["resource.own_machine"; times].join(" && "));
    let countries = vec!["Country::\"DK\""; 300].join(", ");
    for text in [
        home_when(&format!("{}true{}", "(".repeat(33), ")".repeat(33))),
        owned(80),
        home_when(&format!("resource.country in [{countries}]")),
    ] {
        assert!(load_error(&text).contains("a rule has more than"), "{text}");
    }
    let big = format!("// {}\n", "x".repeat(70_000));
    assert!(load_error(&big).contains("at most 65536 are allowed"));
    load(&with_policy(&owned(60))).unwrap();
}

#[test]
fn the_deepest_rule_within_the_bounds_does_not_overflow_the_stack() {
    for condition in [
        format!("resource{}", ".x".repeat(190)),
        format!("{}true", "if true then true else ".repeat(190)),
        format!("{}1{}", "[".repeat(30), "]".repeat(30)),
        format!("1{} > 0", " + 1".repeat(190)),
        format!("{}true", "!".repeat(190)),
    ] {
        match load(&with_policy(&home_when(&condition))) {
            Ok(engine) => {
                let decision = decide_planned(&engine, Action::Home, "cph-1");
                assert!(decision.allowed, "{}: {condition}", decision.why);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !error.contains("a rule has more than"),
                    "refused before Cedar parsed it: {condition}"
                );
            }
        }
    }
}
