//! The metrics endpoint: what a node counts, in OpenMetrics, and whether it lives and is ready. Each crate
//! defines its own metrics; here they are registered. Labels are reason codes, rule ids and node names of the
//! operator's own files: never participants or rooms, and nothing that a client or another node may choose.

mod collector;
mod link_totals;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use systir_registry::Assignments;

pub(crate) use collector::Live;
pub(crate) use link_totals::{LinkLedger, keep};

/// The metrics of one node.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Of policy.
    pub(crate) policy: Arc<systir_policy::Metrics>,
    /// Of joins at this gateway.
    pub(crate) joins: Arc<systir_admission::Metrics>,
    /// Of rooms.
    pub(crate) rooms: Arc<systir_room::Metrics>,
    /// Links that are up.
    pub(crate) links: Gauge,
    /// Connections that the HTTP or the metrics port refused, because there are too many.
    pub(crate) connections_refused: Counter,
}

impl Metrics {
    /// All of them under the prefix `systir`.
    pub(crate) fn registry(&self, assignments: &Assignments) -> Registry {
        let mut registry = Registry::with_prefix("systir");
        self.policy.register(&mut registry);
        self.joins.register(&mut registry);
        self.rooms.register(&mut registry);
        assignments.register(&mut registry);
        registry.register("links", "Links that are up", self.links.clone());
        registry.register(
            "connections_refused",
            "TCP connections refused because there were too many",
            self.connections_refused.clone(),
        );
        registry
    }
}

#[derive(Clone)]
struct Served {
    counted: Arc<Registry>,
    live: Arc<Registry>,
    ready: Arc<AtomicBool>,
}

/// `/metrics`, `/healthz` (the process lives), `/readyz` (it takes joins). Neither health nor
/// readiness asks etcd: a node without its registry still serves its rooms.
pub(crate) fn router(counted: Registry, live: Live, ready: Arc<AtomicBool>) -> Router {
    let mut registry = Registry::with_prefix("systir");
    registry.register_collector(Box::new(live));
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readiness))
        .with_state(Served { counted: Arc::new(counted), live: Arc::new(registry), ready })
}

async fn scrape(State(served): State<Served>) -> impl IntoResponse {
    let mut text = String::new();
    let written = encode_registry(&mut text, &served.counted)
        .and_then(|()| encode_registry(&mut text, &served.live))
        .and_then(|()| encode_eof(&mut text));
    if written.is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written down").into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}

async fn readiness(State(served): State<Served>) -> impl IntoResponse {
    if served.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not taking joins")
    }
}
