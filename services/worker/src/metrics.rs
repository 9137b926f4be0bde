//! The metrics of media workers and of media over TCP, read at scrape time.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::WorkerStats;
use crate::tcp::ConnectionLimiter;

/// Worker counts that are gauges; all others are counters.
const GAUGES: [&str; 8] = [
    "participants",
    "tracks",
    "downtracks",
    "streams",
    "estimates",
    "estimates_below_300_kbit",
    "estimates_below_1_mbit",
    "estimates_below_3_mbit",
];

/// The metrics of a node's workers and of its TCP port for media.
#[derive(Debug)]
pub struct WorkerMetrics {
    workers: Vec<Arc<WorkerStats>>,
    tcp: ConnectionLimiter,
}

impl WorkerMetrics {
    /// Metrics that sum the counts of all workers.
    #[must_use]
    pub fn new(workers: Vec<Arc<WorkerStats>>, tcp: ConnectionLimiter) -> Self {
        Self { workers, tcp }
    }
}

impl Collector for WorkerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode_workers(&mut encoder, &self.workers)?;
        let tcp = self.tcp.counts();
        let accepted = "TCP connections for media that were accepted";
        counter(&mut encoder, "tcp_accepted", accepted, tcp.accepted)?;
        let refused = "TCP connections refused: too many without a valid STUN check";
        counter(&mut encoder, "tcp_refused", refused, tcp.refused)?;
        let unidentified = "TCP connections closed: no STUN check for this node in time";
        counter(&mut encoder, "tcp_unidentified", unidentified, tcp.unidentified)
    }
}

fn encode_workers(encoder: &mut DescriptorEncoder<'_>, workers: &[Arc<WorkerStats>]) -> fmt::Result {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for counts in workers.iter().map(|stats| stats.counts()) {
        for (name, value) in counts.named() {
            match sums.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name, value)),
            }
        }
    }
    for (name, value) in sums {
        let description = name.replace('_', " ");
        if GAUGES.contains(&name) {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge(encoder, &format!("worker_{name}"), &format!("Media workers: {description}"), value)?;
        } else {
            counter(encoder, name, &format!("Media workers: {description}"), value)?;
        }
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
