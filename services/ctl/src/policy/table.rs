//! Compares decisions with a table of expected ones.
//!
//! ```toml
//! bundle = "ku.dk.note"
//! floor = "floor.note"
//! directories = ["nordunet.note"]
//!
//! [[case]]
//! action = "spill"
//! node = "sto-1"
//! room = "exam-1"
//! expect = "allow"
//! rule = "ku-spill-nordic"
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::json;
use systir_policy::{Action, Decision, PolicyEngine};
use toml::Spanned;

use crate::document_file::{FileProblems, at};
use crate::files;
use crate::policy::engine::EngineFiles;
use crate::policy::explain::{decide, rules};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    /// Files beside the table.
    bundle: PathBuf,
    floor: Option<PathBuf>,
    #[serde(default)]
    directories: Vec<PathBuf>,
    #[serde(default)]
    case: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    action: Action,
    node: Option<String>,
    /// The institution of a participant.
    participant: Option<String>,
    /// The name of a room; without it, one that no pattern matches.
    room: Option<String>,
    expect: Expected,
    /// A rule that must be among those that decided.
    rule: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

/// Decides each case, and fails with every case that is decided otherwise. Dates of documents do not count.
pub(crate) fn run(path: &Path, json: bool) -> Result<()> {
    let text = files::read(path)?;
    let line = |offset: usize| text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
    let table: TableFile = toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| line(span.start));
        FileProblems(vec![at(path, line, &error.message().trim().replace('\n', "; "))])
    })?;
    if table.case.is_empty() {
        bail!(
            "{}: there are no cases; write [[case]] with action, node or participant, and expect",
            path.display()
        );
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let directories: Vec<PathBuf> = table.directories.iter().map(|file| folder.join(file)).collect();
    let floor = table.floor.as_ref().map(|file| folder.join(file));
    let files = EngineFiles::read(&folder.join(&table.bundle), floor.as_deref(), &directories)?;
    let engine = files.load(None)?;
    let institution = &files.bundle()?.institution;
    let mut problems = Vec::new();
    for case in &table.case {
        if let Err(what) = case.get_ref().check(&engine, institution) {
            problems.push(at(path, Some(line(case.span().start)), &what));
        }
    }
    let (total, failed) = (table.case.len(), problems.len());
    let mut out = std::io::stdout();
    if json {
        let fields = json!({"cases": total, "failed": failed, "problems": problems});
        writeln!(out, "{}", serde_json::to_string_pretty(&fields)?)?;
    } else {
        writeln!(out, "{total} cases, {failed} decided otherwise than expected")?;
    }
    if problems.is_empty() { Ok(()) } else { Err(FileProblems(problems).into()) }
}

impl Case {
    fn check(&self, engine: &PolicyEngine, institution: &str) -> Result<(), String> {
        let subject = match (&self.node, &self.participant, self.action.is_on_node()) {
            (Some(node), None, true) => node,
            (None, Some(from), false) => from,
            (_, _, true) => {
                return Err(format!("{} is an action on a node: write node = \"...\"", self.action));
            }
            (_, _, false) => {
                return Err(format!(
                    "{} is an action of a participant: write participant = \"INSTITUTION\"",
                    self.action
                ));
            }
        };
        let decision = decide(engine, institution, self.room.as_deref(), self.action, subject);
        let asked =
            format!("{} {} {subject}", self.action, if self.action.is_on_node() { "on" } else { "of" });
        if decision.allowed != (self.expect == Expected::Allow) {
            return Err(format!("{asked}: {}", described(&decision)));
        }
        match &self.rule {
            Some(rule) if !decision.rules.iter().any(|decided| decided.as_str() == rule) => {
                Err(format!("{asked}: rule {rule} did not decide: {}", described(&decision)))
            }
            _ => Ok(()),
        }
    }
}

fn described(decision: &Decision) -> String {
    let word = if decision.allowed { "allowed" } else { "denied" };
    let rules = if decision.rules.is_empty() { decision.reason.as_str().to_owned() } else { rules(decision) };
    format!("{word} [{rules}]: {}", decision.why)
}
