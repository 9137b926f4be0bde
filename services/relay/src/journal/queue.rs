//! The queue between decisions and the task that writes them.

use std::sync::{Arc, Mutex, PoisonError};

use systir_journal::{Journal, JournalEntry, JournalEvent, JournalGap, JournalLine, MissingReason};
use systir_registry::unix_ms;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::metrics::JournalMetrics;

/// Takes decisions.
#[derive(Debug)]
pub(crate) struct JournalQueue {
    node: String,
    lines: Sender<JournalLine>,
    missing: Arc<MissingDecisions>,
}

/// Decisions that are not in the journal, until that is written into it.
#[derive(Debug)]
pub(super) struct MissingDecisions {
    gap: Mutex<Option<JournalGap>>,
    metrics: Arc<JournalMetrics>,
}

/// What the writer takes from the queue.
#[derive(Debug)]
pub(crate) struct JournalReceiver {
    pub(super) node: String,
    pub(super) lines: Receiver<JournalLine>,
    pub(super) missing: Arc<MissingDecisions>,
    pub(super) metrics: Arc<JournalMetrics>,
}

impl JournalQueue {
    /// A queue of `length` decisions of the node.
    pub(crate) fn new(node: &str, length: usize, metrics: Arc<JournalMetrics>) -> (Self, JournalReceiver) {
        let (lines, received) = mpsc::channel(length);
        let missing = Arc::new(MissingDecisions { gap: Mutex::default(), metrics: metrics.clone() });
        let node = node.to_owned();
        let receiver =
            JournalReceiver { node: node.clone(), lines: received, missing: missing.clone(), metrics };
        (Self { node, lines, missing }, receiver)
    }
}

impl Journal for JournalQueue {
    fn record(&self, entry: JournalEntry) {
        let time_ms = unix_ms();
        let event = JournalEvent::Entry(entry.into());
        let line = JournalLine { time_ms, node: self.node.clone(), event };
        // It is closed once the node has stopped.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.lines.try_send(line) {
            self.missing.add(MissingReason::Queue, time_ms, 1);
        }
    }
}

impl MissingDecisions {
    /// Counts missing decisions; the first ones of a gap are logged.
    pub(super) fn add(&self, reason: MissingReason, at_ms: u64, count: usize) {
        if count == 0 {
            return;
        }
        self.metrics.missing(reason, count);
        let more = JournalGap { from_ms: at_ms, to_ms: at_ms, count: [(reason, count as u64)].into() };
        if self.add_gap(more) {
            tracing::error!(
                reason = reason.as_str(),
                "decisions are missing in the journal; systir_journal_missing_total counts them, and the journal will say so"
            );
        }
    }

    /// Adds to the gap. Returns whether it begins one.
    fn add_gap(&self, more: JournalGap) -> bool {
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        let (begins, sum) = match gap.take() {
            Some(known) => (false, known.and(more)),
            None => (true, more),
        };
        *gap = Some(sum);
        begins
    }

    /// The gap so far, to write it.
    pub(super) fn take(&self) -> Option<JournalGap> {
        self.gap.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// It could not be written.
    pub(super) fn put_back(&self, gap: JournalGap) {
        self.add_gap(gap);
    }
}
