//! What joins count. Labels are reason codes.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use systir_reason::{ByReason, Reason};

/// The outcome of a join at this gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JoinLabels {
    /// `placed` or `refused`.
    outcome: &'static str,
    /// The reason code.
    reason: &'static str,
}

/// A step of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    /// `home`, `spill` or `refuse`.
    rung: &'static str,
    /// Why the node had its rank.
    reason: &'static str,
    /// `admitted` or `refused`.
    answer: &'static str,
}

/// The metrics of joins.
#[derive(Debug, Default)]
pub struct Metrics {
    joins: Family<JoinLabels, Counter>,
    ladder: Family<StepLabels, Counter>,
    reserve_refusals: Family<ByReason, Counter>,
}

impl Metrics {
    /// Puts them into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("joins", "Joins at this gateway, by outcome and reason", self.joins.clone());
        registry.register(
            "ladder_steps",
            "Steps of the spill ladder that joins took, by rung, reason and answer",
            self.ladder.clone(),
        );
        registry.register(
            "reserve_refusals",
            "Reservations that this node refused, by reason",
            self.reserve_refusals.clone(),
        );
    }

    /// A join got a seat.
    pub fn join_placed(&self, reason: Reason) {
        self.joins.get_or_create(&JoinLabels { outcome: "placed", reason: reason.as_str() }).inc();
    }

    /// A join was refused.
    pub fn join_refused(&self, reason: Reason) {
        self.joins.get_or_create(&JoinLabels { outcome: "refused", reason: reason.as_str() }).inc();
    }

    /// A step of the ladder was taken.
    pub fn step(&self, rung: &'static str, reason: Reason, admitted: bool) {
        let answer = if admitted { "admitted" } else { "refused" };
        self.ladder.get_or_create(&StepLabels { rung, reason: reason.as_str(), answer }).inc();
    }

    /// This node refused a reservation.
    pub fn reservation_refused(&self, reason: Reason) {
        self.reserve_refusals.get_or_create(&reason.into()).inc();
    }
}
