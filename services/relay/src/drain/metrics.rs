//! The metrics of a drain.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use systir_drain::DrainProgress;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabels {
    what: &'static str,
}

/// The metrics of this node's drain; all are 0 while it does not drain.
#[derive(Debug, Default)]
pub(crate) struct DrainMetrics {
    draining: Gauge,
    left: Family<WhatLabels, Gauge>,
    waiting: Family<WhatLabels, Gauge>,
    asked: Family<WhatLabels, Gauge>,
}

impl DrainMetrics {
    pub(super) fn show(&self, draining: bool, progress: &DrainProgress) {
        let set = |family: &Family<WhatLabels, Gauge>, what, count: u32| {
            family.get_or_create(&WhatLabels { what }).set(count.into());
        };
        self.draining.set(draining.into());
        set(&self.left, "participants", progress.participants);
        set(&self.left, "clients", progress.clients);
        set(&self.left, "homes", progress.homes);
        set(&self.waiting, "seat", progress.wait_for_seats);
        set(&self.waiting, "gateway", progress.wait_for_gateway);
        set(&self.waiting, "came-back", progress.came_back);
        set(&self.asked, "participants", progress.asked_participants);
        set(&self.asked, "clients", progress.asked_clients);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("draining", "1 while this node drains", self.draining.clone());
        let help = "What is left of the drain of this node";
        registry.register("drain_left", help, self.left.clone());
        let help = "Who stays until the deadline of the drain, because of what";
        registry.register("drain_waiting", help, self.waiting.clone());
        let help = "Asked to reconnect by the drain that is running";
        registry.register("drain_asked", help, self.asked.clone());
    }
}
