//! Does a bundle keep to the floor of another operator, or to the guarantees of another institution?

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use systir_policy_proof::{FloorComparison, FloorExcess, Language, Prover};

use crate::policy::engine::model;
use crate::tables::printable_lines;

/// Arguments of `systirctl policy compat`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What is required: a floor, or a bundle whose guarantees count.
    floor: PathBuf,
    /// The bundle or profile that must keep to it.
    bundle: PathBuf,
    /// The floor of the operator on whose nodes the bundle is used.
    #[arg(long = "own-floor", value_name = "FILE")]
    own_floor: Option<PathBuf>,
}

/// Compares, and fails if the bundle permits what is excluded.
pub(crate) async fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let floor = model(&arguments.floor, None)?;
    let policy = model(&arguments.bundle, arguments.own_floor.as_deref())?;
    let found = Prover::start().await?.compare_floor(&floor, &policy).await?;
    let text = if json { serde_json::to_string_pretty(&as_json(&found))? } else { as_text(&found) };
    writeln!(std::io::stdout(), "{text}")?;
    if !found.is_compatible() {
        bail!("the {} does not keep to the {}", found.policy, found.floor);
    }
    Ok(())
}

fn as_json(found: &FloorComparison) -> Value {
    let excess = |excess: &FloorExcess| {
        let FloorExcess { guarantee, permitted } = excess;
        json!({
            "guarantee": guarantee, "action": permitted.action,
            "sentence": permitted.sentence(Language::English), "request": permitted,
        })
    };
    json!({
        "floor": found.floor, "policy": found.policy, "solver": found.solver,
        "compatible": found.is_compatible(), "proved": found.proved,
        "excess": found.excess.iter().map(excess).collect::<Vec<_>>(),
    })
}

fn as_text(found: &FloorComparison) -> String {
    let mut out = String::new();
    for FloorExcess { guarantee, permitted } in &found.excess {
        let against = match guarantee {
            Some(guarantee) => format!("against the guarantee {guarantee}"),
            None => "against the rules".to_owned(),
        };
        let sentence = permitted.sentence(Language::English);
        out.push_str(&format!("{}, {against}: {sentence}\n", permitted.action));
    }
    let proved: Vec<&str> = found.proved.iter().map(|action| action.as_str()).collect();
    if !proved.is_empty() {
        out.push_str(&format!("proved: {}\n", proved.join(", ")));
    }
    let does = if found.is_compatible() { "keeps" } else { "does not keep" };
    out.push_str(&format!("the {} {does} to the {} ({})", found.policy, found.floor, found.solver));
    printable_lines(&out)
}
