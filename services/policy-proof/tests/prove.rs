//! Proofs of the examples, and of policies that break what they state. Needs cvc5.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

#[allow(dead_code, reason = "each test uses a part")]
mod examples;

use examples::{Example, NAMES, floor, floor_model};
use systir_documents::parse_rfc3339;
use systir_policy::{Action, PolicyTime};
use systir_policy_proof::{Language, PolicyModel, ProofError, Prover};

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The example with one change of its rules.
fn changed(name: &str, from: &str, to: &str) -> PolicyModel {
    let mut example = Example::read(name);
    assert!(example.bundle.policy.contains(from), "{from} is not in {}", example.bundle.policy);
    example.bundle.policy = example.bundle.policy.replacen(from, to, 1);
    example.model()
}

#[test]
fn the_examples_keep_their_guarantees_and_decide_as_their_tables_expect() {
    run(async {
        let mut prover = Prover::start().await.unwrap();
        for name in NAMES {
            let example = Example::read(name);
            let report = prover.prove(&example.model()).await.unwrap();
            assert!(report.is_proved(), "{name}: {report:#?}");
            assert!(report.guarantees.len() > 8 && report.asked > 2, "{name}: {report:#?}");
            let table = Example::table(name);
            let engine = example.engine(&table.own_directories()).unwrap();
            assert_eq!(table.problems(&engine, &example.bundle.institution), [], "{name}");
        }
        let report = prover.prove(&floor_model(&floor()).unwrap()).await.unwrap();
        assert!(report.is_proved(), "{report:#?}");
    });
}

#[test]
fn a_leased_machine_that_a_rule_lets_in_is_told_in_a_sentence() {
    run(async {
        let mut prover = Prover::start().await.unwrap();
        let machine = "resource.own_machine &&\n  resource.country in Zone::\"Nordic\"";
        let mut example = Example::read("copenhagen");
        let (before, spill) = example.bundle.policy.split_once("@id(\"ku-dk-spill-1\")").unwrap();
        let spill = spill.replacen(machine, "resource.country in Zone::\"Nordic\"", 1);
        let (rules, control) = spill.split_once("@id(\"ku-dk-host-control\")").unwrap();
        let (_, rest) = control.split_once(";\n").unwrap();
        example.bundle.policy = format!("{before}@id(\"ku-dk-spill-1\"){rules}{rest}");
        let report = prover.prove(&example.model()).await.unwrap();
        assert!(!report.is_proved());
        let broken = report.guarantees.iter().find(|one| one.id == "controlled-only-from-eea").unwrap();
        assert_eq!(broken.refuted.len(), 2, "spill and transit: {broken:?}");
        let sentence = broken.refuted[0].sentence(Language::English);
        for part in [
            "a standard room of ku.dk without end-to-end encryption could spill to a node in ",
            ", run by nordunet (controlled from ",
            ") on a machine of amazon (controlled from US), by rule ku-dk-spill-1",
        ] {
            assert!(sentence.contains(part), "{sentence}");
        }
        let kept = report.guarantees.iter().find(|one| one.id == "machines-only-in-nordic").unwrap();
        assert!(kept.is_proved() && kept.proved.len() == 9, "{kept:?}");
    });
}

#[test]
fn a_zone_means_its_countries_of_today() {
    run(async {
        let mut prover = Prover::start().await.unwrap();
        let mut example = Example::read("copenhagen");
        // The rules follow the zone, the guarantee says what the zone was.
        let nordic =
            example.bundle.guarantees.iter_mut().find(|one| one.id == "machines-only-in-nordic").unwrap();
        nordic.holds =
            "resource.country in [Country::\"DK\", Country::\"FI\", Country::\"IS\", Country::\"NO\", Country::\"SE\"]"
                .to_owned();
        assert!(prover.prove(&example.model()).await.unwrap().is_proved());
        example.bundle.zones.get_mut("Nordic").unwrap().push("EE".to_owned());
        let report = prover.prove(&example.model()).await.unwrap();
        let broken = report.guarantees.iter().find(|one| one.id == "machines-only-in-nordic").unwrap();
        let sentence = broken.refuted[0].sentence(Language::English);
        assert!(sentence.contains("a node in EE, run by nordunet"), "{sentence}");
    });
}

#[test]
fn a_diff_tells_looser_stricter_and_same_for_each_action() {
    run(async {
        let mut prover = Prover::start().await.unwrap();
        let old = Example::read("leased-when-full").model();
        let same = prover.diff(&old, &old).await.unwrap();
        assert!(!same.is_looser() && same.actions.iter().all(|one| one.stricter.is_none()));
        let new = changed("leased-when-full", "principal.e2ee &&\n  ", "");
        let looser = prover.diff(&old, &new).await.unwrap();
        let spill = looser.actions.iter().find(|one| one.action == Action::Spill).unwrap();
        let sentence = spill.looser.as_ref().unwrap().sentence(Language::English);
        assert!(looser.is_looser() && spill.stricter.is_none(), "{looser:#?}");
        // [control] asks for encryption where the owner is controlled from outside the EEA.
        assert!(
            sentence.contains("without end-to-end encryption could spill") && !sentence.contains("US"),
            "{sentence}"
        );
        let new = changed("leased-when-full", " || principal.e2ee", "");
        let stricter = prover.diff(&old, &new).await.unwrap();
        assert!(!stricter.is_looser());
        let spill = stricter.actions.iter().find(|one| one.action == Action::Spill).unwrap();
        let sentence = spill.stricter.as_ref().unwrap().sentence(Language::English);
        assert!(sentence.contains("with end-to-end encryption could spill"), "{sentence}");
        assert!(prover.diff(&new, &old).await.unwrap().is_looser());
        // A host that the vocabulary gets is looser, although no rule changed.
        let mut example = Example::read("exam-rooms");
        let before = example.model();
        example.bundle.policy = example.bundle.policy.replacen(
            "resource.host in [Host::\"hetzner\", Host::\"sunet\"] &&\n  ",
            "",
            1,
        );
        let any_host = example.model();
        assert!(!prover.diff(&before, &any_host).await.unwrap().is_looser());
        example.bundle.vocabulary.hosts.insert("ovh".to_owned());
        let wider = prover.diff(&any_host, &example.model()).await.unwrap();
        let spill = wider.actions.iter().find(|one| one.action == Action::Spill).unwrap();
        let sentence = spill.looser.as_ref().unwrap().sentence(Language::English);
        assert!(sentence.contains("on a machine of ovh"), "{sentence}");
        // Rooms that are no longer confidential.
        let mut example = Example::read("copenhagen");
        let before = example.model();
        example.bundle.classes.clear();
        let diff = prover.diff(&before, &example.model()).await.unwrap();
        assert_eq!(diff.weaker_classes, ["rooms named exam-*: were confidential, are standard"]);
        assert!(diff.is_looser());
    });
}

#[test]
fn a_counterexample_says_the_time_if_it_matters() {
    run(async {
        let mut prover = Prover::start().await.unwrap();
        // An hour more in winter.
        let new = changed("leased-when-full", "toTime() < duration(\"13h\")", "toTime() < duration(\"14h\")");
        let report = prover.prove(&new).await.unwrap();
        let broken = report.guarantees.iter().find(|one| !one.is_proved()).unwrap();
        assert_eq!(broken.id, "leased-machines-only-on-weekdays");
        for example in &broken.refuted {
            let time = example.time.as_ref().unwrap();
            let at = time.at.as_ref().unwrap();
            assert_eq!(PolicyTime::at(parse_rfc3339(at).unwrap()).weekday(), time.weekday);
            assert_eq!(&at[11..13], "13", "{at}");
            let sentence = example.sentence(Language::English);
            assert!(sentence.contains(&format!("day {} at 13:", &at[..10])), "{sentence}");
        }
        let old = Example::read("leased-when-full").model();
        let diff = prover.diff(&old, &new).await.unwrap();
        let spill = diff.actions.iter().find(|one| one.action == Action::Spill).unwrap();
        assert!(spill.stricter.is_none() && spill.looser.as_ref().unwrap().time.is_some(), "{spill:?}");
        let new = changed(
            "leased-when-full",
            "resource.country == Country::\"DK\"",
            "resource.country in [Country::\"SE\"]",
        );
        let diff = prover.diff(&old, &new).await.unwrap();
        let home = diff.actions.iter().find(|one| one.action == Action::Home).unwrap();
        assert_eq!(home.looser.as_ref().unwrap().time, None, "it does not matter");
    });
}

#[test]
fn a_bundle_is_compared_with_another_institutions_guarantees_and_with_a_floor() {
    run(async {
        let mut prover = Prover::start().await.unwrap();
        let floor = floor_model(&floor()).unwrap();
        for name in NAMES {
            let found = prover.compare_floor(&floor, &Example::read(name).model()).await.unwrap();
            assert!(found.is_compatible(), "{name}: {found:#?}");
        }
        // Copenhagen requires what a policy with leased machines does not keep.
        let required = Example::read("copenhagen").model();
        let found =
            prover.compare_floor(&required, &Example::read("leased-when-full").model()).await.unwrap();
        assert!(!found.is_compatible());
        let excess = found
            .excess
            .iter()
            .find(|one| one.guarantee.as_deref() == Some("never-on-leased-machines"))
            .unwrap();
        let sentence = excess.permitted.sentence(Language::English);
        assert!(
            sentence.contains("on a machine of amazon") && sentence.contains("dtu-dk-spill-2"),
            "{sentence}"
        );
    });
}

#[test]
fn a_missing_old_or_wrong_solver_proves_nothing() {
    run(async {
        let missing = Prover::start_command("/nowhere/cvc5").await.unwrap_err().to_string();
        assert!(missing.contains("apt-get install cvc5"), "{missing}");
        let other = Prover::start_command("cat").await.unwrap_err().to_string();
        assert!(other.contains("cvc5 1.0.3 or newer is needed"), "{other}");
        // A solver that answers everything with the answer before, and one that always says what proves.
        let folder = std::env::temp_dir().join(format!("systir-solver-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let solver = |name: &str, body: &str| {
            let script = folder.join(name);
            let text = format!(
                "#!/bin/sh\n[ \"$1\" = --version ] && {{ echo 'This is cvc5 version 1.0.3'; exit; }}\n{body}\n"
            );
            std::fs::write(&script, text).unwrap();
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            script.to_str().unwrap().to_owned()
        };
        let model = Example::read("copenhagen").model();
        for (name, body) in [
            ("always", "while read -r line; do case \"$line\" in *check-sat*) echo unsat;; esac; done"),
            (
                "late",
                "last=unsat; next=sat\nwhile read -r line; do case \"$line\" in *check-sat*) echo $last; swap=$last; \
                 last=$next; next=$swap;; esac; done",
            ),
        ] {
            let mut prover = Prover::start_command(&solver(name, body)).await.unwrap();
            let error = prover.prove(&model).await.unwrap_err();
            assert!(matches!(error, ProofError::Canary { .. }), "{name}: {error}");
        }
        // One that falls out of step during the second proof.
        let asked = Prover::start().await.unwrap().prove(&model).await.unwrap().asked;
        let lag = format!(
            "cvc5 \"$@\" | while read -r line; do n=$((n + 1)); [ $n -le {} ] && last=$line; echo \"$last\"; last=$line; done",
            asked + 4
        );
        let mut prover = Prover::start_command(&solver("falls-behind", &lag)).await.unwrap();
        assert!(prover.prove(&model).await.unwrap().is_proved());
        let error = prover.prove(&model).await.unwrap_err();
        assert!(matches!(error, ProofError::Canary { .. }), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

#[test]
fn a_policy_without_guarantees_is_not_proved() {
    run(async {
        let mut example = Example::read("copenhagen");
        example.bundle.guarantees.clear();
        example.floor.guarantees.clear();
        let error = Prover::start().await.unwrap().prove(&example.model()).await.unwrap_err();
        assert!(matches!(error, ProofError::NoGuarantee(_)), "{error}");
    });
}
