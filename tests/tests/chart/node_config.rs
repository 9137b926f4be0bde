//! The configuration that the chart renders, checked by the real relay.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::files::{Owners, shown, slots};
use crate::helm::{EXAMPLES, item, named, objects, root};

/// `systir-relay check` in the pod of a node.
fn check(owners: &Owners, objects: &[Value], node: &str) -> Result<Output> {
    let pod = owners.pod(objects, node)?;
    let (pool, _) = node.rsplit_once('-').context("a node's name is POOL-NUMBER")?;
    let spec = &named(objects, "StatefulSet", pool)?["spec"]["template"]["spec"];
    let container = item(&spec["containers"], "relay")?;
    owners.mount(objects, &pod, container)?;
    let mut command = pod.command(container)?;
    // `--config FILE` is an option of the command `check` too.
    let arguments = pod.arguments(container)?;
    let mut checking = std::process::Command::new(command.get_program());
    checking.env_clear().envs(pod.environment(container)?).arg("check").args(arguments);
    command = checking;
    Ok(command.output()?)
}

#[test]
fn the_relay_accepts_the_configuration_of_every_node_of_every_example() -> Result<()> {
    for example in EXAMPLES {
        let mut owners = Owners::new()?;
        let pins = owners.pins();
        let objects = objects(example, &pins.each_ref().map(String::as_str))?;
        let nodes = slots(&objects);
        ensure!(nodes.len() >= 2, "{nodes:?}");
        for node in &nodes {
            owners.create_node_key(&objects, node)?;
        }
        for node in &nodes {
            let output = check(&owners, &objects, node)?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            let file = owners.folder.path().join(format!("{node}/etc/systir/config/{node}.toml"));
            ensure!(output.status.code() == Some(0), "{example}: {node}: {stderr}\n{}", shown(&file));
            ensure!(stderr.contains(": valid"), "{example}: {node}: {stderr}");
            // Nothing that an operator should repair.
            ensure!(stderr.lines().count() == 1, "{example}: {node}: {stderr}");
        }
    }
    Ok(())
}

#[test]
fn a_second_start_of_a_node_keeps_its_key() -> Result<()> {
    let mut owners = Owners::new()?;
    let objects = objects("one-site", &[])?;
    let first = owners.create_node_key(&objects, "cph-1")?;
    assert_eq!(owners.create_node_key(&objects, "cph-1")?, first);
    assert_ne!(owners.create_node_key(&objects, "cph-2")?, first);
    Ok(())
}

#[test]
fn a_node_whose_key_is_not_in_the_directory_says_what_is_missing() -> Result<()> {
    let mut owners = Owners::new()?;
    let pins = owners.pins();
    let objects = objects("one-site", &pins.each_ref().map(String::as_str))?;
    owners.create_node_key(&objects, "cph-1")?;
    let output = check(&owners, &objects, "cph-2")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(64), "{stderr}");
    ensure!(stderr.lines().count() == 1 && stderr.contains("no directory lists cph-2"), "{stderr}");
    Ok(())
}

#[test]
fn each_field_of_the_configuration_is_a_value_of_the_chart_or_left_out_for_a_reason() -> Result<()> {
    // Never in a ConfigMap: secrets are files of Secrets.
    // The end of a pod drains its node, so nodes need no key for `systirctl drain`.
    let left_out = [
        "keys.secret",
        "keys.allow_weak_secret",
        "room_keys.key",
        "drain.api_key",
        "drain.secret_file",
        "drain.secret",
    ];
    let mut rendered = String::new();
    for example in EXAMPLES {
        for node in crate::helm::of_kind(
            &objects(example, &[r#"traces.otlp="http://127.0.0.1:4317""#, r#"page.guestKey="ku""#])?,
            "ConfigMap",
        ) {
            for text in
                node["data"].as_object().into_iter().flat_map(|data| data.values()).filter_map(Value::as_str)
            {
                rendered += text;
            }
        }
    }
    let have = fields(&rendered);
    let mut count = 0;
    for field in fields(&std::fs::read_to_string(root().join("deploy/node.toml"))?.replace("\n# ", "\n")) {
        // Prose of the file's first lines.
        let known = !field.contains(' ');
        if known && !left_out.contains(&field.as_str()) && !field.ends_with(".threshold") {
            ensure!(have.contains(&field), "the chart has no value for {field} of deploy/node.toml");
            count += 1;
        }
    }
    ensure!(count > 40, "{count} fields");
    Ok(())
}

/// `section.field` of each line; names of tables below a section are left out.
fn fields(text: &str) -> std::collections::BTreeSet<String> {
    let mut section = String::new();
    let mut found = std::collections::BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let parts: Vec<&str> = name.split('.').collect();
            section = match parts.as_slice() {
                ["policy", kind, ..] => format!("policy.{kind}"),
                [first, ..] => (*first).to_owned(),
                [] => String::new(),
            };
        } else if let Some((field, _)) = line.split_once(" = ")
            && !section.is_empty()
            && field.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            found.insert(format!("{section}.{field}"));
        }
    }
    found
}
