//! Alerts, the dashboard and the autoscaling ask for metrics and words that the programs have.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::helm::{chart, items, named, objects, of_kind, root, script, text};

/// All expressions, each on one line.
fn expressions() -> Result<Vec<String>> {
    let objects = objects("story", &[])?;
    let mut all = Vec::new();
    let rules = &named(&objects, "PrometheusRule", "systir")?["spec"]["groups"];
    for rule in items(rules).flat_map(|group| items(&group["rules"])) {
        all.push(text(rule, "/expr")?.to_owned());
        for word in ["summary", "action"] {
            ensure!(!text(rule, &format!("/annotations/{word}"))?.is_empty(), "{rule}");
        }
    }
    for scaled in of_kind(&objects, "ScaledObject") {
        all.push(text(scaled, "/spec/triggers/0/metadata/query")?.to_owned());
    }
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(chart().join("files/dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    for target in panels.iter().flat_map(|panel| items(&panel["targets"])) {
        all.push(text(target, "/expr")?.replace("$namespace", "media"));
    }
    ensure!(all.len() > 30, "{} expressions", all.len());
    Ok(all)
}

/// The Rust sources of the programs.
fn sources(folder: &Path, found: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            *found += &std::fs::read_to_string(path)?;
        }
    }
    Ok(())
}

#[test]
fn expressions_can_be_parsed() -> Result<()> {
    script("expressions", &[], &expressions()?.join("\n"))?;
    ensure!(script("expressions", &[], "sum by (pod (x)").is_err());
    Ok(())
}

#[test]
fn every_metric_and_every_word_of_a_label_is_one_that_the_programs_have() -> Result<()> {
    let mut source = String::new();
    sources(&root().join("services"), &mut source)?;
    let mut names = BTreeSet::new();
    for expression in expressions()? {
        for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if let Some(name) = word.strip_prefix("systir_").filter(|name| *name != "org_pool") {
                names.insert(name.to_owned());
            }
        }
        for (label, words) in labels(&expression) {
            if ["reason", "role", "outcome", "mistake"].contains(&label.as_str()) {
                for word in words.split('|') {
                    ensure!(source.contains(&format!("\"{word}\"")), "no {label} is {word}: {expression}");
                }
            }
        }
    }
    for name in &names {
        let ends = ["", "_total", "_bucket", "_sum", "_count"];
        let known = ends.iter().filter_map(|end| name.strip_suffix(end)).any(|name| {
            // A worker's counters are fields of a macro.
            [format!("\"{name}\""), format!(" {name},\n"), format!(" {name}: u64"), format!("{name} =")]
                .iter()
                .any(|text| source.contains(text))
        });
        ensure!(known, "there is no metric systir_{name}");
    }
    ensure!(names.len() > 20, "{names:?}");
    Ok(())
}

/// The labels that an expression compares, with their words.
fn labels(expression: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in expression.split(['{', ',']) {
        let Some((label, rest)) = part.split_once('=') else { continue };
        let words = rest.trim_start_matches(['=', '~']).split('"').nth(1).unwrap_or_default();
        found.push((label.trim_end_matches('!').trim().to_owned(), words.to_owned()));
    }
    found
}
