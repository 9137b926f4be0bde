//! The scripts of `deploy/two-machines`, run in one folder: what they make together are two valid nodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_tests::process::{built, output};
use systir_tests::scenario::run_scenario;

const LIMIT: Duration = Duration::from_secs(60);

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/two-machines")
}

/// Runs a program in the folder of all parties, with the programs that were built: its standard output.
async fn run(folder: &Path, program: &Path, arguments: &[&str]) -> Result<String> {
    let programs = built("systirctl")?.parent().context("no folder")?.to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
    let owner = Command::new("id").arg("-un").output()?.stdout;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env("PATH", path)
        .env("OWNER", String::from_utf8(owner)?.trim())
        .env("ETC", folder.join("etc").join(arguments.first().unwrap_or(&"")))
        .env("SYSTIR_POLICY__STATE", folder.join("state"));
    let output = output(command, LIMIT).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {arguments:?}: {stderr}", program.display());
    Ok(String::from_utf8(output.stdout)?)
}

/// The content of all secret files below a folder, by path.
fn secrets(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    const SECRET: [&str; 4] = ["key", "node-key", "room-key", "secret"];
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let is_secret =
                path.extension().and_then(|end| end.to_str()).is_some_and(|end| SECRET.contains(&end));
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if is_secret {
                found.insert(path.clone(), std::fs::read(path)?);
            }
        }
    }
    Ok(found)
}

#[test]
fn the_scripts_of_all_parties_make_two_valid_nodes() -> Result<()> {
    run_scenario(async {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let script = |name: &str| scripts().join(name);
        // The nodes' web certificates come from elsewhere.
        for node in ["cph-1", "sto-1"] {
            let web = at.join("web").join(node);
            std::fs::create_dir_all(&web)?;
            let made = rcgen::generate_simple_self_signed([format!("{node}.example")])?;
            std::fs::write(web.join("fullchain.pem"), made.cert.pem())?;
            std::fs::write(web.join("key.pem"), made.signing_key.serialize_pem())?;
            run(at, &script("node-key.sh"), &[node]).await?;
        }
        for party in ["operator.sh", "etcd.sh", "institution.sh"] {
            run(at, &script(party), &[]).await?;
        }
        let systirctl = built("systirctl")?;
        for node in ["cph-1", "sto-1"] {
            // It ends with `systir-relay check`.
            run(at, &script("node.sh"), &[node]).await?;
            let config = at.join("etc").join(node).join("node.toml").display().to_string();
            // The documents of this node approve both for ku.dk.
            let roles = run(at, &systirctl, &["--json", "etcd", "roles", "--config", &config]).await?;
            let roles: Value = serde_json::from_str(&roles)?;
            let nodes = roles["nodes"].as_array().context("no nodes")?;
            let approved: Vec<_> =
                nodes.iter().map(|node| (&node["node"], &node["institutions"][0])).collect();
            let ku = &Value::from("ku.dk");
            assert_eq!(approved, [(&"cph-1".into(), ku), (&"sto-1".into(), ku)], "{roles:#}");
        }
        // A second run overwrites no key.
        let before = secrets(at)?;
        assert!(before.len() > 10, "{:?}", before.keys());
        for (party, node) in
            [("operator.sh", ""), ("etcd.sh", ""), ("institution.sh", ""), ("node-key.sh", "cph-1")]
        {
            ensure!(run(at, &script(party), &[node]).await.is_err(), "{party} runs twice");
        }
        ensure!(secrets(at)? == before, "a second run changes a secret");
        Ok(())
    })
}

#[test]
fn the_readme_names_each_script() -> Result<()> {
    let text = std::fs::read_to_string(scripts().join("README.md"))?;
    let mut named = 0;
    for entry in std::fs::read_dir(scripts())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sh") {
            assert!(text.contains(&format!("`{name}")), "{name} is not in the README");
            named += 1;
        }
    }
    assert_eq!(named, 5);
    Ok(())
}
