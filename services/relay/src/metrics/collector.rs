//! Metrics that are read from other parts at scrape time: workers, links, seats, registry.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use systir_cascade::LinkStats;
use systir_gateway::SignalCounters;
use systir_placement::Seats;
use systir_registry::Registry;
use systir_worker::WorkerStats;
use systir_worker::tcp::ConnectionLimiter;

use super::LinkTotals;
use crate::node_directory::NodeDirectory;

/// Worker counts that are gauges; all others are counters.
const GAUGES: [&str; 4] = ["participants", "tracks", "downtracks", "streams"];

/// The collector of one node: reads these parts at each scrape.
#[derive(Debug)]
pub(crate) struct NodeCollector {
    pub(crate) node: String,
    pub(crate) workers: Vec<Arc<WorkerStats>>,
    pub(crate) link_totals: Arc<LinkTotals>,
    pub(crate) directory: Arc<NodeDirectory>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) tcp_limiter: ConnectionLimiter,
    /// Signalling of clients at this gateway.
    pub(crate) sockets: Arc<SignalCounters>,
    /// Signalling relayed to and from other nodes.
    pub(crate) streams: Arc<SignalCounters>,
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        workers(&mut encoder, &self.workers)?;
        self.link_totals.update(&self.directory.links_by_name());
        links(&mut encoder, &self.link_totals.totals())?;
        if let Some(all) = self.directory.links() {
            let (full, gone) = all.lost_between_threads();
            counter(
                &mut encoder,
                "link_to_worker_lost",
                "Packets dropped because the ring to a worker was full",
                full,
            )?;
            counter(&mut encoder, "link_gone_lost", "Packets dropped because their link had ended", gone)?;
        }
        let tcp = self.tcp_limiter.counts();
        counter(&mut encoder, "tcp_accepted", "TCP connections for media that were accepted", tcp.accepted)?;
        counter(
            &mut encoder,
            "tcp_refused",
            "TCP connections refused: too many without a valid STUN check",
            tcp.refused,
        )?;
        counter(
            &mut encoder,
            "tcp_unidentified",
            "TCP connections closed: no STUN check for this node in time",
            tcp.unidentified,
        )?;
        let (used, capacity) = self.seats.used_and_capacity();
        gauge(&mut encoder, "seats_used", "Seats taken or reserved", used.into())?;
        gauge(&mut encoder, "seats_capacity", "Total number of seats", capacity.into())?;
        signalling(&mut encoder, &self.sockets, &self.streams)?;
        registry(&mut encoder, &self.registry, &self.node)
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

pub(super) fn workers(encoder: &mut DescriptorEncoder<'_>, workers: &[Arc<WorkerStats>]) -> fmt::Result {
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

/// Signalling by leg: WebSockets of clients, and streams from and to other nodes.
pub(super) fn signalling(
    encoder: &mut DescriptorEncoder<'_>,
    sockets: &SignalCounters,
    streams: &SignalCounters,
) -> fmt::Result {
    let open = |counters: &SignalCounters| i64::try_from(counters.open()).unwrap_or(i64::MAX);
    gauge(encoder, "signal_websockets", "Open WebSockets of clients", open(sockets))?;
    let help = "Participants whose signalling is relayed from or to another node";
    gauge(encoder, "signal_streams", help, open(streams))?;
    let help = "Signalling messages, by leg and direction.";
    let mut metric = encoder.encode_descriptor("signal_messages", help, None, MetricType::Counter)?;
    for (leg, counters) in [("client", sockets), ("relayed", streams)] {
        let (received, sent) = counters.messages();
        for (direction, value) in [("in", received), ("out", sent)] {
            let labels = [("leg", leg), ("direction", direction)];
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn registry(encoder: &mut DescriptorEncoder<'_>, registry: &Arc<dyn Registry>, node: &str) -> fmt::Result {
    let view = registry.view();
    let away = view.away_since().map(|since| since.elapsed().as_secs());
    gauge(
        encoder,
        "registry_connected",
        "1 while the registry answers, 0 while it does not",
        away.is_none().into(),
    )?;
    let seconds = i64::try_from(away.unwrap_or_default()).unwrap_or(i64::MAX);
    gauge(encoder, "registry_away_seconds", "Seconds since the registry last answered", seconds)?;
    let assigned = view.rooms().filter(|assignment| assignment.has(node)).count();
    let assigned = i64::try_from(assigned).unwrap_or(i64::MAX);
    gauge(encoder, "registry_assigned", "Room records that name this node", assigned)?;
    counter(encoder, "registry_unreadable", "Records that could not be read", view.unreadable())
}

type LinkCounter = (&'static str, &'static str, fn(&LinkStats) -> u64);

/// Counters of a link.
const COUNTERS: [LinkCounter; 10] = [
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
    ("link_unroutable", "Packets with an unknown flow or worker.", |stats| stats.unroutable),
    ("link_lost", "Sent QUIC packets that were lost.", |stats| stats.lost),
    ("link_sent", "QUIC packets sent.", |stats| stats.sent),
    ("link_closed_room_messages", "Control messages for rooms that are not open on the link.", |stats| {
        stats.closed_room_messages
    }),
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

pub(super) fn links(encoder: &mut DescriptorEncoder<'_>, links: &[(String, LinkStats)]) -> fmt::Result {
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
