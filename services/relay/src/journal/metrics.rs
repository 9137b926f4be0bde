//! Metrics of the journal.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use systir_journal::MissingReason;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MissingLabels {
    reason: &'static str,
}

/// The metrics of the journal.
#[derive(Debug, Default)]
pub(crate) struct JournalMetrics {
    written: Counter,
    missing: Family<MissingLabels, Counter>,
}

impl JournalMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Decisions that are in the journal";
        registry.register("journal_decisions", help, self.written.clone());
        registry.register(
            "journal_missing",
            "Decisions that are not in the journal: the queue was full, the disk did not take them, or the day's limit was reached",
            self.missing.clone(),
        );
    }

    pub(super) fn written(&self, count: usize) {
        self.written.inc_by(count as u64);
    }

    pub(super) fn missing(&self, reason: MissingReason, count: usize) {
        self.missing.get_or_create(&MissingLabels { reason: reason.as_str() }).inc_by(count as u64);
    }
}
