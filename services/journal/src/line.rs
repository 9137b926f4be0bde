//! A line of a journal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::entry::{DecidedAt, JournalEntry, JournalOutcome};
use crate::time::{journal_time, parse_journal_time};

/// The longest line, bytes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A line of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLine {
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// The node that wrote it.
    pub node: String,
    /// What happened.
    pub event: JournalEvent,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEvent {
    /// An outcome.
    Entry(Box<JournalEntry>),
    /// Outcomes are missing here.
    Missing(JournalGap),
}

/// Outcomes that happened and are not in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalGap {
    /// The first one, milliseconds since 1970.
    pub from_ms: u64,
    /// The last one, milliseconds since 1970.
    pub to_ms: u64,
    /// How many, by reason.
    pub count: BTreeMap<MissingReason, u64>,
}

/// Why an outcome is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingReason {
    /// The queue of the writer was full.
    Queue,
    /// The disk did not take it.
    Disk,
    /// The day's limit was reached.
    DayLimit,
}

impl MissingReason {
    /// The word in lines and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Disk => "disk",
            Self::DayLimit => "day-limit",
        }
    }
}

impl JournalGap {
    /// One missing outcome.
    #[must_use]
    pub fn one(reason: MissingReason, at_ms: u64) -> Self {
        Self { from_ms: at_ms, to_ms: at_ms, count: [(reason, 1)].into() }
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.from_ms = self.from_ms.min(other.from_ms);
        self.to_ms = self.to_ms.max(other.to_ms);
        for (reason, count) in other.count {
            let sum = self.count.entry(reason).or_default();
            *sum = sum.saturating_add(count);
        }
        self
    }

    /// How many are missing.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.count.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableLine(String);

#[derive(Serialize, Deserialize)]
struct WrittenGap {
    from: String,
    to: String,
    count: BTreeMap<MissingReason, u64>,
}

#[derive(Serialize)]
struct WrittenLine<'a> {
    time: String,
    node: &'a str,
    #[serde(flatten)]
    entry: Option<&'a JournalEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<WrittenGap>,
}

/// What both kinds of line have.
#[derive(Deserialize)]
struct ReadLine {
    time: String,
    node: String,
    missing: Option<WrittenGap>,
}

impl JournalLine {
    /// May others cause such lines as often as they want: other nodes, those who send documents, guests?
    #[must_use]
    pub fn is_caused_by_others(&self) -> bool {
        let JournalEvent::Entry(entry) = &self.event else { return false };
        let is_refused = entry.outcome == JournalOutcome::Refused;
        let is_guest = entry.placement.as_ref().is_some_and(|placement| placement.participant.guest);
        match entry.at {
            DecidedAt::Api => true,
            DecidedAt::Document => is_refused,
            _ => entry.asked_by.is_some() || is_guest,
        }
    }

    /// The line without a line end, at most [`MAX_LINE_BYTES`] long. Candidates of a join are left out when it would be
    /// longer.
    #[must_use]
    pub fn to_text(&self) -> String {
        let text = self.written(None);
        match &self.event {
            JournalEvent::Entry(entry) if text.len() > MAX_LINE_BYTES => {
                let mut shorter = entry.clone();
                if let Some(placement) = &mut shorter.placement {
                    // A line of another writer may state any number.
                    let candidates = std::mem::take(&mut placement.candidates).len();
                    placement.candidates_left_out = placement.candidates_left_out.saturating_add(candidates);
                    placement.answers.clear();
                }
                self.written(Some(&shorter))
            }
            _ => text,
        }
    }

    fn written(&self, shorter: Option<&JournalEntry>) -> String {
        let (entry, missing) = match &self.event {
            JournalEvent::Entry(entry) => (Some(shorter.unwrap_or(entry)), None),
            JournalEvent::Missing(gap) => {
                let JournalGap { from_ms, to_ms, count } = gap;
                let (from, to) = (journal_time(*from_ms), journal_time(*to_ms));
                (None, Some(WrittenGap { from, to, count: count.clone() }))
            }
        };
        let line = WrittenLine { time: journal_time(self.time_ms), node: &self.node, entry, missing };
        // These types have no map with keys other than texts, so this cannot fail.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Reads a line. Fields that this version does not know are ignored.
    ///
    /// # Errors
    /// What is wrong with it. A line that was cut short by a crash is no JSON.
    pub fn parse(text: &str) -> Result<Self, UnreadableLine> {
        if text.len() > MAX_LINE_BYTES {
            return Err(UnreadableLine(format!("it is longer than {MAX_LINE_BYTES} bytes")));
        }
        let wrong = |error: serde_json::Error| UnreadableLine(error.to_string());
        let ReadLine { time, node, missing } = serde_json::from_str(text).map_err(wrong)?;
        let time_of = |text: &str| parse_journal_time(text).map_err(UnreadableLine);
        let event = match missing {
            Some(WrittenGap { from, to, count }) => {
                JournalEvent::Missing(JournalGap { from_ms: time_of(&from)?, to_ms: time_of(&to)?, count })
            }
            None => JournalEvent::Entry(serde_json::from_str(text).map_err(wrong)?),
        };
        Ok(Self { time_ms: time_of(&time)?, node, event })
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
