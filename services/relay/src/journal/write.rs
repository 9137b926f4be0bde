//! The task that writes the journal.

use std::sync::Arc;
use std::time::Duration;

use systir_journal::{JournalEvent, JournalGap, JournalLine, MissingReason};
use systir_registry::unix_ms;
use tokio_util::sync::CancellationToken;

use super::files::{JournalFiles, NotWritten};
use super::metrics::JournalMetrics;
use super::queue::{JournalReceiver, MissingDecisions};

/// Most decisions that wait to be written.
pub(crate) const QUEUE: usize = 8192;

/// Most decisions that are written at once.
const BATCH: usize = 256;

/// How often a gap is tried again, and the day is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often a gap is written, at most: a flood shall not fill the day with gaps.
const GAP_INTERVAL_MS: u64 = 60_000;

/// How long the last decisions are awaited when the node stops.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Writes decisions until the node stops.
pub(crate) async fn run(mut receiver: JournalReceiver, files: JournalFiles, stop: CancellationToken) {
    let mut files = Some(files);
    let mut stops_at = None;
    loop {
        let mut batch = Vec::new();
        let next = receiver.lines.recv_many(&mut batch, BATCH);
        let ended = match stops_at {
            None => tokio::select! {
                count = next => count == 0,
                () = tokio::time::sleep(INTERVAL) => false,
                () = stop.cancelled() => {
                    stops_at = Some(tokio::time::Instant::now() + LAST_WAIT);
                    false
                }
            },
            Some(end) => tokio::time::timeout_at(end, next).await.unwrap_or_default() == 0,
        };
        let Some(taken) = files.take() else { return };
        let mut writer = BatchWriter::of(&receiver);
        if stops_at.is_some() {
            writer.gap_interval_ms = 0;
        }
        // It waits for the disk; decisions wait in the queue meanwhile.
        let written = tokio::task::spawn_blocking(move || writer.write(taken, &batch, unix_ms())).await;
        match written {
            Ok(given_back) => files = Some(given_back),
            Err(error) => tracing::error!(%error, "the journal is written no longer"),
        }
        if ended {
            return;
        }
    }
}

/// Writes decisions, and what is missing.
pub(super) struct BatchWriter {
    node: String,
    missing: Arc<MissingDecisions>,
    metrics: Arc<JournalMetrics>,
    gap_interval_ms: u64,
}

impl BatchWriter {
    pub(super) fn of(receiver: &JournalReceiver) -> Self {
        let JournalReceiver { node, missing, metrics, .. } = receiver;
        let (node, missing, metrics) = (node.clone(), missing.clone(), metrics.clone());
        Self { node, missing, metrics, gap_interval_ms: GAP_INTERVAL_MS }
    }

    /// Writes the gap, if there is one, then the lines. What is not written becomes a gap.
    pub(super) fn write(&self, mut files: JournalFiles, lines: &[JournalLine], now_ms: u64) -> JournalFiles {
        let due = files.gap_is_due(now_ms, self.gap_interval_ms);
        let gap = if due { self.missing.take() } else { None };
        let mut texts = String::new();
        if let Some(gap) = &gap {
            let event = JournalEvent::Missing(gap.clone());
            texts = JournalLine { time_ms: now_ms, node: self.node.clone(), event }.to_text();
            texts.push('\n');
        }
        let last_ms = lines.last().map_or(now_ms, |line| line.time_ms);
        let mut count = 0;
        for line in lines {
            let text = line.to_text();
            if line.is_caused_by_others() && !files.take_place_of_others(text.len() as u64, now_ms) {
                continue;
            }
            texts.push_str(&text);
            texts.push('\n');
            count += 1;
        }
        let left_out = lines.len() - count;
        let written = files.write(&texts, now_ms);
        self.missing.add(MissingReason::DayLimit, last_ms, left_out);
        match written {
            Ok(()) => {
                self.metrics.written(count);
                if let Some(missing) = gap.as_ref().map(JournalGap::total) {
                    files.gap_written(now_ms);
                    tracing::warn!(
                        missing,
                        "the journal is written again; it says how many decisions are missing"
                    );
                }
            }
            Err(error) => {
                let first = gap.is_none() && due;
                if let Some(gap) = gap {
                    self.missing.put_back(gap);
                }
                let reason = match &error {
                    NotWritten::Disk(why) => {
                        if first && count > 0 {
                            tracing::error!(why = format!("{why:#}"), "the journal cannot be written");
                        }
                        MissingReason::Disk
                    }
                    NotWritten::DayLimit => MissingReason::DayLimit,
                };
                self.missing.add(reason, last_ms, count);
            }
        }
        files
    }
}
