//! `systirctl policy what-if`: which decisions of a journal a new policy would have made otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::{Attribute, Cell, Color};
use serde_json::{Value, json};
use systir_journal::{JournalEntry, JournalEvent, JournalLine, journal_time};
use systir_policy::{PolicyEngine, PolicyTime};

use crate::audit::short_tag;
use crate::document_file::FileProblems;
use crate::journal_files::{self, Period};
use crate::newest::NewestRows;
use crate::policy::engine::EngineFiles;
use crate::policy::replay::{Because, Replay, Replayed};
use crate::tables::{fit_width, printable, table};

/// Arguments of `systirctl policy what-if`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A file of a journal, or a folder that has journals.
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// The new bundle, signed or not, or a profile (.toml).
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The floor of the operator on whose nodes it will be used.
    #[arg(long, value_name = "FILE")]
    floor: Option<PathBuf>,
    /// A directory with the nodes of the journal; may be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    directory: Vec<PathBuf>,
    #[command(flatten)]
    period: Period,
    /// Show at most this many changes, the newest ones; 0 shows all. All are counted.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    last: usize,
}

/// A decision that would be otherwise.
#[derive(Debug)]
struct ChangedDecision {
    time_ms: u64,
    /// The node that decided.
    node: String,
    entry: Box<JournalEntry>,
    change: &'static str,
    /// The node at which a join would be placed.
    there: Option<String>,
    because: Because,
}

/// What the new policy changes.
#[derive(Debug)]
struct WhatIf {
    new: String,
    changes: NewestRows<ChangedDecision>,
    counts: BTreeMap<&'static str, u64>,
    /// Versions of directories by which the journal's decisions were made, by operator.
    directories: BTreeMap<String, BTreeSet<u64>>,
    missing: u64,
    notes: Vec<String>,
}

/// The counts that are always shown.
const COUNTS: [&str; 6] = ["same", "refused", "let-in", "elsewhere", "other-institution", "not-replayed"];

/// Shows which decisions of the journal the new policy would have made otherwise. Fails at the end if a line cannot be
/// read.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let files = EngineFiles::read(&arguments.new, arguments.floor.as_deref(), &arguments.directory)?;
    let engine = files.load(None)?;
    let bundle = files.bundle()?;
    let mut what_if = WhatIf {
        new: format!("bundle of {}, version {}", bundle.institution, bundle.version),
        changes: NewestRows::new(arguments.last),
        counts: COUNTS.map(|count| (count, 0)).into(),
        directories: BTreeMap::new(),
        missing: 0,
        notes: Vec::new(),
    };
    let paths = [arguments.journal.clone()];
    let unreadable = journal_files::read(&paths, &arguments.period, |line| {
        // Rules may read the time.
        let engine = engine.at(Some(PolicyTime::at(line.time_ms / 1000)));
        what_if.add(&Replay { engine: &engine, institution: &bundle.institution }, line);
    })?;
    what_if.compare_directories(&engine);
    let text = if json { serde_json::to_string_pretty(&what_if.as_json())? } else { what_if.as_text() };
    writeln!(std::io::stdout(), "{text}")?;
    if unreadable.is_empty() { Ok(()) } else { Err(FileProblems(unreadable).into()) }
}

impl WhatIf {
    fn add(&mut self, replay: &Replay<'_>, line: JournalLine) {
        let JournalLine { time_ms, node, event } = line;
        let entry = match event {
            JournalEvent::Entry(entry) => entry,
            JournalEvent::Missing(gap) => {
                self.missing = self.missing.saturating_add(gap.total());
                return;
            }
        };
        let replayed = replay.replay(&node, &entry);
        let (change, because, there) = match replayed {
            Replayed::Same => ("same", None, None),
            Replayed::OtherInstitution => ("other-institution", None, None),
            Replayed::Undecided => ("not-replayed", None, None),
            Replayed::Refused(because) => ("refused", Some(because), None),
            Replayed::LetIn(because, there) => ("let-in", Some(because), there),
            Replayed::Elsewhere(because, there) => ("elsewhere", Some(because), Some(there)),
        };
        *self.counts.entry(change).or_default() += 1;
        if !["other-institution", "not-replayed"].contains(&change) {
            for (operator, version) in &entry.documents.directories {
                self.directories.entry(operator.clone()).or_default().insert(*version);
            }
        }
        if let Some(because) = because {
            self.changes.add(time_ms, ChangedDecision { time_ms, node, entry, change, there, because });
        }
    }

    /// Notes directories of other versions than those by which was decided: they may change decisions too.
    fn compare_directories(&mut self, engine: &PolicyEngine) {
        let given: BTreeMap<&str, u64> =
            engine.nodes().map(|facts| (&*facts.directory.operator, facts.directory.version)).collect();
        for (operator, versions) in &self.directories {
            let known = given.get(operator.as_str());
            if known.is_some_and(|known| versions.len() == 1 && versions.contains(known)) {
                continue;
            }
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            let other =
                known.map_or_else(|| "none is given".to_owned(), |known| format!("version {known} is given"));
            self.notes.push(format!(
                "the journal's decisions were made by version {} of the directory of {operator}, and {other}: a change may be \
                 due to that",
                versions.join(", ")
            ));
        }
        if self.missing > 0 {
            self.notes.push(format!("{} decisions are missing in the journal", self.missing));
        }
    }

    fn as_json(&self) -> Value {
        let changes: Vec<Value> = self
            .changes
            .rows()
            .map(|changed| {
                let ChangedDecision { time_ms, node, entry, change, there, because } = changed;
                json!({
                    "time": journal_time(*time_ms), "node": node, "room": entry.room, "at": entry.at,
                    "action": entry.action, "about": entry.about, "was": entry.outcome,
                    "was_reason": entry.reason, "change": change, "there": there,
                    "reason": because.reason, "rules": because.rules, "why": because.why,
                })
            })
            .collect();
        json!({
            "new": self.new, "counts": self.counts, "missing": self.missing, "notes": self.notes,
            "changes": changes, "left_out": self.changes.left_out(),
        })
    }

    fn as_text(&self) -> String {
        let mut out = format!("by the {}:\n", self.new);
        if self.changes.left_out() > 0 {
            out.push_str(&format!("{} earlier changes are not shown (--last)\n", self.changes.left_out()));
        }
        if self.changes.total > 0 {
            let titles = ["time", "node", "at", "action", "who", "room", "was", "would be", "why"];
            let mut table = table(&titles);
            for changed in self.changes.rows() {
                table.add_row(row(changed));
            }
            fit_width(&mut table, &["why", "who"], &titles);
            out.push_str(&format!("{table}\n"));
        }
        let count = |name: &str| self.counts.get(name).copied().unwrap_or_default();
        out.push_str(&format!(
            "{} would be refused, {} let in, {} placed elsewhere; {} the same; {} of other institutions, {} not decided by \
             policy",
            count("refused"),
            count("let-in"),
            count("elsewhere"),
            count("same"),
            count("other-institution"),
            count("not-replayed"),
        ));
        for note in &self.notes {
            out.push_str(&format!("\nnote: {}", printable(note)));
        }
        out
    }
}

fn row(changed: &ChangedDecision) -> Vec<Cell> {
    let ChangedDecision { time_ms, node, entry, change, there, because } = changed;
    let (would_be, color) = match (*change, there) {
        ("elsewhere", Some(there)) => (format!("at {there}"), Color::Yellow),
        ("let-in", Some(there)) => (format!("let in at {there}"), Color::Green),
        ("let-in", None) => ("let in".to_owned(), Color::Green),
        _ => (format!("refused ({})", because.reason), Color::Red),
    };
    let or_none = |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| printable(&text));
    let rules =
        if because.rules.is_empty() { String::new() } else { format!(" [{}]", because.rules.join(", ")) };
    vec![
        Cell::new(journal_time(*time_ms)),
        Cell::new(printable(node)).add_attribute(Attribute::Bold),
        Cell::new(entry.at.as_str()),
        Cell::new(or_none(entry.action.clone())),
        Cell::new(or_none(entry.about.as_ref().map(ToString::to_string))),
        Cell::new(or_none(entry.room.as_deref().map(short_tag))),
        Cell::new(format!("{} ({})", entry.outcome.as_str(), printable(&entry.reason))),
        Cell::new(printable(&would_be)).fg(color),
        Cell::new(printable(&format!("{}{rules}", because.why))),
    ]
}

#[cfg(test)]
mod tests {
    use systir_journal::{DecidedAt, JournalOutcome};
    use systir_reason::Reason;

    use super::*;

    #[test]
    fn a_node_that_a_journal_names_does_not_control_the_terminal() {
        let name = "sto-1\u{1b}[2J";
        for change in ["elsewhere", "let-in"] {
            let because =
                Because { reason: Reason::Allowed, rules: vec![name.to_owned()], why: name.to_owned() };
            let cells = row(&ChangedDecision {
                time_ms: 0,
                node: name.to_owned(),
                entry: JournalEntry::new(DecidedAt::Seat, JournalOutcome::Allowed, name).into(),
                change,
                there: Some(name.to_owned()),
                because,
            });
            let texts: Vec<String> = cells.iter().map(Cell::content).collect();
            assert!(!texts.concat().contains(char::is_control), "{texts:?}");
        }
    }
}
