//! Rules that read the time.

use std::sync::Arc;

use systir_reason::Reason;
use systir_room_tag::test_keys::{keys, room};

use super::*;
use crate::{Authority, PolicyTime};

/// Machines in Finland only on weekdays from 7 until before 13 UTC, in the winter of 2027; those in Norway never on
/// Sundays; those in Denmark always.
const HOURS: &str = r#"
@id("denmark") @tier("1") @why("{node} is in Denmark")
permit (principal in Institution::"ku.dk", action == Action::"spill", resource)
when { resource.country == Country::"DK" };

@id("finland") @tier("2") @why("{node} is in Finland, and it is a weekday") @hours("mon-fri 07:00-13:00 UTC")
permit (principal in Institution::"ku.dk", action == Action::"spill", resource)
when { resource.country == Country::"FI" && context.now < datetime("2027-03-28T01:00:00Z") }
unless {
  context.weekday in [Weekday::"sat", Weekday::"sun"] || context.now.toTime() < duration("7h") ||
  context.now.toTime() >= duration("13h")
};

@id("norway") @tier("3") @why("{node} is in Norway")
permit (principal in Institution::"ku.dk", action == Action::"spill", resource)
when { resource.country == Country::"NO" };

@id("no-sundays") @why("nothing goes to Norway on Sundays")
forbid (principal, action in Action::"on-node", resource)
when { resource.country == Country::"NO" && context.weekday == Weekday::"sun" };
"#;

fn documents() -> DemoDocuments {
    let mut documents =
        with_nodes([own_node("cph-1", "DK"), own_node("hel-1", "FI"), own_node("osl-1", "NO")]);
    documents.bundle.policy = HOURS.to_owned();
    documents
}

fn at(text: &str) -> Option<PolicyTime> {
    Some(PolicyTime::at(systir_documents::parse_rfc3339(text).unwrap()))
}

fn spills(engine: &PolicyEngine, node: &str) -> bool {
    decide_planned(engine, Action::Spill, node).allowed
}

#[test]
fn a_rule_permits_in_its_hours_only() {
    let engine = load(&documents()).unwrap();
    for (time, finland, norway) in [
        ("2027-02-03T06:59:59Z", false, true),
        ("2027-02-03T07:00:00Z", true, true),
        ("2027-02-03T12:59:59Z", true, true),
        ("2027-02-03T13:00:00Z", false, true),
        ("2027-02-06T10:00:00Z", false, true),
        ("2027-02-07T10:00:00Z", false, false),
        ("2027-04-07T10:00:00Z", false, true),
    ] {
        let engine = engine.at(at(time));
        assert!(spills(&engine, "cph-1"), "{time}");
        assert_eq!((spills(&engine, "hel-1"), spills(&engine, "osl-1")), (finland, norway), "{time}");
    }
}

#[test]
fn without_the_time_no_rule_permits_by_it_and_each_that_forbids_by_it_forbids() {
    let engine = load(&documents()).unwrap();
    assert!(spills(&engine, "cph-1"), "rules that do not read the time decide as always");
    let finland = decide_planned(&engine, Action::Spill, "hel-1");
    assert_eq!((finland.reason, rules_of(&finland)), (Reason::TimeUnknown, vec!["finland"]));
    assert!(
        finland.why.contains("a rule that reads it cannot permit (finland); set its clock"),
        "{}",
        finland.why
    );
    let norway = decide_planned(&engine, Action::Spill, "osl-1");
    assert_eq!((norway.reason, rules_of(&norway)), (Reason::TimeUnknown, vec!["no-sundays"]));
}

#[test]
fn what_could_be_permitted_at_some_time_is_told() {
    let engine = load(&documents()).unwrap();
    let night = engine.at(at("2027-02-03T23:00:00Z"));
    assert!(night.approving("hel-1").is_empty());
    assert_eq!(night.ever().approving("hel-1").len(), 1);
    assert_eq!(night.ever().approving("osl-1").len(), 1);
}

#[test]
fn decisions_are_kept_until_a_rule_decides_otherwise() {
    let authority = Authority::new(load(&documents()).unwrap(), "cph-1", Arc::default());
    authority.use_room_keys(keys());
    let lecture = room("lecture");
    let spills = || authority.node(Action::Spill, &lecture, "hel-1").allowed;
    assert!(!spills(), "the time is not known yet");
    assert!(authority.advance(at("2027-02-03T12:00:00Z")) && spills());
    let engine = authority.engine();
    for minute in 1..60 {
        assert!(!authority.advance(at(&format!("2027-02-03T12:{minute:02}:00Z"))), "{minute}");
    }
    assert!(Arc::ptr_eq(&engine, &authority.engine()), "nothing is decided again");
    assert!(authority.advance(at("2027-02-03T13:00:00Z")) && !spills());
    assert!(!authority.advance(at("2027-02-04T06:59:00Z")));
    assert!(authority.advance(at("2027-02-04T07:00:00Z")) && spills());
    assert!(authority.advance(None) && !spills(), "the clock is wrong");

    let authority = Authority::new(demo_engine(), "cph-1", Arc::default());
    assert!(
        !authority.advance(at("2027-02-03T12:00:00Z")) && !authority.advance(None),
        "no rule reads the time"
    );
}

#[test]
fn the_time_is_read_only_in_conditions_of_its_own() {
    let spill = |condition: &str| {
        format!(
            "@id(\"a\") @why(\"b\") @tier(\"1\") permit (principal in Institution::\"ku.dk\", action == \
             Action::\"spill\", resource) when {{ {condition} }};"
        )
    };
    for (condition, expected) in [
        ("context.e2ee && context.now > datetime(\"2027-01-01\")", "claims can only forbid"),
        ("context has now && context.now > datetime(\"2027-01-01\")", "`context has now` has no meaning"),
        (
            "context.now > (if principal.e2ee then datetime(\"2027-01-01\") else datetime(\"2028-01-01\"))",
            "constants",
        ),
        ("if context.weekday == Weekday::\"mon\" then resource.own_machine else false", "constants"),
        ("context.weekday == Weekday::\"Monday\"", "Monday"),
    ] {
        let error = load(&with_policy(&spill(condition))).unwrap_err().to_string();
        assert!(error.contains(expected), "{condition}: {error}");
    }
    for condition in [
        "!(context.now > datetime(\"2027-01-01\")) && resource.own_machine",
        "if principal.e2ee then context.weekday == Weekday::\"mon\" else resource.own_machine",
        "[Weekday::\"mon\", Weekday::\"tue\"].contains(context.weekday)",
        "if context.now.toTime() < duration(\"7h\") then context.weekday == Weekday::\"mon\" else false",
    ] {
        load(&with_policy(&spill(condition))).unwrap_or_else(|error| panic!("{condition}: {error}"));
    }
    let hours = "@hours(\"mon-fri\") @id(\"a\") @why(\"b\") forbid (principal, action, resource);";
    let error = load(&with_policy(hours)).unwrap_err().to_string();
    assert!(error.contains("@hours is for rules that read the time"), "{error}");
}
