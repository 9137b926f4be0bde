//! The metrics of signalling, read at scrape time.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::SignalCounters;

/// The metrics of signalling by leg: WebSockets of clients, and streams from and to other nodes.
#[derive(Debug)]
pub struct SignalMetrics {
    /// WebSockets of clients at this gateway.
    pub sockets: Arc<SignalCounters>,
    /// Signalling relayed from and to other nodes.
    pub streams: Arc<SignalCounters>,
}

impl Collector for SignalMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let open = |counters: &SignalCounters| i64::try_from(counters.open()).unwrap_or(i64::MAX);
        gauge(&mut encoder, "signal_websockets", "Open WebSockets of clients", open(&self.sockets))?;
        let help = "Participants whose signalling is relayed from or to another node";
        gauge(&mut encoder, "signal_streams", help, open(&self.streams))?;
        let help = "Signalling messages, by leg and direction.";
        let mut metric = encoder.encode_descriptor("signal_messages", help, None, MetricType::Counter)?;
        for (leg, counters) in [("client", &self.sockets), ("relayed", &self.streams)] {
            let (received, sent) = counters.messages();
            for (direction, value) in [("in", received), ("out", sent)] {
                let labels = [("leg", leg), ("direction", direction)];
                ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
