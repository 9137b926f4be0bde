//! What a node counts, in OpenMetrics, and whether it lives and is ready. Labels are reason codes
//! and node names, never people or rooms.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Why something happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A stable code, such as `home-full`.
    pub reason: String,
}

impl From<&str> for Reason {
    fn from(reason: &str) -> Self {
        Self { reason: reason.to_owned() }
    }
}

/// The counters of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Participants placed from this front door, by the placement's reason.
    pub joins: Family<Reason, Counter>,
    /// Participants refused at this front door, by reason.
    pub refusals: Family<Reason, Counter>,
    /// Reservations that this node refused, by reason.
    pub reserve_refusals: Family<Reason, Counter>,
    /// Policy decisions that were a deny, by reason.
    pub denials: Family<Reason, Counter>,
    /// Seconds from the request to the join message.
    pub join_seconds: Histogram,
    /// Participants whose media this node carries.
    pub participants: Gauge<i64, AtomicI64>,
    /// Rooms on this node.
    pub rooms: Gauge<i64, AtomicI64>,
    /// Links that are up.
    pub links: Gauge<i64, AtomicI64>,
    /// Messages about a room that the sender was not entitled to, by reason.
    pub link_refusals: Family<Reason, Counter>,
    /// Does the node take joins? Set once everything listens, cleared when it stops.
    pub ready: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("systir");
        let joins = Family::<Reason, Counter>::default();
        let refusals = Family::<Reason, Counter>::default();
        let reserve_refusals = Family::<Reason, Counter>::default();
        let denials = Family::<Reason, Counter>::default();
        let link_refusals = Family::<Reason, Counter>::default();
        let join_seconds = Histogram::new(exponential_buckets(0.005, 2.0, 12));
        let participants = Gauge::<i64, AtomicI64>::default();
        let rooms = Gauge::<i64, AtomicI64>::default();
        let links = Gauge::<i64, AtomicI64>::default();
        registry.register("joins", "Participants placed, by reason", joins.clone());
        registry.register("refusals", "Participants refused, by reason", refusals.clone());
        registry.register("reserve_refusals", "Reservations refused, by reason", reserve_refusals.clone());
        registry.register("denials", "Policy denials, by reason", denials.clone());
        registry.register("link_refusals", "Refused on links, by reason", link_refusals.clone());
        registry.register("join_seconds", "Request to join message", join_seconds.clone());
        registry.register("participants", "Participants carried", participants.clone());
        registry.register("rooms", "Rooms on this node", rooms.clone());
        registry.register("links", "Links that are up", links.clone());
        Self {
            registry,
            joins,
            refusals,
            reserve_refusals,
            denials,
            join_seconds,
            participants,
            rooms,
            links,
            link_refusals,
            ready: AtomicBool::new(false),
        }
    }
}

/// Of the workers' counts, those that also go down.
const GAUGES: [&str; 4] = ["participants", "tracks", "downtracks", "streams"];

/// Counters that live elsewhere and are read when somebody asks: name, value.
pub type Extra = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

#[derive(Clone)]
struct Served {
    metrics: Arc<Metrics>,
    extra: Extra,
}

/// `/metrics`, `/healthz` (the process lives), `/readyz` (it takes joins). Neither health nor
/// readiness asks etcd: a node without its registry still serves its rooms.
pub fn router(metrics: Arc<Metrics>, extra: Extra) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(Served { metrics, extra })
}

async fn scrape(State(served): State<Served>) -> impl IntoResponse {
    let mut text = String::new();
    if encode(&mut text, &served.metrics.registry).is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written down").into_response();
    }
    let end = text.trim_end().trim_end_matches("# EOF").len();
    text.truncate(end);
    for (name, value) in (served.extra)() {
        let _ = if GAUGES.contains(&name) {
            writeln!(text, "# TYPE systir_worker_{name} gauge\nsystir_worker_{name} {value}")
        } else {
            writeln!(text, "# TYPE systir_{name} counter\nsystir_{name}_total {value}")
        };
    }
    text.push_str("# EOF\n");
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
