//! Shows decisions.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::{Attribute, Cell, Color};
use serde_json::{Value, json};
use systir_policy::{Action, Decision, PolicyTime};
use systir_policy_proof::decide;

use crate::dates;
use crate::policy::engine::EngineFiles;
use crate::tables::{fit_width, printable, table};

/// Arguments of `systirctl policy explain`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The bundle, signed or not.
    bundle: PathBuf,
    /// The floor of the operator on whose nodes it is used.
    #[arg(long, value_name = "FILE")]
    floor: Option<PathBuf>,
    /// A directory with nodes; may be given several times.
    #[arg(long, value_name = "FILE")]
    directory: Vec<PathBuf>,
    /// The name of a room, for its class. Without it: a room that no pattern matches.
    #[arg(long)]
    room: Option<String>,
    /// This action only.
    #[arg(long)]
    action: Option<Action>,
    /// Decisions on this node only.
    #[arg(long, conflicts_with = "participant")]
    node: Option<String>,
    /// Decisions on participants of this institution only.
    #[arg(long, value_name = "INSTITUTION")]
    participant: Option<String>,
    /// The decisions at this time; now if not given.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    at: Option<u64>,
}

/// Shows the decision of each action on each node and for participants of each institution, or of some of them.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let files = EngineFiles::read(&arguments.bundle, arguments.floor.as_deref(), &arguments.directory)?;
    let now = arguments.at.unwrap_or_else(dates::now);
    let engine = files.load(Some(now))?.at(Some(PolicyTime::at(now)));
    let institution = files.bundle()?.institution.clone();
    let nodes: Vec<String> = match &arguments.node {
        Some(node) => vec![node.clone()],
        None => engine.nodes().map(|facts| facts.id.clone()).collect(),
    };
    let participants: Vec<String> = match &arguments.participant {
        Some(from) => vec![from.clone()],
        None => {
            files.bundle()?.vocabulary.institutions.iter().cloned().chain([institution.clone()]).collect()
        }
    };
    let mut rows = Vec::new();
    for action in
        Action::ALL.into_iter().filter(|action| arguments.action.is_none_or(|wanted| wanted == *action))
    {
        let (subjects, wanted) = if action.is_on_node() {
            (&nodes, arguments.participant.is_none())
        } else {
            (&participants, arguments.node.is_none())
        };
        for subject in subjects.iter().filter(|_| wanted) {
            let decision = decide(&engine, &institution, arguments.room.as_deref(), action, subject);
            rows.push((action, subject.clone(), decision));
        }
    }
    if rows.is_empty() {
        bail!(
            "there is nothing to decide: give nodes with --directory, or an action and a subject that fit together"
        );
    }
    let text = if json { serde_json::to_string_pretty(&as_json(&rows))? } else { as_table(&rows) };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// The ids of the rules that decided.
fn rules(decision: &Decision) -> String {
    decision.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(", ")
}

fn as_json(rows: &[(Action, String, Decision)]) -> Value {
    let row = |(action, subject, decision): &(Action, String, Decision)| {
        let what = if action.is_on_node() { "node" } else { "participant" };
        json!({"action": action, what: subject, "decision": decision})
    };
    Value::Array(rows.iter().map(row).collect())
}

fn as_table(rows: &[(Action, String, Decision)]) -> String {
    let titles = ["action", "subject", "decision", "rules", "why"];
    let mut table = table(&titles);
    for (action, subject, decision) in rows {
        let (word, color) = if decision.allowed { ("allow", Color::Green) } else { ("deny", Color::Red) };
        table.add_row(vec![
            Cell::new(action),
            Cell::new(printable(subject)).add_attribute(Attribute::Bold),
            Cell::new(word).fg(color),
            Cell::new(if decision.rules.is_empty() {
                decision.reason.as_str().to_owned()
            } else {
                printable(&rules(decision))
            }),
            Cell::new(printable(&decision.why)),
        ]);
    }
    fit_width(&mut table, &["rules", "why"], &titles);
    table.to_string()
}
