//! `systirctl policy prove`, `diff`, `compat`, `init`, and what is asked before a looser policy is signed. Needs cvc5.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use common::Folder;
use systir_documents::{Document, DocumentHash, Note};

const DATES: &str = "--renew-by 2099-01-01 --not-after 2099-02-01";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.copy_example("copenhagen/profile.toml", "profile.toml");
    folder.copy_example("floor.note", "floor.note");
    folder
}

/// Lets rooms spill to leased machines, whoever controls their owners.
fn loosen(folder: &Folder) {
    folder.change("profile.toml", "[[spill]]", "[[spill]]\nhosts = [\"amazon\", \"nordunet\"]");
    folder.change("profile.toml", "[control]\nzones = [\"EEA\"]\n", "");
}

#[test]
fn the_guarantees_of_a_profile_a_bundle_and_a_floor_are_proved() {
    let folder = folder();
    let proved = folder.run("policy prove profile.toml --floor floor.note");
    assert!(proved.contains("proved  controlled-only-from-eea: no machine that is run or owned"), "{proved}");
    assert!(proved.contains("bundle of ku.dk, version 1") && proved.contains("cvc5 "), "{proved}");
    folder.run(&format!("policy build --profile profile.toml --version 3 {DATES} --out notes/ku.dk.note"));
    std::fs::copy(folder.at("floor.note"), folder.at("notes/floor.note")).unwrap();
    let proved = folder.json("policy prove notes");
    assert_eq!(proved.as_array().unwrap().len(), 2, "{proved}");
    assert_eq!(proved[1]["policy"], "bundle of ku.dk, version 3");
    assert!(proved.as_array().unwrap().iter().all(|report| report["proved"] == true), "{proved}");
    let none = folder.fail(1, "policy prove ku.dk.cedar");
    assert!(none.contains("ku.dk.cedar"), "{none}");
    folder.build_bundle(1, "none.note");
    let none = folder.fail(1, "policy prove none.note");
    assert!(none.contains("states no guarantee, so there is nothing to prove"), "{none}");
}

#[test]
fn what_is_permitted_against_a_guarantee_is_told_in_a_sentence() {
    let folder = folder();
    loosen(&folder);
    let error = folder.fail(1, "policy prove profile.toml --floor floor.note");
    assert!(error.contains("2 of 13 guarantees are refuted"), "{error}");
    let output = folder.answer("policy prove profile.toml --floor floor.note", "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("REFUTED controlled-only-from-eea"), "{text}");
    assert!(
        text.contains(
            "spill: a standard room of ku.dk without end-to-end encryption could spill to a node in"
        ) && text.contains("by rule ku-dk-spill-1"),
        "{text}"
    );
    assert!(text.contains("proved  machines-only-in-nordic"), "{text}");
}

#[test]
fn without_a_solver_nothing_is_proved_and_one_line_says_what_to_install() {
    let folder = folder();
    for line in [
        "policy prove profile.toml",
        "policy diff profile.toml profile.toml",
        "policy compat floor.note profile.toml",
    ] {
        let error = folder.fail_with_solver("/nowhere/cvc5", line);
        assert!(error.contains("apt-get install cvc5") && error.lines().count() == 1, "{error}");
    }
    let error = folder.fail_with_solver("true", "policy prove profile.toml");
    assert!(error.contains("cvc5 1.0.3 or newer is needed"), "{error}");
}

#[test]
fn a_diff_tells_what_is_permitted_now() {
    let folder = folder();
    std::fs::copy(folder.at("profile.toml"), folder.at("old.toml")).unwrap();
    loosen(&folder);
    let diff = folder.run("policy diff old.toml profile.toml");
    assert!(
        diff.contains("spill: looser\n  now permitted: ") && diff.ends_with("the new policy is looser\n"),
        "{diff}"
    );
    assert!(diff.contains("same: record, transcribe, turn"), "{diff}");
    let back = folder.json("policy diff profile.toml old.toml");
    assert_eq!(back["is_looser"], false);
    let spill = &back["actions"][1];
    assert_eq!((&spill["action"], &spill["change"]), (&"spill".into(), &"stricter".into()));
}

#[test]
fn a_bundle_that_breaks_another_institutions_guarantees_is_told() {
    let folder = folder();
    folder.copy_example("leased-when-full/profile.toml", "leased.toml");
    let kept = folder.run("policy compat floor.note leased.toml --own-floor floor.note");
    assert!(kept.contains("keeps to the floor of nordunet"), "{kept}");
    let error = folder.fail(1, "policy compat profile.toml leased.toml --own-floor floor.note");
    assert!(
        error.contains("the bundle of dtu.dk, version 1 does not keep to the bundle of ku.dk"),
        "{error}"
    );
}

#[test]
fn a_looser_policy_is_signed_only_with_consent() {
    let folder = folder();
    folder.key("ku.dk/2026");
    let build = |version: u64, out: &str| {
        folder.run(&format!("policy build --profile profile.toml --version {version} {DATES} --out {out}"));
    };
    build(1, "old.note");
    build(2, "same.note");
    let sign = |file: &str| format!("policy sign {file} --key keys/ku.dk-2026.key --previous old.note");
    assert!(folder.answer(&sign("same.note"), "").status.success());
    loosen(&folder);
    build(3, "looser.note");
    let unsigned = folder.read("looser.note");
    let error = folder.fail(1, &sign("looser.note"));
    assert!(error.contains("spill: looser") && error.contains("give --allow-looser"), "{error}");
    assert_eq!(folder.read("looser.note"), unsigned);
    assert!(folder.answer(&format!("{} --allow-looser", sign("looser.note")), "").status.success());
    assert!(folder.read("looser.note").contains("\u{2014} ku.dk/2026"));
    let error = folder.fail(1, "policy sign floor.note --key keys/ku.dk-2026.key --previous old.note");
    assert!(error.contains("compare versions of one document"), "{error}");
}

#[test]
fn a_page_in_two_languages_says_what_is_permitted_proved_changed_and_signed() {
    let folder = folder();
    let key = folder.key("ku.dk/2026");
    folder.run(&format!("policy build --profile profile.toml --version 1 {DATES} --out old.note"));
    loosen(&folder);
    // Names are shown as text, whatever they are.
    folder.change("profile.toml", "names = \"exam-*\"", "names = \"<b>exam-*\"");
    folder.run(&format!("policy build --profile profile.toml --version 2 {DATES} --out new.note"));
    folder.run("policy sign new.note --key keys/ku.dk-2026.key");
    let show = "policy show new.note --key keys/ku.dk-2026.pub --floor floor.note --previous old.note --html";
    let written = folder.run(&format!("{show} en.html"));
    assert!(written.contains("NOT all guarantees proved"), "{written}");
    let english = folder.read("en.html");
    for part in [
        "<html lang=\"en\">",
        "Where the meetings of ku.dk may be carried",
        key["fingerprint"].as_str().unwrap(),
        "nordunet&#39;s own machines",
        "machines of amazon, run by nordunet",
        "Permitted to no machine at all: Recording;",
        "<span class=\"mark refuted\">NOT TRUE</span>",
        "<span class=\"mark proved\">proved</span>",
        "Now permitted, for example:",
        "this version permits more",
        "&lt;b&gt;exam-*",
        "with cvc5 1",
    ] {
        assert!(english.contains(part), "{part}: {english}");
    }
    // By these a gateway sees whether the page is about the texts in force.
    for (name, file) in [("bundle", "new.note"), ("floor", "floor.note")] {
        let text = folder.read(file);
        // The floor is not signed.
        let hash = Note::parse(&text).map_or_else(|_| DocumentHash::of(&text), |note| note.hash());
        let line = format!("<meta name=\"systir-{name}\" content=\"{hash}\">");
        assert!(english.contains(&line), "{line}: {english}");
    }
    assert!(!english.contains("<b>exam") && !english.contains("http://") && !english.contains("https://"));
    folder.run(&format!("{show} da.html --language da"));
    let danish = folder.read("da.html");
    for part in [
        "<html lang=\"da\">",
        "nordunets egne maskiner",
        "bevist</span>",
        "kunne løbe over til en node i",
        "Danmark",
    ] {
        assert!(danish.contains(part), "{part}: {danish}");
    }
    // A text that was changed after it was signed has no page.
    folder.change("new.note", "version = 2", "version = 3");
    let error = folder.fail(1, &format!("{show} forged.html"));
    assert!(
        error.contains("the text was changed after it was signed") && !folder.at("forged.html").exists(),
        "{error}"
    );
    let error = folder.fail(1, "policy show floor.note --html floor.html");
    assert!(error.contains("a page is made of a bundle"), "{error}");
}

#[test]
fn answers_become_a_profile_that_can_be_proved_and_built() {
    let folder = Folder::new();
    let output = folder.answer("policy init --out ku.toml", "ku.dk\nnordunet\namazon\nDK\n\n\n\nyes\n");
    assert!(output.status.success(), "{output:?}");
    let proved = folder.run("policy prove ku.toml");
    assert!(proved.contains("proved  no-guests-in-confidential-rooms"), "{proved}");
    folder.run(&format!("policy build --profile ku.toml --version 1 {DATES} --out ku.note"));
    let Document::Bundle(bundle) = Document::parse(&folder.read("ku.note")).unwrap() else { panic!() };
    assert_eq!((bundle.institution.as_str(), bundle.guarantees.len()), ("ku.dk", 5));
    assert!(folder.fail(1, "policy init --out ku.toml").contains("it is not overwritten"));
    let output = folder.answer("policy init --out other.toml", "KU\nnordunet\n\nDK\n\n\n\nno\n");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("is no domain") && !folder.at("other.toml").exists(), "{error}");
    folder.change("ku.toml", "countries = [\"DK\"]", "countries = [\"Danmark\"]");
    let error = folder.fail(1, &format!("policy build --profile ku.toml --version 1 {DATES} --out x.note"));
    assert!(
        error.contains("ku.toml:17: \"Danmark\" is not an ISO 3166-1 alpha-2 country; write \"DK\""),
        "{error}"
    );
    let schema: serde_json::Value = serde_json::from_str(&folder.run("policy profile-schema")).unwrap();
    assert_eq!(schema["type"], "object");
}

#[test]
fn hours_are_shown_in_words_and_a_renewal_permits_the_same() {
    let folder = folder();
    folder.copy_example("leased-when-full/profile.toml", "leased.toml");
    let build = |version: u64, from: &str, until: &str| {
        folder.run(&format!(
            "policy build --profile leased.toml --version {version} --issued {from} --renew-by {until} --not-after {until} --out \
             {version}.note"
        ));
    };
    build(1, "2026-11-01", "2027-06-01");
    build(2, "2027-03-01", "2027-12-01");
    let diff = folder.run("policy diff 1.note 2.note");
    assert!(diff.ends_with("the new policy is not looser\n"), "{diff}");
    folder.change("leased.toml", "hours = \"08-14\"", "hours = \"08-15\"");
    build(3, "2027-03-01", "2027-12-01");
    let diff = folder.run("policy diff 1.note 3.note");
    let example = diff.lines().find(|line| line.contains("now permitted")).unwrap();
    assert!(example.contains(" could spill to a node in ") && example.contains("day 20"), "{diff}");
    assert!(example.contains(" UTC, by rule dtu-dk-spill-2"), "{diff}");

    folder.run("policy show 1.note --floor floor.note --html en.html");
    let english = folder.read("en.html");
    assert!(english.contains("<td>Monday to Friday, 08:00 to 14:00 (Europe/Copenhagen)</td>"), "{english}");
    assert!(english.contains("<td>always</td>"), "{english}");
    folder.run("policy show 1.note --floor floor.note --html da.html --language da");
    let danish = folder.read("da.html");
    assert!(
        danish.contains("<td>mandag til fredag kl. 08:00 til 14:00 (Europe/Copenhagen)</td>"),
        "{danish}"
    );
    // Words that the rule does not say are not shown.
    folder.change("1.note", "@hours(\"mon-fri 08:00-14:00", "@hours(\"mon-fri 09:00-10:00");
    folder.run("policy show 1.note --floor floor.note --html en.html");
    let english = folder.read("en.html");
    assert!(english.contains("<td>at the times of rule dtu-dk-spill-2</td>"), "{english}");
}
