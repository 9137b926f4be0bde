//! What a node counts, in OpenMetrics, and whether it lives and is ready. Labels are words of a
//! closed list, rule ids and node names of the operator's own files: never people or rooms, and
//! nothing that a client or another node may choose.

mod links;
mod live;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use systir_gateway::Tally;
use systir_policy::{Action, Decision};

use crate::reason::Reason;

pub(crate) use links::{LinkLedger, keep};
pub(crate) use live::Live;

/// Why something happened, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Because {
    /// A word of [`Reason`].
    reason: &'static str,
}

impl From<Reason> for Because {
    fn from(reason: Reason) -> Self {
        Self { reason: reason.as_str() }
    }
}

/// How a join came out at this front door.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Join {
    /// `placed` or `refused`.
    pub outcome: &'static str,
    /// A word of [`Reason`].
    pub reason: &'static str,
}

/// A policy decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Decided {
    /// What was asked for.
    pub action: &'static str,
    /// `allow` or `deny`.
    pub outcome: &'static str,
    /// The kind of reason.
    pub reason: &'static str,
    /// The deciding rule's id; empty when no rule decided.
    pub rule: String,
}

/// A step of the ladder that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LadderStep {
    /// `home`, `spill` or `refuse`.
    pub rung: &'static str,
    /// Why it was that one's turn.
    pub reason: &'static str,
    /// `admitted` or `refused`.
    pub answer: &'static str,
}

/// The counters of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    joins: Family<Join, Counter>,
    decisions: Family<Decided, Counter>,
    ladder: Family<LadderStep, Counter>,
    /// Reservations that this node refused, by reason.
    pub reserve_refusals: Family<Because, Counter>,
    /// Seconds from the arrival at the media node to the join message.
    pub join_seconds: Histogram,
    /// Participants whose media this node carries.
    pub participants: Gauge<i64, AtomicI64>,
    /// Rooms on this node.
    pub rooms: Gauge<i64, AtomicI64>,
    /// Links that are up.
    pub links: Gauge<i64, AtomicI64>,
    /// Messages about a room that the sender was not entitled to, by reason.
    pub link_refusals: Family<Because, Counter>,
    /// Rooms opened on this node so far.
    pub rooms_opened: Counter,
    /// What was given up because something was full, by what.
    pub overloads: Family<Because, Counter>,
    /// Records of rooms that were missing in the registry and were written again.
    pub restored: Counter,
    /// Rooms whose home was away and that got another.
    pub takeovers: Counter,
    /// Connections that the front door or the metrics port turned away, because there are too many.
    pub connections_refused: Counter,
    /// Clients' signalling at this front door.
    pub sockets: Arc<Tally>,
    /// Signalling relayed to and from other nodes.
    pub streams: Arc<Tally>,
    /// Does the node take joins? Set once everything listens, cleared when it stops.
    pub ready: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("systir"),
            joins: Family::default(),
            decisions: Family::default(),
            ladder: Family::default(),
            reserve_refusals: Family::default(),
            join_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 12)),
            participants: Gauge::default(),
            rooms: Gauge::default(),
            links: Gauge::default(),
            link_refusals: Family::default(),
            rooms_opened: Counter::default(),
            overloads: Family::default(),
            restored: Counter::default(),
            takeovers: Counter::default(),
            connections_refused: Counter::default(),
            sockets: Arc::default(),
            streams: Arc::default(),
            ready: AtomicBool::new(false),
        };
        let registry = &mut metrics.registry;
        registry.register("joins", "Joins at this front door, by outcome and reason", metrics.joins.clone());
        registry.register(
            "policy_decisions",
            "Policy decisions, by action, outcome, kind of reason and deciding rule",
            metrics.decisions.clone(),
        );
        registry.register(
            "ladder_steps",
            "Steps of the spill ladder that joins took, by rung, reason and answer",
            metrics.ladder.clone(),
        );
        registry.register(
            "reserve_refusals",
            "Reservations that this node refused, by reason",
            metrics.reserve_refusals.clone(),
        );
        registry.register("link_refusals", "Refused on links, by reason", metrics.link_refusals.clone());
        registry.register(
            "overloads",
            "Given up because something was full, by what",
            metrics.overloads.clone(),
        );
        registry.register("rooms_opened", "Rooms opened on this node so far", metrics.rooms_opened.clone());
        registry.register(
            "restored_records",
            "Missing records of rooms written again",
            metrics.restored.clone(),
        );
        registry.register("takeovers", "Rooms that got another home", metrics.takeovers.clone());
        registry.register("join_seconds", "Arrival to join message", metrics.join_seconds.clone());
        registry.register("participants", "Participants carried", metrics.participants.clone());
        registry.register("rooms", "Rooms on this node", metrics.rooms.clone());
        registry.register("links", "Links that are up", metrics.links.clone());
        registry.register(
            "connections_refused",
            "TCP connections turned away because there were too many",
            metrics.connections_refused.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// A join came to its end at this front door.
    pub(crate) fn join(&self, outcome: &'static str, reason: Reason) {
        self.joins.get_or_create(&Join { outcome, reason: reason.as_str() }).inc();
    }

    /// Policy decided.
    pub(crate) fn decided(&self, action: Action, decision: &Decision) {
        let labels = Decided {
            action: action.as_str(),
            outcome: if decision.allowed { "allow" } else { "deny" },
            reason: Reason::from(decision.reason).as_str(),
            rule: decision.rules.first().map(|rule| rule.as_str().to_owned()).unwrap_or_default(),
        };
        self.decisions.get_or_create(&labels).inc();
    }

    /// A step of the ladder was taken.
    pub(crate) fn step(&self, rung: &'static str, reason: Reason, admitted: bool) {
        let answer = if admitted { "admitted" } else { "refused" };
        self.ladder.get_or_create(&LadderStep { rung, reason: reason.as_str(), answer }).inc();
    }
}

#[derive(Clone)]
struct Served {
    metrics: Arc<Metrics>,
    live: Arc<Registry>,
}

/// `/metrics`, `/healthz` (the process lives), `/readyz` (it takes joins). Neither health nor
/// readiness asks etcd: a node without its registry still serves its rooms.
pub(crate) fn router(metrics: Arc<Metrics>, live: Live) -> Router {
    let mut registry = Registry::with_prefix("systir");
    registry.register_collector(Box::new(live));
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(Served { metrics, live: Arc::new(registry) })
}

async fn scrape(State(served): State<Served>) -> impl IntoResponse {
    let mut text = String::new();
    let written = encode_registry(&mut text, &served.metrics.registry)
        .and_then(|()| encode_registry(&mut text, &served.live))
        .and_then(|()| encode_eof(&mut text));
    if written.is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written down").into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}

async fn ready(State(served): State<Served>) -> impl IntoResponse {
    if served.metrics.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not taking joins")
    }
}
