//! What restarts nodes, and what does not.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::helm::{named, objects};

fn template(sets: &[&str], pool: &str) -> Result<Value> {
    Ok(named(&objects("story", sets)?, "StatefulSet", pool)?["spec"]["template"].clone())
}

#[test]
fn a_changed_configuration_restarts_the_nodes_of_the_pools_that_it_is_for() -> Result<()> {
    for set in [
        "pools.cph.capacity=250",
        r#"logs.filter="debug""#,
        "policy.grantSeconds=300",
        r#"etcd.endpoints=["https://192.0.2.9:2379"]"#,
        r#"image.digest="sha256:0000000000000000000000000000000000000000000000000000000000000000""#,
    ] {
        ensure!(template(&[set], "cph")? != template(&[], "cph")?, "{set} restarts nothing");
    }
    ensure!(template(&["pools.cph.capacity=250"], "sto")? == template(&[], "sto")?);
    Ok(())
}

#[test]
fn documents_pinned_keys_and_new_slots_restart_nobody() -> Result<()> {
    let note = "systir.org/bundle/v1\\nversion = 2\\n\\n— ku.dk/2026 AAAA\\n";
    let notes = format!(r#"documents={{"configMap":"","notes":{{"ku.dk.note":"{note}"}}}}"#);
    let before = template(&[&notes], "cph")?;
    let newer = notes.replace("version = 2", "version = 3");
    ensure!(template(&[&newer], "cph")? == before, "a new bundle restarts nodes");
    let two = r#"operators.nordunet={"trustDomain":"nordu.net","threshold":1,"keys":["nordu.net/2026+6ea78646+AZa8q1d3JGvGx27VuaGaywQkLH4qkSo3/jTAjDYgp3ph","nordu.net/2027+6ea78647+AZa8q1d3JGvGx27VuaGaywQkLH4qkSo3/jTAjDYgp3ph"]}"#;
    ensure!(template(&[two], "cph")? == template(&[], "cph")?, "a pinned key restarts nodes");
    let slot = [
        "pools.cph.slots=3",
        "pools.cph.replicas=3",
        r#"pools.cph.nodes.cph-3={"media":["192.0.2.12"],"links":"192.0.2.12"}"#,
    ];
    ensure!(template(&slot, "cph")? == template(&[], "cph")?, "a new slot restarts nodes");
    // The running nodes read them from the mounted folders.
    let objects = objects("story", &[])?;
    let spec = &named(&objects, "StatefulSet", "cph")?["spec"]["template"]["spec"];
    for container in spec["containers"].as_array().context("no containers")? {
        for mount in container["volumeMounts"].as_array().context("no mounts")? {
            ensure!(mount.get("subPath").is_none() && mount.get("subPathExpr").is_none(), "{mount}");
        }
    }
    Ok(())
}

#[test]
fn a_new_version_of_the_chart_restarts_nobody_by_itself_and_changes_no_immutable_field() -> Result<()> {
    let objects = objects("story", &[])?;
    for pool in ["cph", "sto", "aws-sto"] {
        let spec = &named(&objects, "StatefulSet", pool)?["spec"];
        for labels in [&spec["selector"]["matchLabels"], &spec["template"]["metadata"]["labels"]] {
            for version in ["helm.sh/chart", "app.kubernetes.io/version"] {
                ensure!(labels.get(version).is_none(), "{labels}");
            }
        }
        let claim = &spec["volumeClaimTemplates"][0];
        ensure!(claim["metadata"].get("labels").is_none(), "{claim}");
    }
    Ok(())
}
