//! The journals of a meeting of two nodes: `systirctl audit` shows what was let in and kept out, and a stricter policy is
//! tried on it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::operator_commands::systirctl;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

const NODES: [&str; 2] = ["cph-1", "sto-1"];

fn load(cluster: &Cluster, participants: usize) -> Config {
    Config {
        url: cluster.url("cph-1"),
        api_key: "devkey".to_owned(),
        api_secret: "secret".to_owned(),
        room: "doctoral-defence".to_owned(),
        identity_prefix: "sigrid".to_owned(),
        participants,
        publishers: Some(0),
        duration: Duration::from_secs(1),
        ..Config::default()
    }
}

/// Copies the journals of the nodes into one folder, as an operator collects them.
fn collect(folder: &Path) -> Result<()> {
    for node in NODES {
        let (from, to) = (folder.join(format!("{node}.state/journal")), folder.join("journals").join(node));
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn texts(folder: &Path) -> Result<String> {
    let mut texts = String::new();
    for node in NODES {
        for entry in fs::read_dir(folder.join("journals").join(node))? {
            texts.push_str(&fs::read_to_string(entry?.path())?);
        }
    }
    Ok(texts)
}

fn count(lines: &Value, matches: impl Fn(&Value) -> bool) -> usize {
    lines.as_array().into_iter().flatten().filter(|line| matches(line)).count()
}

#[test]
fn the_journals_of_a_meeting_show_the_spill_that_a_stricter_policy_refuses() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let report = systir_load::run(load(&cluster, 3)).await?;
        ensure!(report.joined == 2, "{report:?}");
        let folder = cluster.folder();
        let placed = |line: &Value, there: &str| {
            line["at"] == "placement" && line["outcome"] == "allowed" && line["about"]["node"] == there
        };
        let lines = eventually("the decisions are in the journals", Duration::from_secs(20), || async {
            collect(&folder).ok()?;
            let found = systirctl(&cluster, "cph-1", &["--json", "audit", "journals"]).await.ok()?;
            let lines = serde_json::from_str::<Value>(&found).ok()?["lines"].clone();
            let joins =
                count(&lines, |line| placed(line, "cph-1")) + count(&lines, |line| placed(line, "sto-1"));
            let refused = |line: &Value| line["at"] == "placement" && line["reason"] == "approved-full";
            (joins == 2 && count(&lines, refused) == 1).then_some(lines)
        })
        .await?;
        let spilled =
            |line: &Value| placed(line, "sto-1") && line["rules"] == serde_json::json!(["ku-spill-nordic"]);
        ensure!(count(&lines, spilled) == 1, "{lines:#}");
        let seat =
            |line: &Value| line["node"] == "sto-1" && line["at"] == "seat" && line["outcome"] == "allowed";
        ensure!(count(&lines, seat) == 1, "{lines:#}");
        let texts = texts(&folder)?;
        for name in ["doctoral", "sigrid", "127.0.0.1", "secret"] {
            ensure!(!texts.contains(name), "{name} is in the journals: {texts}");
        }
        let shown = systirctl(&cluster, "cph-1", &["audit", "journals", "--outcome", "refused"]).await?;
        ensure!(shown.contains("approved-full") && !shown.contains("spill-approved"), "{shown}");

        let stricter = cluster.documents()?.bundle(9, |bundle| {
            bundle.policy = bundle
                .policy
                .replace(r#"resource.country in Zone::"Nordic""#, r#"resource.country == Country::"DK""#);
        })?;
        fs::write(folder.join("stricter.note"), stricter)?;
        let with = ["--floor", "documents/floor.note", "--directory", "documents/directory.note"];
        let what_if = [&["--json", "policy", "what-if", "journals", "stricter.note"][..], &with].concat();
        let found: Value = serde_json::from_str(&systirctl(&cluster, "cph-1", &what_if).await?)?;
        let refused = |change: &Value| {
            change["at"] == "placement" && change["change"] == "refused" && change["about"]["node"] == "sto-1"
        };
        ensure!(count(&found["changes"], refused) == 1, "{found:#}");
        ensure!(count(&found["changes"], |change| change["at"] == "placement") == 1, "{found:#}");
        ensure!(found["notes"] == serde_json::json!([]), "{found:#}");
        Ok(())
    })
}
