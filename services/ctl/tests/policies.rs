//! `systirctl policy`.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use systir_documents::{Document, DocumentKind, Note, PinnedKeys, Pins, PublicKey};

#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use common::Folder;

#[test]
fn a_bundle_is_built_signed_twice_and_verified_with_pinned_keys() {
    let folder = Folder::new();
    let built = folder.build_bundle(7, "ku.dk.note");
    assert!(built.contains("ku.dk.note: bundle of ku.dk, version 7, not signed yet"), "{built}");
    let unsigned = folder.read("ku.dk.note");
    let Document::Bundle(bundle) = Document::parse(&unsigned).unwrap() else { panic!("{unsigned}") };
    assert_eq!(bundle.policy, folder.read("ku.dk.cedar"), "the rules are in the text as they were written");
    assert_eq!(bundle.classes.len(), 2);

    let public = ["ku.dk/rector", "ku.dk/it"].map(|name| {
        let key: PublicKey = folder.key(name)["public_key"].as_str().unwrap().parse().unwrap();
        let file = name.replace('/', "-");
        let signed = folder.run(&format!("policy sign ku.dk.note --key keys/{file}.key"));
        assert!(signed.contains(&format!("signed with {name} {}", key.fingerprint())), "{signed}");
        key
    });
    let note = folder.read("ku.dk.note");
    assert_eq!(Note::parse(&note).unwrap().text(), unsigned);
    let keys = PinnedKeys::new(public.to_vec(), 2).unwrap();
    let pins = Pins { institutions: [("ku.dk".to_owned(), keys)].into(), ..Pins::default() };
    assert_eq!(pins.verify(&note).unwrap().signers(), public);

    // A third signature of the same key changes nothing.
    folder.run("policy sign ku.dk.note --key keys/ku.dk-it.key");
    assert_eq!(folder.read("ku.dk.note"), note);
    // A signed document is not overwritten.
    let again = folder.fail(1, &format!("{} --version 8 --out ku.dk.note", folder.bundle_line()));
    assert!(again.contains("it is not overwritten"), "{again}");
}

#[test]
fn a_floor_is_built_without_vocabulary_and_checked_with_a_bundle() {
    let folder = Folder::new();
    assert!(folder.build_floor("floor.note").contains("floor of nordunet, version 1"));
    folder.build_bundle(1, "ku.dk.note");
    let checked = folder.run("policy check ku.dk.note floor.note --floor floor.note");
    assert!(checked.contains("ku.dk.note: bundle of ku.dk, version 1: valid, not signed"), "{checked}");
    assert!(checked.contains("floor.note: floor of nordunet, version 1: valid, not signed"), "{checked}");

    // A rule of the bundle that has the id of a floor's rule is found only with the floor.
    folder.change("ku.dk.cedar", "@id(\"ku-home-denmark\")", "@id(\"floor-confidential-on-own-machines\")");
    folder.build_bundle(2, "other.note");
    folder.run("policy check other.note");
    let error = folder.fail(1, "policy check other.note --floor floor.note");
    assert!(error.contains("other.note:") && error.contains("another rule has this @id already"), "{error}");
}

/// Cedar has escapes for characters that a signed text must not contain.
#[test]
fn the_sentence_of_a_rule_does_not_control_the_terminal() {
    let folder = Folder::new();
    folder.change("ku.dk.cedar", "@why(\"{node} is", r#"@why("\u{1b}[2J\u{9b}1m{node} is"#);
    folder.build_bundle(1, "ku.dk.note");
    folder.build_floor("floor.note");
    folder.build_directory("nordunet.note");
    let explained = "policy explain ku.dk.note --floor floor.note --directory nordunet.note --action home";
    for line in ["policy show ku.dk.note", explained] {
        let text = folder.run(line);
        assert!(text.contains("[2J") && !text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    let folder = Folder::new();
    let line = format!("{} --version 1 --out ku.dk.note", folder.bundle_line());
    let cases = [
        (
            "ku.dk.cedar",
            "Operator::\"nordunet\"",
            "Operator::\"nordnet\"",
            "ku.dk.cedar:3: rule ku-home-denmark: ",
        ),
        ("ku.dk.cedar", "@tier(\"1\")\n", "", "ku.dk.cedar:11: rule ku-spill-nordic: "),
        ("ku.dk.cedar", "resource.country ==", "resource.contry ==", "ku.dk.cedar:"),
        ("ku.dk.cedar", "  resource", "\tresource", "ku.dk.cedar:7: a signed text has no tabs"),
        ("zones.toml", "Nordic = [", "Nordic = ", "zones.toml:"),
        ("vocabulary.toml", "hosts", "hots", "vocabulary.toml:4: unknown field `hots`"),
        (
            "classes.toml",
            "class = \"confidential\"",
            "class = \"secret\"",
            "\"standard\" or \"confidential\"",
        ),
        ("classes.toml", "pattern =", "glob =", "classes.toml:5: unknown field `glob`"),
    ];
    for (file, from, to, expected) in cases {
        let before = folder.read(file);
        folder.change(file, from, to);
        let error = folder.fail(1, &line);
        assert!(error.contains(expected), "{file} {to}: {error}");
        assert!(!folder.at("ku.dk.note").exists(), "nothing is written");
        folder.write(file, &before);
    }
    folder.run(&line);
    // In a built document the line is that of the document.
    let text = folder.read("ku.dk.note");
    let wrong = text.lines().position(|line| line.contains("@id(\"ku-home-denmark\")")).unwrap() + 1;
    folder.change("ku.dk.note", "Operator::\"nordunet\"", "Operator::\"nordnet\"");
    let error = folder.fail(1, "policy check ku.dk.note");
    assert!(error.contains(&format!("ku.dk.note:{wrong}: rule ku-home-denmark: ")), "{error}");
    folder.change("ku.dk.note", "version = 1", "edition = 1");
    assert!(folder.fail(1, "policy check ku.dk.note").contains("ku.dk.note:3: unknown field `edition`"));
}

#[test]
fn what_policy_check_refuses_cannot_be_signed() {
    let folder = Folder::new();
    folder.build_bundle(1, "ku.dk.note");
    folder.key("ku.dk/2026");
    let good = folder.read("ku.dk.note");
    let sign = "policy sign ku.dk.note --key keys/ku.dk-2026.key";
    folder.change("ku.dk.note", "Operator::\"nordunet\"", "Operator::\"nordnet\"");
    let changed = folder.read("ku.dk.note");
    assert!(folder.fail(1, sign).contains("rule ku-home-denmark"));
    assert_eq!(folder.read("ku.dk.note"), changed, "it stays as it was");

    // Dates: issued in the future, or ended.
    let issued = good.lines().find(|line| line.starts_with("issued")).unwrap();
    folder.write("ku.dk.note", &good.replace(issued, "issued = 2098-01-01T00:00:00Z"));
    assert!(folder.fail(1, sign).contains("it is issued at 2098-01-01T00:00:00Z, in the future"));
    let line = folder.bundle_line().replace("2099", "2020");
    folder.run(&format!("{line} --issued 2020-01-01 --version 1 --out old.note"));
    let error = folder.fail(1, "policy sign old.note --key keys/ku.dk-2026.key");
    assert!(error.contains("it ended at 2020-02-01T00:00:00Z"), "{error}");
    let early =
        folder.fail(1, &format!("{} --issued 2099-01-15 --version 1 --out x.note", folder.bundle_line()));
    assert!(early.contains("renew_by is before issued"), "{early}");

    // A directory is signed by another command, and a public key signs nothing.
    folder.build_directory("nordunet.note");
    let error = folder.fail(1, "policy sign nordunet.note --key keys/ku.dk-2026.key");
    assert!(error.contains("sign it with `systirctl directory sign`"), "{error}");
    folder.write("ku.dk.note", &good);
    let error = folder.fail(1, "policy sign ku.dk.note --key keys/ku.dk-2026.pub");
    assert!(
        error.contains("is a secret that others may read") || error.contains("not a signing key"),
        "{error}"
    );
}

#[test]
fn show_tells_owner_version_signers_and_rules() {
    let folder = Folder::new();
    folder.build_bundle(7, "ku.dk.note");
    assert!(folder.run("policy show ku.dk.note").contains("not signed"));
    let key = folder.key("ku.dk/2026");
    folder.key("ku.dk/it");
    folder.run("policy sign ku.dk.note --key keys/ku.dk-2026.key");
    folder.run("policy sign ku.dk.note --key keys/ku.dk-it.key");
    let shown = folder.run("policy show ku.dk.note --key keys/ku.dk-2026.pub");
    for expected in [
        "bundle of ku.dk, version 7",
        "not after   2099-02-01T00:00:00Z (valid)",
        key["fingerprint"].as_str().unwrap(),
        "not verified; give its public key with --key",
        "rooms       exam-*: confidential",
        "ku-spill-nordic",
        "{node} is {operator}'s own machine in Denmark",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let json = folder.json("policy show ku.dk.note --key keys/ku.dk-2026.pub");
    assert_eq!((json["kind"].as_str(), json["owner"].as_str()), (Some("bundle"), Some("ku.dk")));
    assert_eq!((json["version"].as_u64(), json["validity"].as_str()), (Some(7), Some("valid")));
    let note = folder.read("ku.dk.note");
    assert_eq!(json["hash"], serde_json::json!(Note::parse(&note).unwrap().hash()));
    assert_eq!(json["signatures"][0]["fingerprint"], key["fingerprint"]);
    assert_eq!(json["signatures"][1]["verified"], false);
    let rules = json["rules"].as_array().unwrap();
    assert_eq!(rules[1]["id"], "ku-spill-nordic");
    assert_eq!((&rules[1]["effect"], &rules[1]["tier"]), (&"permit".into(), &1.into()));

    folder.build_floor("floor.note");
    let floor = folder.json("policy show floor.note");
    assert_eq!(floor["rules"][0]["id"], "floor-declared-by-its-operator");
    assert_eq!(floor["signatures"].as_array().unwrap().len(), 0);

    // A text that was changed after it was signed.
    folder.change("ku.dk.note", "version = 7", "version = 8");
    let error = folder.fail(1, "policy show ku.dk.note --key keys/ku.dk-2026.pub");
    assert!(error.contains("the text was changed after it was signed"), "{error}");
}

#[test]
fn explain_shows_each_decision_with_its_sentence() {
    let folder = Folder::new();
    folder.build_bundle(1, "ku.dk.note");
    folder.build_floor("floor.note");
    folder.build_directory("nordunet.note");
    let line = "policy explain ku.dk.note --floor floor.note --directory nordunet.note";
    let spill = folder.json(&format!("{line} --action spill"));
    let decided: Vec<(&str, bool)> = spill
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["node"].as_str().unwrap(), row["decision"]["allowed"].as_bool().unwrap()))
        .collect();
    assert_eq!(decided, [("aws-sto-1", false), ("cph-1", true), ("sto-1", true)]);
    let shown = folder.run(&format!("{line} --node aws-sto-1 --action home"));
    assert!(shown.contains("controlled from US") && shown.contains("ku-host-controlled-from-eea"), "{shown}");
    let exam = folder.run(&format!("{line} --room exam-1 --node aws-sto-1 --action spill"));
    assert!(exam.contains("floor-confidential-on-own-machines"), "{exam}");
    let join = folder.run(&format!("{line} --participant ku.dk --action join"));
    assert!(join.contains("ku-join"), "{join}");
    let nothing = folder.fail(1, "policy explain ku.dk.note --action spill");
    assert!(nothing.contains("give nodes with --directory"), "{nothing}");
    let wrong = folder.fail(1, "policy explain floor.note");
    assert!(wrong.contains("floor.note is the floor of nordunet, and a bundle is wanted"), "{wrong}");
    assert!(folder.fail(64, &format!("{line} --action whiteboard")).contains("there is no action"));
}

#[test]
fn a_table_of_expected_decisions_is_checked() {
    let folder = Folder::new();
    folder.build_bundle(1, "ku.dk.note");
    folder.build_floor("floor.note");
    folder.build_directory("nordunet.note");
    let head = "bundle = \"ku.dk.note\"\nfloor = \"floor.note\"\ndirectories = [\"nordunet.note\"]\n";
    let good = format!(
        "{head}
[[case]]
action = \"home\"
node = \"cph-1\"
expect = \"allow\"
rule = \"ku-home-denmark\"

[[case]]
action = \"spill\"
node = \"aws-sto-1\"
room = \"exam-1\"
expect = \"deny\"
rule = \"floor-confidential-on-own-machines\"

[[case]]
action = \"join\"
participant = \"ku.dk\"
expect = \"allow\"

[[case]]
action = \"join\"
participant = \"mallory.example\"
expect = \"deny\"
"
    );
    folder.write("table.toml", &good);
    assert_eq!(folder.run("policy test table.toml"), "4 cases, 0 decided otherwise than expected\n");
    assert_eq!(folder.json("policy test table.toml")["failed"], 0);

    folder.write(
        "table.toml",
        &good.replacen("\"allow\"", "\"deny\"", 1).replace("ku.dk\"\nexpect", "x.dk\"\nexpect"),
    );
    let error = folder.fail(1, "policy test table.toml");
    assert!(
        error.contains("table.toml:5: home on cph-1: allowed [ku-home-denmark]: cph-1 is nordunet's"),
        "{error}"
    );
    assert!(error.contains("table.toml:18: join of x.dk: denied [unknown-institution]"), "{error}");
    folder.write("table.toml", &good.replace("ku-home-denmark", "ku-spill-nordic"));
    assert!(folder.fail(1, "policy test table.toml").contains("rule ku-spill-nordic did not decide"));
    folder.write("table.toml", &good.replace("participant = \"ku.dk\"", "node = \"cph-1\""));
    assert!(folder.fail(1, "policy test table.toml").contains("write participant = \"INSTITUTION\""));
    folder.write("table.toml", &good.replace("expect", "expects"));
    assert!(folder.fail(1, "policy test table.toml").contains("table.toml:8: unknown field `expects`"));
    folder.write("table.toml", head);
    assert!(folder.fail(1, "policy test table.toml").contains("there are no cases"));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let folder = Folder::new();
    let owner =
        "policy build --policy ku.dk.cedar --version 1 --renew-by 2099-01-01 --not-after 2099-01-01 --out x";
    assert!(folder.fail(64, owner).contains("--institution"));
    assert!(folder.fail(64, &format!("{owner} --institution ku.dk")).contains("--vocabulary"));
    assert!(folder.fail(64, &owner.replace("2099-01-01", "soon")).contains("write it like 2027-02-01"));
    assert!(folder.fail(64, &owner.replace("--version 1", "--version 0")).contains("--version"));
    assert!(folder.fail(64, "policy check").contains("FILES"));
    assert!(folder.fail(1, "policy check nowhere.note").contains("nowhere.note cannot be read"));
    assert_eq!(DocumentKind::Bundle.to_string(), "bundle");
}
