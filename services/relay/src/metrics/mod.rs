//! The metrics port: metrics in OpenMetrics format, liveness and readiness. Each crate defines its own
//! metrics; this module registers them. Labels are reason codes, rule ids and node names of the operator's
//! own files: never participants or rooms, and no value that a client or another node can choose.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use systir_registry::Assignments;

use crate::documents::metrics::DocumentMetrics;
use crate::drain::DrainMetrics;
use crate::journal::JournalMetrics;
use crate::operator_mistakes::MistakeMetrics;
use crate::policy_page::PolicyPageMetrics;

/// The metrics of one node.
#[derive(Debug, Default)]
pub(crate) struct NodeMetrics {
    /// Policy decisions.
    pub(crate) policy: Arc<systir_policy::PolicyMetrics>,
    /// Signed documents.
    pub(crate) documents: Arc<DocumentMetrics>,
    /// Joins at this gateway.
    pub(crate) joins: Arc<systir_admission::JoinMetrics>,
    /// Rooms.
    pub(crate) rooms: Arc<systir_room::RoomMetrics>,
    /// Tickets that this node signed as gateway, renewed ones too.
    pub(crate) tickets_signed: Counter,
    /// Mistakes of the operator, and this node's certificates.
    pub(crate) mistakes: MistakeMetrics,
    /// Number of links that are up.
    pub(crate) links: Gauge,
    /// Attempts to make a link with a node that failed.
    pub(crate) failed_dials: Counter,
    /// Connections that the HTTP or the metrics port refused at its limit.
    pub(crate) connections_refused: Counter,
    /// Pages about policies.
    pub(crate) policy_pages: Arc<PolicyPageMetrics>,
    /// The drain of this node.
    pub(crate) drain: Arc<DrainMetrics>,
    /// The journal of decisions.
    pub(crate) journal: Arc<JournalMetrics>,
}

impl NodeMetrics {
    /// Registers all metrics under the prefix `systir`.
    pub(crate) fn registry(&self, assignments: &Assignments) -> Registry {
        let mut registry = Registry::with_prefix("systir");
        self.policy.register(&mut registry);
        self.documents.register(&mut registry);
        self.joins.register(&mut registry);
        self.rooms.register(&mut registry);
        assignments.register(&mut registry);
        let help = "Tickets that this node signed as gateway, renewed ones too";
        registry.register("tickets_signed", help, self.tickets_signed.clone());
        self.mistakes.register(&mut registry);
        registry.register("links", "Links that are up", self.links.clone());
        let help = "Attempts to make a link with another node that failed";
        registry.register("failed_dials", help, self.failed_dials.clone());
        registry.register(
            "connections_refused",
            "TCP connections refused because the limit was reached",
            self.connections_refused.clone(),
        );
        self.policy_pages.register(&mut registry);
        self.drain.register(&mut registry);
        self.journal.register(&mut registry);
        registry
    }
}

#[derive(Clone)]
struct Endpoints {
    /// Metrics that are updated as things happen.
    registered: Arc<Registry>,
    /// Metrics that are read at scrape time.
    collected: Arc<Registry>,
    readiness: Arc<Readiness>,
}

/// Does the node accept joins?
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// It has started, and does not stop.
    pub(crate) started: AtomicBool,
    /// It drains.
    pub(crate) draining: AtomicBool,
}

/// `/metrics`, `/healthz` (the process runs), `/readyz` (the node accepts joins). Neither health nor
/// readiness queries etcd: a node without its registry still serves its rooms.
pub(crate) fn router(
    registered: Registry,
    collectors: Vec<Box<dyn Collector>>,
    readiness: Arc<Readiness>,
) -> Router {
    let mut collected = Registry::with_prefix("systir");
    for collector in collectors {
        collected.register_collector(collector);
    }
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(is_ready))
        .with_state(Endpoints { registered: Arc::new(registered), collected: Arc::new(collected), readiness })
}

async fn scrape(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let mut text = String::new();
    let written = encode_registry(&mut text, &endpoints.registered)
        .and_then(|()| encode_registry(&mut text, &endpoints.collected))
        .and_then(|()| encode_eof(&mut text));
    if written.is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded").into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}

async fn is_ready(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let Readiness { started, draining } = &*endpoints.readiness;
    if draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if started.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not accepting joins")
    }
}
