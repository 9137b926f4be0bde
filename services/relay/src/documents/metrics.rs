//! Metrics of signed documents. Owners are names of this node's configuration.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use systir_documents::{AcceptedDocuments, DocumentId};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DocumentLabels {
    kind: &'static str,
    owner: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

/// Metrics of the document store.
#[derive(Debug, Default)]
pub(crate) struct DocumentMetrics {
    versions: Family<DocumentLabels, Gauge>,
    renew_by: Family<DocumentLabels, Gauge>,
    not_after: Family<DocumentLabels, Gauge>,
    refused: Family<RefusalLabels, Counter>,
}

impl DocumentMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "document_version",
            "Version of the newest signed document of an owner",
            self.versions.clone(),
        );
        registry.register(
            "document_renew_by_seconds",
            "Unix time after which the document allows no new room and no new node",
            self.renew_by.clone(),
        );
        registry.register(
            "document_not_after_seconds",
            "Unix time after which the document allows nothing",
            self.not_after.clone(),
        );
        registry.register(
            "documents_refused",
            "Signed documents that were not taken, by reason; conflict means that an owner signed two texts as one version",
            self.refused.clone(),
        );
    }

    pub(super) fn show(&self, accepted: &AcceptedDocuments) {
        for document in accepted.iter() {
            let DocumentId { kind, owner } = document.id();
            let labels = DocumentLabels { kind: kind.as_str(), owner };
            let lifetime = document.lifetime();
            let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            self.versions.get_or_create(&labels).set(gauge(document.version()));
            self.renew_by.get_or_create(&labels).set(gauge(lifetime.renew_by));
            self.not_after.get_or_create(&labels).set(gauge(lifetime.not_after));
        }
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
    }
}
