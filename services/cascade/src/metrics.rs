//! The metrics of links, read at scrape time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::identity_counters::IdentityCounts;
use crate::link::info::LinkInfo;
use crate::link_totals::LinkTotals;
use crate::stats::LinkStats;

/// Where the metrics read links, each under the name that its peer has in metrics.
pub trait NamedLinks: fmt::Debug + Send + Sync {
    /// All links that are up.
    fn links_by_name(&self) -> Vec<(String, LinkInfo)>;

    /// As [`crate::Links::lost_between_threads`].
    fn lost_between_threads(&self) -> (u64, u64);

    /// As [`crate::Links::connection_ends`], by name; without peers that no directory lists any more.
    fn connection_ends(&self) -> Vec<(String, SystemTime)>;

    /// As [`crate::Links::identity_counts`].
    fn identity_counts(&self) -> IdentityCounts;
}

/// The metrics of all links of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LinkMetrics {
    links: Arc<dyn NamedLinks>,
    totals: Arc<LinkTotals>,
}

impl LinkMetrics {
    /// Metrics that begin at zero.
    #[must_use]
    pub fn new(links: Arc<dyn NamedLinks>) -> Self {
        Self { links, totals: Arc::default() }
    }

    /// Updates the totals every second, so that at most the last second of a link that ends is not
    /// counted. Never returns.
    pub async fn update_totals(self) {
        loop {
            self.totals.update(&self.links.links_by_name());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Collector for LinkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.totals.update(&self.links.links_by_name());
        encode_links(&mut encoder, &self.totals.totals())?;
        let (full, gone) = self.links.lost_between_threads();
        let help = "Packets dropped because the ring to a worker was full.";
        let metric = encoder.encode_descriptor("link_to_worker_lost", help, None, MetricType::Counter)?;
        ConstCounter::new(full).encode(metric)?;
        let help = "Packets dropped because their link had ended.";
        let metric = encoder.encode_descriptor("link_gone_lost", help, None, MetricType::Counter)?;
        ConstCounter::new(gone).encode(metric)?;
        encode_ends(&mut encoder, &self.links.connection_ends())?;
        encode_identities(&mut encoder, &self.links.identity_counts())
    }
}

fn encode_ends(encoder: &mut DescriptorEncoder<'_>, ends: &[(String, SystemTime)]) -> fmt::Result {
    if ends.is_empty() {
        return Ok(());
    }
    let help =
        "When the first of the connections with a node ends unless certificates are renewed, as Unix time.";
    let mut metric =
        encoder.encode_descriptor("link_connections_end_seconds", help, None, MetricType::Gauge)?;
    for (peer, end) in ends {
        let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let end = i64::try_from(end).unwrap_or(i64::MAX);
        ConstGauge::new(end).encode(metric.encode_family(&[("peer", peer.as_str())])?)?;
    }
    Ok(())
}

fn encode_identities(encoder: &mut DescriptorEncoder<'_>, counts: &IdentityCounts) -> fmt::Result {
    if !counts.refused.is_empty() {
        let help = "Connections refused, or not dialled, because of the other node's identity or versions, by reason.";
        let mut metric =
            encoder.encode_descriptor("link_identities_refused", help, None, MetricType::Counter)?;
        for (reason, count) in &counts.refused {
            ConstCounter::new(*count).encode(metric.encode_family(&[("reason", reason.as_str())])?)?;
        }
    }
    let help = "Links that ended because a certificate expired and was not renewed in time.";
    let metric = encoder.encode_descriptor("link_certificates_expired", help, None, MetricType::Counter)?;
    ConstCounter::new(counts.links_expired).encode(metric)?;
    let help = "Connections that this node dialled and extended or moved when certificates or node keys were replaced.";
    let metric = encoder.encode_descriptor("link_connections_renewed", help, None, MetricType::Counter)?;
    ConstCounter::new(counts.renewed).encode(metric)
}

type LinkCounter = (&'static str, &'static str, fn(&LinkStats) -> u64);

/// Counters of a link.
const COUNTERS: [LinkCounter; 12] = [
    (
        "link_messages_lost",
        "Received lossy messages dropped because this node did not process them in time.",
        |stats| stats.data_messages_lost,
    ),
    ("link_split", "Packets sent in two datagrams.", |stats| stats.split),
    ("link_joined", "Packets received in two datagrams.", |stats| stats.joined),
    ("link_too_large", "Packets dropped because they do not fit into two datagrams.", |stats| {
        stats.too_large
    }),
    ("link_malformed", "Datagrams that could not be parsed.", |stats| stats.malformed),
    ("link_unroutable", "Received packets with an unknown flow or worker.", |stats| stats.unroutable),
    (
        "link_over_share",
        "Received packets dropped because the link had no more room in the ring to a worker.",
        |stats| stats.over_share,
    ),
    ("link_lost", "Sent QUIC packets that were lost.", |stats| stats.lost),
    ("link_sent", "QUIC packets sent.", |stats| stats.sent),
    (
        "link_closed_flow_packets",
        "Media packets of workers for flows of no room that is open on the link, which were not sent.",
        |stats| stats.closed_flow_packets,
    ),
    (
        "link_closed_room_messages",
        "Messages received for rooms that are not open on the link, and dropped.",
        |stats| stats.closed_room_messages,
    ),
    ("link_control_dropped", "Control messages dropped because the other node did not read them.", |stats| {
        stats.control_dropped
    }),
];

type DirectedCounter = (&'static str, &'static str, fn(&LinkStats) -> [u64; 2]);

/// Counters of a link by direction: out, in.
const DIRECTED_COUNTERS: [DirectedCounter; 4] = [
    (
        "link_nacked_packets",
        "Packets requested again (NACK) over links: out by this node, in by the other node.",
        |stats| [stats.nacked_out, stats.nacked_in],
    ),
    ("link_messages", "Lossy messages of participants over links.", |stats| {
        [stats.data_messages_out, stats.data_messages_in]
    }),
    ("link_packets", "Media packets over links.", |stats| [stats.packets_out, stats.packets_in]),
    ("link_bytes", "Media bytes over links.", |stats| [stats.bytes_out, stats.bytes_in]),
];

type LinkGauge = (&'static str, &'static str, fn(&LinkStats) -> f64);

/// Gauges of a link.
const LINK_GAUGES: [LinkGauge; 3] = [
    ("link_rtt_seconds", "Round-trip time of the link.", |stats| stats.rtt.as_secs_f64()),
    ("link_mtu_bytes", "Current path MTU: the largest UDP payload.", |stats| f64::from(stats.mtu)),
    ("link_rate_bytes", "Estimated path capacity in bytes per second.", |stats| stats.rate as f64),
];

fn encode_links(encoder: &mut DescriptorEncoder<'_>, links: &[(String, LinkStats)]) -> fmt::Result {
    if links.is_empty() {
        return Ok(());
    }
    for (name, help, values) in DIRECTED_COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (peer, stats) in links {
            for (direction, value) in ["out", "in"].into_iter().zip(values(stats)) {
                let labels = [("peer", peer.as_str()), ("direction", direction)];
                ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    let help = "Packets dropped from a full or late send queue, by priority.";
    let mut metric = encoder.encode_descriptor("link_dropped", help, None, MetricType::Counter)?;
    for (peer, stats) in links {
        // By name: a new priority must not take the label of another.
        let [control, audio, messages, base, rest] = stats.dropped;
        for (class, value) in
            [("control", control), ("audio", audio), ("messages", messages), ("base", base), ("rest", rest)]
        {
            let labels = [("peer", peer.as_str()), ("class", class)];
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
    }
    for (name, help, value) in COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (peer, stats) in links {
            ConstCounter::new(value(stats)).encode(metric.encode_family(&[("peer", peer.as_str())])?)?;
        }
    }
    for (name, help, value) in LINK_GAUGES {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (peer, stats) in links {
            ConstGauge::new(value(stats)).encode(metric.encode_family(&[("peer", peer.as_str())])?)?;
        }
    }
    Ok(())
}
