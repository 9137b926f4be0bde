//! Shows what a new version of a policy permits more and less than an old one.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use systir_policy_proof::{Counterexample, Language, PolicyDiff, Prover};

use crate::document_file::DocumentFile;
use crate::policy::engine::models_of_both;
use crate::tables::printable_lines;

/// Arguments of `systirctl policy diff`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The old bundle, floor or profile.
    old: PathBuf,
    /// The new one.
    new: PathBuf,
    /// The floor of the operator on whose nodes both are used. Without it, what a floor forbids counts as a difference too.
    #[arg(long, value_name = "FILE")]
    floor: Option<PathBuf>,
}

/// Compares and shows.
pub(crate) async fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let Arguments { old, new, floor } = arguments;
    let (old, new) = (DocumentFile::read_or_compile(old)?, DocumentFile::read_or_compile(new)?);
    let (old, new) = models_of_both(&old, &new, floor.as_deref())?;
    let diff = Prover::start().await?.diff(&old, &new).await?;
    let text = if json { serde_json::to_string_pretty(&as_json(&diff))? } else { as_text(&diff) };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn as_json(diff: &PolicyDiff) -> Value {
    let sentence = |example: &Option<Counterexample>| {
        example
            .as_ref()
            .map(|example| json!({"sentence": example.sentence(Language::English), "request": example}))
    };
    let actions: Vec<Value> = diff
        .actions
        .iter()
        .map(|one| {
            json!({
                "action": one.action, "change": change(one.looser.is_some(), one.stricter.is_some()),
                "looser": sentence(&one.looser), "stricter": sentence(&one.stricter),
            })
        })
        .collect();
    json!({
        "old": diff.old, "new": diff.new, "solver": diff.solver, "is_looser": diff.is_looser(), "actions": actions,
        "weaker_classes": diff.weaker_classes, "stronger_classes": diff.stronger_classes,
        "guarantees_gone": diff.guarantees_gone, "guarantees_new": diff.guarantees_new, "order": diff.order,
    })
}

fn change(looser: bool, stricter: bool) -> &'static str {
    match (looser, stricter) {
        (false, false) => "same",
        (true, false) => "looser",
        (false, true) => "stricter",
        (true, true) => "looser and stricter",
    }
}

/// The difference in lines.
pub(crate) fn as_text(diff: &PolicyDiff) -> String {
    let mut out = format!("{}, compared with {} ({})\n", diff.new, diff.old, diff.solver);
    let mut same = Vec::new();
    for one in &diff.actions {
        let changed = change(one.looser.is_some(), one.stricter.is_some());
        if changed == "same" {
            same.push(one.action.as_str());
            continue;
        }
        out.push_str(&format!("{}: {changed}\n", one.action));
        for (word, example) in [("now permitted", &one.looser), ("no longer permitted", &one.stricter)] {
            if let Some(example) = example {
                out.push_str(&format!("  {word}: {}\n", example.sentence(Language::English)));
            }
        }
    }
    for (title, lines) in [
        ("room classes, weaker", &diff.weaker_classes),
        ("room classes, stronger", &diff.stronger_classes),
        ("guarantees gone", &diff.guarantees_gone),
        ("guarantees new", &diff.guarantees_new),
        ("order", &diff.order),
    ] {
        if !lines.is_empty() {
            out.push_str(&format!("{title}\n"));
            lines.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
        }
    }
    if !same.is_empty() {
        out.push_str(&format!("same: {}\n", same.join(", ")));
    }
    out.push_str(if diff.is_looser() { "the new policy is looser" } else { "the new policy is not looser" });
    printable_lines(&out)
}
