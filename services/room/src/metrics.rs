//! The metrics of a node's rooms. Labels are reason codes, never names of rooms or participants.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use systir_reason::ByReason;

/// The metrics of all rooms of a node.
#[derive(Debug)]
pub struct RoomMetrics {
    /// Seconds from the arrival at the media node to the join message.
    pub join_seconds: Histogram,
    /// Participants whose media is on this node.
    pub participants: Gauge<i64, AtomicI64>,
    /// Rooms on this node.
    pub rooms: Gauge<i64, AtomicI64>,
    /// Rooms opened on this node so far.
    pub rooms_opened: Counter,
    /// Messages and requests of other nodes that were refused, by reason.
    pub link_refusals: Family<ByReason, Counter>,
    /// Participants and records of participants that were refused for their ticket, by reason.
    pub ticket_refusals: Family<ByReason, Counter>,
    /// Full queues: what was dropped or restarted, by queue.
    pub overloads: Family<ByReason, Counter>,
}

impl Default for RoomMetrics {
    fn default() -> Self {
        Self {
            join_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 12)),
            participants: Gauge::default(),
            rooms: Gauge::default(),
            rooms_opened: Counter::default(),
            link_refusals: Family::default(),
            ticket_refusals: Family::default(),
            overloads: Family::default(),
        }
    }
}

impl RoomMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let arrival = "Seconds from the arrival at the media node to the join message";
        registry.register("join_seconds", arrival, self.join_seconds.clone());
        registry.register(
            "participants",
            "Participants whose media is on this node",
            self.participants.clone(),
        );
        registry.register("rooms", "Rooms on this node", self.rooms.clone());
        registry.register("rooms_opened", "Rooms opened on this node so far", self.rooms_opened.clone());
        let refusals = "Messages and requests of other nodes that were refused, by reason";
        registry.register("link_refusals", refusals, self.link_refusals.clone());
        let tickets =
            "Participants and records of participants that were refused for their ticket, by reason";
        registry.register("ticket_refusals", tickets, self.ticket_refusals.clone());
        let overloads = "Full queues and reached limits: what was dropped or restarted, by which";
        registry.register("overloads", overloads, self.overloads.clone());
    }
}
