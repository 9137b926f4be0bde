//! The metrics of the registry's local copy, read at scrape time.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::Registry;

/// The metrics of the registry as one node sees it.
#[derive(Debug)]
pub struct RegistryMetrics {
    registry: Arc<dyn Registry>,
    node: String,
}

impl RegistryMetrics {
    /// Metrics of the node `node`.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, node: &str) -> Self {
        Self { registry, node: node.to_owned() }
    }
}

impl Collector for RegistryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = self.registry.view();
        let unavailable = view.unavailable_since().map(|since| since.elapsed().as_secs());
        gauge(
            &mut encoder,
            "registry_connected",
            "1 while the registry answers, 0 while it does not",
            unavailable.is_none().into(),
        )?;
        let seconds = i64::try_from(unavailable.unwrap_or_default()).unwrap_or(i64::MAX);
        gauge(
            &mut encoder,
            "registry_unavailable_seconds",
            "Seconds since the registry last answered",
            seconds,
        )?;
        gauge(
            &mut encoder,
            "registry_refused_institutions",
            "Institutions that approve this node and whose rooms the registry refuses to it",
            i64::try_from(view.refused().count()).unwrap_or(i64::MAX),
        )?;
        let assigned = view.rooms().filter(|assignment| assignment.has(&self.node)).count();
        let assigned = i64::try_from(assigned).unwrap_or(i64::MAX);
        gauge(&mut encoder, "registry_assigned", "Room records that name this node", assigned)?;
        counter(
            &mut encoder,
            "registry_replaced",
            "Times that the registry was found restored from a backup or replaced",
            view.replaced(),
        )?;
        counter(&mut encoder, "registry_unreadable", "Records that could not be read", view.unreadable())?;
        counter(
            &mut encoder,
            "registry_unsupported",
            "Records of versions that this node does not work with, which are neither read nor replaced",
            view.unsupported(),
        )
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
