//! The metrics of joins and seats. Reasons in labels are reason codes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use systir_placement::Seats;
use systir_reason::{ByReason, Reason};

/// The outcome of a join at this gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JoinLabels {
    /// `placed` or `refused`.
    outcome: &'static str,
    /// The reason code.
    reason: &'static str,
}

/// One step of the ladder: a node that was asked, or the refusal at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    /// `home`, `spill` or `refuse`.
    role: &'static str,
    /// Why the node was asked, or why the join was refused.
    reason: &'static str,
    /// `admitted` or `refused`.
    answer: &'static str,
}

/// The metrics of joins.
#[derive(Debug, Default)]
pub struct JoinMetrics {
    joins: Family<JoinLabels, Counter>,
    ladder: Family<StepLabels, Counter>,
    reserve_refusals: Family<ByReason, Counter>,
}

impl JoinMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("joins", "Joins at this gateway, by outcome and reason", self.joins.clone());
        registry.register(
            "ladder_steps",
            "Steps of the spill ladder that joins took, by role, reason and answer",
            self.ladder.clone(),
        );
        registry.register(
            "reserve_refusals",
            "Reservations that this node refused, by reason",
            self.reserve_refusals.clone(),
        );
    }

    /// Counts a join that got a seat.
    pub fn join_placed(&self, reason: Reason) {
        self.joins.get_or_create(&JoinLabels { outcome: "placed", reason: reason.as_str() }).inc();
    }

    /// Counts a refused join.
    pub fn join_refused(&self, reason: Reason) {
        self.joins.get_or_create(&JoinLabels { outcome: "refused", reason: reason.as_str() }).inc();
    }

    /// Counts a step of the ladder.
    pub fn step(&self, role: &'static str, reason: Reason, admitted: bool) {
        let answer = if admitted { "admitted" } else { "refused" };
        self.ladder.get_or_create(&StepLabels { role, reason: reason.as_str(), answer }).inc();
    }

    /// Counts a reservation that this node refused.
    pub fn reservation_refused(&self, reason: Reason) {
        self.reserve_refusals.get_or_create(&reason.into()).inc();
    }
}

/// The metrics of this node's seats, read at scrape time.
#[derive(Debug)]
pub struct SeatMetrics(pub Arc<Seats>);

impl Collector for SeatMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (used, capacity) = self.0.used_and_capacity();
        for (name, help, value) in [
            ("seats_used", "Seats taken or reserved.", used),
            ("seats_capacity", "Total number of seats.", capacity),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::from(value)).encode(metric)?;
        }
        Ok(())
    }
}
