//! Tests of profiles.

use std::collections::BTreeSet;

use serde_json::Value;
use systir_documents::{Document, Lifetime};
use systir_policy::PolicyEngine;

use crate::{GUARANTEE_FORMS, Profile, SCHEMA};

const LIFETIME: Lifetime =
    Lifetime { issued: 1_800_000_000, renew_by: 1_802_592_000, not_after: 1_807_776_000 };

const PROFILE: &str = r#"institution = "ku.dk"
operators = ["nordunet", "sunet"]
hosts = ["nordunet", "Amazon \"Web\" Services"]
partners = ["au.dk"]
guarantees = ["machines only in North", "no recording"]

[zones]
North = ["DK", "SE"]

[home]
countries = ["DK"]
operators = ["nordunet"]

[[spill]]
tier = 1
zones = ["North"]
countries = ["NO"]

[[spill]]
tier = 2
zones = ["EU"]
hosts = ["Amazon \"Web\" Services"]
classes = ["standard"]
require_e2ee = true

[gateway]
zones = ["North"]

[record]
countries = ["DK"]

[control]
zones = ["EEA"]
except_e2ee = true

[[rooms]]
names = "exam-*"
class = "confidential"

[join]
institutions = ["au.dk"]
guests = ["standard"]
administer = ["standard", "confidential"]

[[guarantee]]
id = "own"
says = "own machines are homes"
actions = ["home"]
holds = "resource.own_machine"
"#;

/// The problem of the profile with one change.
fn refused(from: &str, to: &str) -> String {
    assert!(PROFILE.contains(from), "{from}");
    Profile::parse(&PROFILE.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_profile_is_compiled_to_rules_that_nodes_load() {
    let profile = Profile::parse(PROFILE).unwrap();
    let bundle = profile.bundle(3, LIFETIME);
    let document = Document::Bundle(bundle.clone());
    assert_eq!(Document::parse(&document.to_text()).unwrap(), document);
    PolicyEngine::check(&document).unwrap();
    for part in [
        "@id(\"ku-dk-home\")\n@why(\"{node} is {operator}'s own machine in {country}\")\npermit (principal in \
         Institution::\"ku.dk\", action == Action::\"home\", resource)\nwhen {\n  resource.operator == \
         Operator::\"nordunet\" &&\n  resource.own_machine &&\n  resource.country == Country::\"DK\"\n};\n",
        "@tier(\"1\")",
        "(resource.country in Zone::\"North\" || resource.country == Country::\"NO\")",
        "resource.host == Host::\"Amazon \\\"Web\\\" Services\"",
        "principal.class == RoomClass::\"standard\"",
        "unless { resource.host_controlled_from in Zone::\"EEA\" || principal.e2ee }",
        "when { principal in [Institution::\"au.dk\", Institution::\"ku.dk\"] }",
        "@id(\"ku-dk-record\")",
    ] {
        assert!(bundle.policy.contains(part), "{part}: {}", bundle.policy);
    }
    assert!(!bundle.policy.contains("join-hidden"), "not named: denied");
    assert_eq!(bundle.zones.keys().collect::<Vec<_>>(), ["EEA", "EU", "North"]);
    let guarantees: Vec<&str> = bundle.guarantees.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(guarantees, ["machines-only-in-north", "no-recording", "own"]);
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_to_write() {
    for (from, to, expected) in [
        ("\"ku.dk\"", "\"KU\"", "line 1: \"KU\" is no domain"),
        ("countries = [\"DK\"]", "countries = [\"Denmark\"]", "line 11: \"Denmark\" is not an ISO 3166-1"),
        ("countries = [\"DK\"]\noperators", "operators", "line 10: [home] says no place; write countries"),
        (
            "operators = [\"nordunet\"]",
            "operators = [\"nordnet\"]",
            "line 12: \"nordnet\" is not in the list `operators`",
        ),
        ("zones = [\"North\"]", "zones = [\"Nord\"]", "line 16: there is no zone \"Nord\"; write Nord = "),
        ("tier = 2", "tier = 1", "line 20: another [[spill]] has tier 1"),
        ("tier = 2", "teir = 2", "line 20: unknown field `teir`"),
        ("classes = [\"standard\"]", "classes = [\"secret\"]", "line 23: \"secret\" is no room class; write"),
        ("\"no recording\"", "\"no records\"", "line 5: there is no guarantee \"no records\"; write one of"),
        (
            "institutions = [\"au.dk\"]",
            "institutions = [\"dtu.dk\"]",
            "line 41: \"dtu.dk\" is not in the list `partners`",
        ),
        ("id = \"own\"", "id = \"Own%\"", "line 46: \"Own%\" is not a name: use 1 to 255 lower-case letters"),
        ("id = \"own\"", "id = \"no-recording\"", "line 46: another guarantee has the id \"no-recording\""),
        ("[gateway]\nzones = [\"North\"]\n", "", "missing field `gateway`"),
        ("North = [\"DK\", \"SE\"]", "North = []", "line 8: the zone North has no countries"),
        ("tier = 1", "tier = ", "line 15: "),
        (
            "tier = 2",
            "tier = 2\nhours = \"08-14\"",
            "line 21: days and hours need a time zone; write time_zone = \"Europe/Copenhagen\" at the top",
        ),
        (
            "partners =",
            "time_zone = \"Copenhagen\"\npartners =",
            "line 4: there is no time zone \"Copenhagen\"; write its name in the IANA database, such as",
        ),
    ] {
        let problem = refused(from, to);
        assert!(problem.starts_with(expected), "{to}: {problem}");
    }
}

/// The profile with hours for tier 2.
fn with_hours(hours: &str) -> Result<Profile, crate::ProfileError> {
    let text = PROFILE.replacen("partners =", "time_zone = \"Europe/Copenhagen\"\npartners =", 1);
    Profile::parse(&text.replacen("tier = 2\n", &format!("tier = 2\n{hours}\n"), 1))
}

#[test]
fn hours_are_compiled_to_utc_for_the_dates_of_the_bundle() {
    let profile = with_hours("hours = \"08-14\"\ndays = \"mon-fri\"").unwrap();
    // 2027-01-15T08:00:00Z to 2027-04-15T08:00:00Z.
    let bundle = profile.bundle(3, LIFETIME);
    PolicyEngine::check(&Document::Bundle(bundle.clone())).unwrap();
    let expected = r#"@id("ku-dk-spill-2")
@tier("2")
@hours("mon-fri 08:00-14:00 Europe/Copenhagen")
@why("{node} is in {country}, on a machine of {host}, and the room is end-to-end encrypted and not confidential, and the time is Monday to Friday, 08:00 to 14:00 (Europe/Copenhagen)")
permit (principal in Institution::"ku.dk", action in [Action::"spill", Action::"transit"], resource)
when {
  resource.operator in [Operator::"nordunet", Operator::"sunet"] &&
  resource.host == Host::"Amazon \"Web\" Services" &&
  resource.country in Zone::"EU" &&
  principal.e2ee &&
  principal.class == RoomClass::"standard" &&
  ((((context.now >= datetime("2026-10-07T08:00:00Z") && context.now < datetime("2026-10-25T01:00:00Z")) ||
      (context.now >= datetime("2027-03-28T01:00:00Z") && context.now < datetime("2027-04-15T08:00:00Z"))) &&
    (context.weekday in [Weekday::"mon", Weekday::"tue", Weekday::"wed", Weekday::"thu", Weekday::"fri"] && context.now.toTime() >= duration("6h") && context.now.toTime() < duration("12h"))) ||
   ((context.now >= datetime("2026-10-25T01:00:00Z") && context.now < datetime("2027-03-28T01:00:00Z")) &&
    (context.weekday in [Weekday::"mon", Weekday::"tue", Weekday::"wed", Weekday::"thu", Weekday::"fri"] && context.now.toTime() >= duration("7h") && context.now.toTime() < duration("13h"))))
};
"#;
    assert!(bundle.policy.contains(expected), "{}", bundle.policy);
    for (hours, expected) in [
        ("hours = \"8 to 14\"", "line 22: \"8 to 14\" are no hours; write \"08-14\""),
        ("days = \"weekdays\"", "line 22: \"weekdays\" are no days; write \"mon-fri\""),
    ] {
        let problem = with_hours(hours).unwrap_err().to_string();
        assert!(problem.starts_with(expected), "{problem}");
    }
    for hours in ["days = \"sat,sun\"", "hours = \"22-06\"", "hours = \"00-24\""] {
        let bundle = with_hours(hours).unwrap().bundle(3, LIFETIME);
        PolicyEngine::check(&Document::Bundle(bundle)).unwrap_or_else(|error| panic!("{hours}: {error}"));
    }
    let draft = Lifetime { issued: 0, renew_by: 253_402_300_799, not_after: 253_402_300_799 };
    let bundle = with_hours("hours = \"22-06:30\"\ndays = \"fri\"").unwrap().bundle(1, draft);
    PolicyEngine::check(&Document::Bundle(bundle)).unwrap();
}

#[test]
fn each_named_guarantee_can_be_loaded() {
    for form in GUARANTEE_FORMS {
        let name = format!("\"{}\"", form.replace("ZONE", "EEA"));
        let profile = Profile::parse(&PROFILE.replacen("\"no recording\"", &name, 1)).unwrap();
        let bundle = profile.bundle(1, LIFETIME);
        assert!(bundle.guarantees.iter().all(|one| !one.says.is_empty()), "{form}");
        PolicyEngine::check(&Document::Bundle(bundle)).unwrap_or_else(|error| panic!("{form}: {error}"));
    }
}

/// The fields that a table accepts, as the parser itself lists them for one that it does not know.
fn fields(table: &str) -> BTreeSet<String> {
    let (before, line) = table.split_once('|').unwrap();
    let problem = refused(before, &format!("{before}{line}"));
    let (_, listed) = problem.split_once("expected").unwrap_or_else(|| panic!("{problem}"));
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_schema_for_editors_has_the_fields_of_the_parser() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let known = |table: &Value| -> BTreeSet<String> {
        table["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let top = &schema["properties"];
    for (table, at) in [
        ("institution = \"ku.dk\"\n|nothing = 1\n", &schema),
        ("[home]\n|nothing = 1\n", &top["home"]),
        ("[gateway]\n|nothing = 1\n", &top["gateway"]),
        ("[record]\n|nothing = 1\n", &top["record"]),
        ("[control]\n|nothing = 1\n", &top["control"]),
        ("[join]\n|nothing = 1\n", &top["join"]),
        ("[[spill]]\n|nothing = 1\n", &top["spill"]["items"]),
        ("[[rooms]]\n|nothing = 1\n", &top["rooms"]["items"]),
        ("[[guarantee]]\n|nothing = 1\n", &top["guarantee"]["items"]),
    ] {
        assert_eq!(fields(table), known(at), "{table}");
    }
    assert_eq!(known(&top["transcribe"]), known(&top["record"]));
    let listed = top["guarantees"]["items"]["anyOf"][0]["enum"].as_array().unwrap();
    let listed: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
    let fixed: Vec<&str> = GUARANTEE_FORMS.into_iter().filter(|form| !form.contains("ZONE")).collect();
    assert_eq!(listed, fixed);
}
