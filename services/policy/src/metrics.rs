//! PolicyMetrics of policy decisions.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::{Action, Decision};

/// Labels of a policy decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    /// The action.
    action: &'static str,
    /// `allow` or `deny`.
    outcome: &'static str,
    /// The reason code.
    reason: &'static str,
    /// The deciding rule's id; empty when no rule decided.
    rule: String,
}

/// The metrics of policy decisions.
#[derive(Debug, Default)]
pub struct PolicyMetrics {
    decisions: Family<DecisionLabels, Counter>,
}

impl PolicyMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_decisions",
            "Policy decisions, by action, outcome, reason code and deciding rule",
            self.decisions.clone(),
        );
    }

    /// Counts a decision.
    pub(crate) fn decided(&self, action: Action, decision: &Decision) {
        let labels = DecisionLabels {
            action: action.as_str(),
            outcome: if decision.allowed { "allow" } else { "deny" },
            reason: decision.reason.as_str(),
            rule: decision.rules.first().map(|rule| rule.as_str().to_owned()).unwrap_or_default(),
        };
        self.decisions.get_or_create(&labels).inc();
    }
}
