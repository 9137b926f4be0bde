//! The commands of `docs/install-kubernetes.md`, run in order, and the firewalls' ports.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use systir_tests::process::built;

use crate::helm::{chart, named, objects, root};

/// Stands for kubectl: files that it is given must exist, and the log of the init container is that of the real command.
const KUBECTL: &str = r#"#!/bin/sh
set -eu
for argument in "$@"; do
    case $argument in
        --from-file=*) test -s "${argument##*=}" ;;
        --cert=* | --key=*) test -s "${argument#*=}" ;;
    esac
done
case $1 in
    logs) systirctl key create --keep --name "nordu.net/$2" --out "volumes/$2" ;;
    label | create | delete | rollout) ;;
    *) echo "kubectl $1 is not expected" >&2; exit 1 ;;
esac
"#;

/// Stands for a cluster: Helm renders what it would install.
const HELM: &str = r#"#!/bin/sh
set -eu
[ "$1" = test ] && exit 0
shift
[ "$1" = --install ] && shift
"$HELM_PROGRAM" template "$@" > rendered.yaml
"#;

/// The text of all blocks of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence)
        .skip(1)
        .filter_map(|part| part.split_once("```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

fn program(folder: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(name), text)?;
    Ok(std::fs::set_permissions(folder.join(name), Permissions::from_mode(0o755))?)
}

#[test]
fn the_commands_of_the_installation_run_in_order() -> Result<()> {
    let page = std::fs::read_to_string(root().join("docs/install-kubernetes.md"))?;
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let programs = at.join("programs");
    std::fs::create_dir(&programs)?;
    program(&programs, "kubectl", KUBECTL)?;
    program(&programs, "helm", HELM)?;
    // What the page takes from elsewhere.
    let web = rcgen::generate_simple_self_signed(["meet.ku.dk".to_owned()])?;
    for file in ["etcd/ca.pem", "etcd/cph-1.pem", "etcd/cph-2.pem", "web/fullchain.pem"] {
        std::fs::create_dir_all(at.join(file).parent().context("no folder")?)?;
        std::fs::write(at.join(file), web.cert.pem())?;
    }
    for file in ["etcd/cph-1.key", "etcd/cph-2.key", "web/key.pem"] {
        std::fs::write(at.join(file), web.signing_key.serialize_pem())?;
    }
    let values = blocks(&page, "yaml").into_iter().find(|block| block.starts_with("# values.yaml\n"));
    std::fs::write(at.join("values.yaml"), values.context("no values.yaml")?)?;
    let commands = blocks(&page, "sh");
    ensure!(commands.len() >= 6, "{} blocks", commands.len());
    std::fs::write(at.join("page.sh"), format!("set -eu\n{}", commands.concat()))?;
    let ours = built("systirctl")?.parent().context("no folder")?.to_owned();
    let path = format!("{}:{}:{}", programs.display(), ours.display(), std::env::var("PATH")?);
    let output = Command::new("sh")
        .arg("page.sh")
        .current_dir(at)
        .env("PATH", path)
        .env("CHART", chart())
        .env("HELM_PROGRAM", root().canonicalize()?.join("target/tools/helm"))
        .env("POLICIES", root().canonicalize()?.join("services/policy/policies"))
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    let objects = crate::helm::checked(&std::fs::read_to_string(at.join("rendered.yaml"))?)?;
    let notes = &named(&objects, "ConfigMap", "systir-documents")?["data"];
    let signed = std::fs::read_to_string(at.join("operator/directory.note"))?;
    ensure!(notes["directory.note"] == signed.as_str(), "the chart has another directory: {notes}");
    ensure!(signed.contains("id = \"cph-1\"") && signed.contains("id = \"cph-2\""), "{signed}");
    Ok(())
}

#[test]
fn the_firewalls_open_the_ports_of_the_chart_and_no_others() -> Result<()> {
    let objects = objects("one-site", &[])?;
    let relay = &named(&objects, "StatefulSet", "cph")?["spec"]["template"]["spec"]["containers"][0];
    let ports: Vec<u64> = crate::helm::items(&relay["ports"])
        .filter(|port| !port["name"].as_str().is_some_and(|name| name.starts_with("media-")))
        .filter_map(|port| port["containerPort"].as_u64())
        .collect();
    ensure!(ports.len() == 5, "{ports:?}");
    for file in ["nftables.conf", "cilium.yaml", "calico.yaml"] {
        let text = std::fs::read_to_string(root().join("deploy/firewalls").join(file))?;
        for port in &ports {
            ensure!(text.contains(&port.to_string()), "{file} has no port {port}");
        }
        // One for each of 16 workers.
        ensure!(text.contains("7882") && text.contains("7897"), "{file} lacks ports of media");
        let numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| word.len() == 4 && word.starts_with("78"));
        for number in numbers {
            let number: u64 = number.parse()?;
            ensure!(ports.contains(&number) || [7882, 7897].contains(&number), "{file} names port {number}");
        }
    }
    Ok(())
}
