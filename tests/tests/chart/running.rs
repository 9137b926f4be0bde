//! A node as the chart starts it, with a real etcd that asks for certificates, and the pod of `helm test` against it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_tests::process::{ChildProcess, eventually, log_file, output, port_block};
use systir_tests::scenario::run_scenario;
use systir_tests::secure_etcd::SecureEtcd;

use crate::files::{API_SECRET, Owners};
use crate::helm::{chart, checked, example, item, items, named, template, text};
use crate::pod::Pod;

const LIMIT: Duration = Duration::from_secs(90);

/// One site with one slot, whose machine is this one.
fn values(base: u16, etcd: &str) -> Vec<String> {
    let ports = format!(
        r#"{{"http":{},"iceTcp":{},"media":{},"quic":{base},"grpc":{},"metrics":{}}}"#,
        base + 10,
        base + 11,
        base + 12,
        base + 1,
        base + 2
    );
    vec![
        format!("network.ports={ports}"),
        r#"network.listen="0.0.0.0""#.to_owned(),
        format!(r#"etcd.endpoints=["{etcd}"]"#),
        r#"pools.cph={"slots":1,"capacity":6,"workers":1,"cpus":1,"nodeSelector":{"systir.org/pool":"cph"},"apiKeys":["ku"],"roomKeys":["ku"],"addresses":"host"}"#.to_owned(),
        format!(r#"test.url="https://localhost:{}""#, base + 10),
        r#"test.ca={"name":"web-ca","key":"ca.pem"}"#.to_owned(),
    ]
}

/// Asks a probe as the kubelet does.
async fn probe(container: &Value, name: &str, port: u16) -> Option<u16> {
    let get = &container[name]["httpGet"];
    let host = get["host"].as_str().unwrap_or("127.0.0.1");
    let url = format!("http://{host}:{port}{}", get["path"].as_str()?);
    Some(reqwest::get(url).await.ok()?.status().as_u16())
}

#[test]
fn a_node_of_the_chart_starts_and_passes_helm_test() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let etcd = SecureEtcd::start("127.0.0.1", base + 20).await?;
        let mut owners = Owners::new()?;
        let mut sets = values(base, etcd.url());
        sets.extend(owners.pins());
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let objects = checked(&template(&[example("one-site")], &sets)?)?;
        etcd.write_client("cph-1", owners.folder.path(), "cph-1")?;
        let read = |name: &str| std::fs::read_to_string(owners.folder.path().join(name));
        let files = [read("etcd-ca.pem")?, read("etcd-cph-1.pem")?, read("etcd-cph-1.key")?];
        owners.etcd.insert("cph-1".to_owned(), files);
        owners.create_node_key(&objects, "cph-1")?;
        // The operator signs a directory with that key, and gives the documents to the chart.
        let documents = owners.documents()?;
        let notes: serde_json::Map<_, _> =
            documents.iter().map(|(name, note)| (name.clone(), Value::from(note.as_str()))).collect();
        let notes = format!("documents={}", serde_json::json!({"configMap": "", "notes": notes}));
        let sets: Vec<&str> = sets.iter().copied().chain([notes.as_str()]).collect();
        let objects = checked(&template(&[example("one-site")], &sets)?)?;
        let rendered = &named(&objects, "ConfigMap", "systir-documents")?["data"];
        for (name, note) in &documents {
            ensure!(rendered[name] == note.as_str(), "{name} is not as it was signed: {}", rendered[name]);
        }

        let pod = owners.pod(&objects, "cph-1")?;
        let spec = &named(&objects, "StatefulSet", "cph")?["spec"]["template"]["spec"];
        let relay = item(&spec["containers"], "relay")?;
        owners.mount(&objects, &pod, relay)?;
        let mut command = pod.command(relay)?;
        command.stdin(Stdio::null()).stdout(log_file("cph-1")?).stderr(log_file("cph-1")?);
        let mut process = ChildProcess::start(&mut command, "cargo build --workspace")?;
        for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
            eventually(name, LIMIT, || async { (probe(relay, name, base + 2).await? == 200).then_some(()) })
                .await?;
        }
        helm_test(&owners, &objects).await?;

        // What Kubernetes sends after preStop. It ends well within the grace period.
        process.signal("TERM")?;
        let status = process.wait(Duration::from_secs(30))?;
        ensure!(status.success(), "{status}");
        Ok(())
    })
}

/// Runs the containers of the test's pod at the same time; it succeeds if all do.
async fn helm_test(owners: &Owners, objects: &[Value]) -> Result<()> {
    let object = named(objects, "Pod", "systir-test")?;
    let mut pod = Pod::new("systir-test", &object["spec"], owners.folder.path());
    let secret = (text(object, "/spec/containers/0/env/1/valueFrom/secretKeyRef/name")?, "ku.secret");
    pod.secrets.insert((secret.0.to_owned(), secret.1.to_owned()), API_SECRET.to_owned());
    let mut running = Vec::new();
    for container in items(&object["spec"]["containers"]) {
        pod.mount(container, |_| Ok(vec![("ca.pem".to_owned(), owners.http[0].clone())]))?;
        let command = pod.command(container)?;
        running.push((container, tokio::spawn(output(command, LIMIT))));
    }
    ensure!(running.len() == 2, "{} containers", running.len());
    for (container, ended) in running {
        let output = ended.await??;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{}: {stdout}{stderr}", container["name"]);
        if container["name"] == "participants" {
            let report: Value = serde_json::from_str(&stdout).context("no report")?;
            ensure!(report["joined"] == 2 && report["nodes"]["cph-1"] == 2, "{report}");
        } else {
            ensure!(stdout.contains("cph-1") && stdout.contains("DK"), "{stdout}");
        }
    }
    // Elsewhere it fails.
    let residency = item(&object["spec"]["containers"], "residency")?;
    let mut command = pod.command(residency)?;
    command.arg("--country=NO");
    let elsewhere: Vec<String> = pod
        .arguments(residency)?
        .into_iter()
        .filter(|argument| !argument.starts_with("--country") && !argument.starts_with("--wait"))
        .collect();
    let mut command = std::process::Command::new(command.get_program());
    command.env_clear().envs(pod.environment(residency)?).args(elsewhere).args(["--country=NO", "--wait=0"]);
    let output = output(command, LIMIT).await?;
    ensure!(!output.status.success(), "the room is said to be in Norway");
    Ok(())
}

#[test]
fn the_chart_can_be_packaged_for_a_registry() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (chart, to) = (chart().display().to_string(), folder.path().display().to_string());
    let output = crate::helm::helm(&["package", &chart, "--destination", &to])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(folder.path().join("systir-0.1.0.tgz").is_file());
    Ok(())
}
