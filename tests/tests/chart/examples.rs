//! The examples: linted, valid for three versions of Kubernetes, and as expected.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::helm::{EXAMPLES, chart, checked, example, helm, named, objects, of_kind, root, script, template};

/// Set it to write the expected files anew.
fn renew() -> bool {
    std::env::var_os("SYSTIR_RENEW").is_some()
}

/// Compares a file with what it should be, or writes it.
fn expect(file: &str, text: &str) -> Result<()> {
    let path = root().join(file);
    if renew() {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        return Ok(std::fs::write(path, text)?);
    }
    let expected = std::fs::read_to_string(&path).with_context(|| format!("{file}: run make chart-renew"))?;
    let first = expected.lines().zip(text.lines()).position(|(old, new)| old != new);
    ensure!(
        expected == text,
        "{file} is not what the chart renders, from line {} on: if the change is wanted, run make chart-renew and read the \
         difference",
        first.map_or_else(|| expected.lines().count().min(text.lines().count()), |line| line + 1)
    );
    Ok(())
}

#[test]
fn every_example_passes_lint_without_a_warning() -> Result<()> {
    for name in EXAMPLES {
        let (chart, values) = (chart().display().to_string(), example(name).display().to_string());
        let output = helm(&["lint", "--strict", "--values", &values, &chart])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && text.contains("0 chart(s) failed"), "{name}: {text}");
        ensure!(!text.contains("[WARNING]") && !text.contains("[ERROR]"), "{name}: {text}");
    }
    Ok(())
}

#[test]
fn every_example_renders_what_is_expected_and_valid_for_each_version_of_kubernetes() -> Result<()> {
    for name in EXAMPLES {
        let text = template(&[example(name)], &[])?;
        checked(&text)?;
        // The dashboard is a file of the chart.
        let without = text
            .split("---\n")
            .filter(|object| !object.contains("# Source: systir/templates/dashboard.yaml"));
        let text = without.collect::<Vec<_>>().join("---\n");
        expect(&format!("tests/chart/golden/{name}.yaml"), &text)?;
    }
    Ok(())
}

#[test]
fn the_schemas_notice_a_misspelt_field_and_a_key_that_is_written_twice() -> Result<()> {
    let good = template(&[example("story")], &[])?;
    for (right, wrong) in [
        ("dnsPolicy:", "dnsPolice:"),
        ("maxUnavailable: 1", "maxUnavailable: [1]"),
        ("podMetricsEndpoints:", "podMetricEndpoints:"),
        ("minReplicaCount: 0", "minReplicas: 0"),
        ("weight: 1", "weight: heavy"),
        ("hostNetwork: true", "hostNetwork: true\n      hostNetwork: true"),
    ] {
        let changed = good.replace(right, wrong);
        ensure!(changed != good && checked(&changed).is_err(), "{wrong} is not noticed");
    }
    Ok(())
}

#[test]
fn names_are_short_enough_and_unique_even_with_long_names_of_release_and_pool() -> Result<()> {
    // The longest name, and one that YAML would take for another type.
    let values = ["a-pool-with-a-name-as-long-as-is-allowed", "true"].map(|pool| {
        let one = r#"{"slots":1,"capacity":1,"workers":1,"nodeSelector":{"a":"b"},"addresses":"host"}"#;
        format!("pools.{pool}={one}")
    });
    let sets: Vec<&str> = values.iter().map(String::as_str).collect();
    for name in EXAMPLES {
        let mut seen = BTreeSet::new();
        for object in objects(name, &sets)? {
            let (kind, name) =
                (object["kind"].to_string(), object["metadata"]["name"].as_str().context("no name")?);
            // A pod's name is a label of its own; a StatefulSet adds a revision to its own.
            let limit = if kind.contains("StatefulSet") { 52 } else { 63 };
            ensure!(name.len() <= limit || kind.contains("Policy"), "{kind} {name}");
            ensure!(seen.insert((kind.clone(), name.to_owned())), "{kind} {name} appears twice");
        }
    }
    Ok(())
}

#[test]
fn no_object_that_the_chart_makes_holds_a_secret() -> Result<()> {
    for name in EXAMPLES {
        ensure!(of_kind(&objects(name, &[])?, "Secret").next().is_none(), "{name} makes a Secret");
    }
    Ok(())
}

#[test]
fn the_table_of_values_in_the_readme_is_that_of_the_values_file() -> Result<()> {
    let values = std::fs::read_to_string(chart().join("values.yaml"))?;
    let table = script("values-table", &[], &values)?;
    let file = "helm/systir/README.md";
    let readme = std::fs::read_to_string(root().join(file))?;
    let (before, rest) = readme.split_once("<!-- values -->\n").context("no place for the table")?;
    let (_, after) = rest.split_once("<!-- end of values -->\n").context("no end of the table")?;
    expect(file, &format!("{before}<!-- values -->\n{table}<!-- end of values -->\n{after}"))
}

#[test]
fn the_schema_knows_exactly_the_values_that_there_are() -> Result<()> {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json"))?)?;
    let values = std::fs::read_to_string(chart().join("values.yaml"))?;
    let documented = script("values-table", &[std::path::Path::new("--paths")], &values)?;
    for path in documented.lines() {
        let mut at = &schema;
        for part in path.split('.') {
            at = &at["properties"][part];
            ensure!(at.is_object(), "values.schema.json does not know {path}");
        }
    }
    closed(&schema, "")
}

/// Every object with fields refuses others.
fn closed(schema: &Value, path: &str) -> Result<()> {
    if let Some(properties) = schema["properties"].as_object() {
        ensure!(schema["additionalProperties"] == false, "{path} accepts unknown fields");
        for (name, inner) in properties {
            closed(inner, &format!("{path}.{name}"))?;
        }
    }
    for inner in
        [&schema["additionalProperties"], &schema["items"]].into_iter().filter(|inner| inner.is_object())
    {
        closed(inner, path)?;
    }
    Ok(())
}

#[test]
fn the_approver_gives_each_pool_certificates_of_its_own_nodes_only() -> Result<()> {
    let objects = objects("story", &[])?;
    let links = named(&objects, "CertificateRequestPolicy", "media-systir-cph-links")?;
    let names = serde_json::json!(["spiffe://nordu.net/relay/cph-1", "spiffe://nordu.net/relay/cph-2"]);
    assert_eq!(links["spec"]["allowed"]["uris"]["values"], names);
    assert_eq!(links["spec"]["selector"]["namespace"]["matchNames"], serde_json::json!(["media"]));
    let etcd = named(&objects, "CertificateRequestPolicy", "media-systir-cph-etcd")?;
    let rule = &etcd["spec"]["allowed"]["commonName"]["validations"][0]["rule"];
    assert_eq!(rule, "self in ['cph-1','cph-2']");
    let role = named(&objects, "Role", "systir-cph-certificates")?;
    let used = serde_json::json!(["media-systir-cph-links", "media-systir-cph-etcd"]);
    assert_eq!(role["rules"][1]["resourceNames"], used);
    Ok(())
}
