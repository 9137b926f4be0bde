//! `systirctl audit`: what journals of nodes tell.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Attribute, Cell, Color};
use serde_json::{Value, json};
use systir_journal::{
    JournalEntry, JournalEvent, JournalGap, JournalLine, JournalOutcome, MissingReason, journal_time,
};
use systir_policy::Action;

use crate::document_file::FileProblems;
use crate::journal_files::{self, Period};
use crate::newest::NewestRows;
use crate::tables::{fit_width, printable, table};

/// Arguments of `systirctl audit`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Files of journals, or folders that have such files.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    period: Period,
    /// Only what was let in, or only what was kept out.
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Only this policy action.
    #[arg(long)]
    action: Option<Action>,
    /// Only the room with this tag, or with one that begins so (`systirctl rooms` shows tags with --json).
    #[arg(long, value_name = "TAG")]
    room: Option<String>,
    /// Show at most this many decisions, the newest ones; 0 shows all. The summary counts all.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    last: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    Allowed,
    Refused,
}

impl Arguments {
    fn wants(&self, entry: &JournalEntry) -> bool {
        let outcome = self.outcome.is_none_or(|wanted| match wanted {
            Outcome::Allowed => entry.outcome == JournalOutcome::Allowed,
            Outcome::Refused => entry.outcome == JournalOutcome::Refused,
        });
        let action = self.action.is_none_or(|wanted| entry.action.as_deref() == Some(wanted.as_str()));
        let begins = |wanted: &String| entry.room.as_ref().is_some_and(|tag| tag.starts_with(wanted));
        outcome && action && self.room.as_ref().is_none_or(begins)
    }
}

/// The outcome, its reason and the decisive rule.
type SummaryKey = (JournalOutcome, String, String);

/// What was read.
#[derive(Debug)]
struct Audit {
    rows: NewestRows<JournalLine>,
    summary: BTreeMap<SummaryKey, u64>,
    missing: BTreeMap<MissingReason, u64>,
    unreadable: Vec<String>,
}

/// Shows the decisions of journals, and counts them by rule and reason. Fails at the end if a line cannot be read.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let mut audit = Audit {
        rows: NewestRows::new(arguments.last),
        summary: BTreeMap::new(),
        missing: BTreeMap::new(),
        unreadable: Vec::new(),
    };
    let unreadable =
        journal_files::read(&arguments.paths, &arguments.period, |line| audit.add(arguments, line))?;
    audit.unreadable = unreadable;
    let text = if json { serde_json::to_string_pretty(&audit.as_json()?)? } else { audit.as_text() };
    writeln!(std::io::stdout(), "{text}")?;
    if audit.unreadable.is_empty() { Ok(()) } else { Err(FileProblems(audit.unreadable).into()) }
}

impl Audit {
    fn add(&mut self, arguments: &Arguments, line: JournalLine) {
        match &line.event {
            JournalEvent::Entry(entry) if arguments.wants(entry) => {
                let rule = entry.rules.first().cloned().unwrap_or_default();
                *self.summary.entry((entry.outcome, entry.reason.clone(), rule)).or_default() += 1;
            }
            JournalEvent::Entry(_) => return,
            JournalEvent::Missing(gap) => {
                for (reason, count) in &gap.count {
                    let sum = self.missing.entry(*reason).or_default();
                    *sum = sum.saturating_add(*count);
                }
            }
        }
        self.rows.add(line.time_ms, line);
    }

    fn count(&self, outcome: JournalOutcome) -> u64 {
        self.summary.iter().filter(|((found, ..), _)| *found == outcome).map(|(_, count)| count).sum()
    }

    fn as_json(&self) -> Result<Value> {
        // As they are in the files.
        let lines: Vec<Value> =
            self.rows.rows().map(|line| Ok(serde_json::from_str(&line.to_text())?)).collect::<Result<_>>()?;
        let summary: Vec<Value> = self
            .summary
            .iter()
            .map(|((outcome, reason, rule), count)| {
                json!({"outcome": outcome.as_str(), "reason": reason, "rule": rule, "count": count})
            })
            .collect();
        Ok(json!({
            "lines": lines, "left_out": self.rows.left_out(),
            "allowed": self.count(JournalOutcome::Allowed), "refused": self.count(JournalOutcome::Refused),
            "missing": self.missing, "summary": summary, "unreadable": self.unreadable,
        }))
    }

    fn as_text(&self) -> String {
        let mut out = String::new();
        if self.rows.left_out() > 0 {
            out.push_str(&format!("{} earlier lines are not shown (--last)\n", self.rows.left_out()));
        }
        let titles = ["time", "node", "at", "action", "who", "room", "outcome", "reason", "rules"];
        let mut decisions = table(&titles);
        for line in self.rows.rows() {
            decisions.add_row(row(line));
        }
        fit_width(&mut decisions, &["rules", "who"], &titles);
        out.push_str(&format!("{decisions}\n\n"));
        let titles = ["outcome", "reason", "rule", "decisions"];
        let mut summary = table(&titles);
        for ((outcome, reason, rule), count) in &self.summary {
            summary.add_row(vec![
                outcome_cell(*outcome),
                Cell::new(printable(reason)),
                Cell::new(if rule.is_empty() { "-".to_owned() } else { printable(rule) }),
                Cell::new(count),
            ]);
        }
        fit_width(&mut summary, &["rule"], &titles);
        out.push_str(&format!("{summary}\n"));
        let (allowed, refused) = (self.count(JournalOutcome::Allowed), self.count(JournalOutcome::Refused));
        out.push_str(&format!("{allowed} allowed, {refused} refused"));
        if !self.missing.is_empty() {
            let missing = self.missing.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
            out.push_str(&format!(", {missing} missing in the journal ({})", reasons(&self.missing)));
        }
        out
    }
}

fn reasons(count: &BTreeMap<MissingReason, u64>) -> String {
    let words: Vec<String> =
        count.iter().map(|(reason, count)| format!("{}: {count}", reason.as_str())).collect();
    words.join(", ")
}

fn outcome_cell(outcome: JournalOutcome) -> Cell {
    let color = if outcome == JournalOutcome::Allowed { Color::Green } else { Color::Red };
    Cell::new(outcome.as_str()).fg(color)
}

fn row(line: &JournalLine) -> Vec<Cell> {
    let time = Cell::new(journal_time(line.time_ms));
    let node = Cell::new(printable(&line.node)).add_attribute(Attribute::Bold);
    let or_none = |text: Option<&str>| Cell::new(text.map_or_else(|| "-".to_owned(), printable));
    match &line.event {
        JournalEvent::Entry(entry) => vec![
            time,
            node,
            Cell::new(entry.at.as_str()),
            or_none(entry.action.as_deref()),
            or_none(entry.about.as_ref().map(ToString::to_string).as_deref()),
            or_none(entry.room.as_deref().map(short_tag).as_deref()),
            outcome_cell(entry.outcome),
            Cell::new(printable(&entry.reason)),
            Cell::new(if entry.rules.is_empty() {
                "-".to_owned()
            } else {
                printable(&entry.rules.join(", "))
            }),
        ],
        JournalEvent::Missing(gap) => {
            let JournalGap { from_ms, to_ms, count } = gap;
            let between = format!("{} to {}", journal_time(*from_ms), journal_time(*to_ms));
            let missing = Cell::new(format!("{} missing", gap.total())).fg(Color::Yellow);
            let mut cells = vec![time, node];
            cells.extend(["-", "-", "-", "-"].map(Cell::new));
            cells.extend([missing, Cell::new(reasons(count)), Cell::new(between)]);
            cells
        }
    }
}

/// How a tag begins: enough to tell rooms apart, and for `--room`.
pub(crate) fn short_tag(tag: &str) -> String {
    const SHOWN: usize = 12;
    match tag.get(..SHOWN) {
        Some(begin) if tag.len() > SHOWN => format!("{begin}…"),
        _ => tag.to_owned(),
    }
}
