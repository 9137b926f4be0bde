//! Figures that live elsewhere and are read when somebody asks: workers, links, seats, registry.

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
use systir_worker::tcp::Gate;

use super::LinkLedger;
use crate::node_directory::NodeDirectory;

/// Of the workers' counts, those that also go down.
const GAUGES: [&str; 4] = ["participants", "tracks", "downtracks", "streams"];

/// Reads them all.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) node: String,
    pub(crate) workers: Vec<Arc<WorkerStats>>,
    pub(crate) ledger: Arc<LinkLedger>,
    pub(crate) directory: Arc<NodeDirectory>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) tcp_gate: Gate,
    /// Clients' sockets.
    pub(crate) sockets: Arc<SignalCounters>,
    /// Signalling relayed to and from other nodes.
    pub(crate) streams: Arc<SignalCounters>,
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        workers(&mut encoder, &self.workers)?;
        self.ledger.note(&self.directory.links_by_name());
        links(&mut encoder, &self.ledger.totals())?;
        if let Some(all) = self.directory.links() {
            let (full, gone) = all.lost_between_threads();
            counter(&mut encoder, "link_to_worker_lost", "Packets that workers did not take", full)?;
            counter(&mut encoder, "link_gone_lost", "Packets for links that were gone", gone)?;
        }
        let tcp = self.tcp_gate.counts();
        counter(&mut encoder, "tcp_accepted", "TCP connections for media that were admitted", tcp.accepted)?;
        counter(
            &mut encoder,
            "tcp_refused",
            "TCP connections refused: too many without a valid check",
            tcp.refused,
        )?;
        counter(
            &mut encoder,
            "tcp_unidentified",
            "TCP connections without a valid check in time",
            tcp.strangers,
        )?;
        let (used, capacity) = self.seats.used_and_capacity();
        gauge(&mut encoder, "seats_used", "Seats taken or reserved", used.into())?;
        gauge(&mut encoder, "seats_capacity", "Seats in all", capacity.into())?;
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
        let words = name.replace('_', " ");
        if GAUGES.contains(&name) {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge(encoder, &format!("worker_{name}"), &format!("Media workers: {words}"), value)?;
        } else {
            counter(encoder, name, &format!("Media workers: {words}"), value)?;
        }
    }
    Ok(())
}

/// Signalling on its two legs: clients' sockets, and streams from and to other nodes.
pub(super) fn signalling(
    encoder: &mut DescriptorEncoder<'_>,
    sockets: &SignalCounters,
    streams: &SignalCounters,
) -> fmt::Result {
    let open = |counters: &SignalCounters| i64::try_from(counters.open()).unwrap_or(i64::MAX);
    gauge(encoder, "signal_websockets", "Clients' sockets that are open", open(sockets))?;
    let help = "Participants whose signalling is relayed from or to another node";
    gauge(encoder, "signal_streams", help, open(streams))?;
    let help = "Messages of signalling, by leg and direction.";
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
    gauge(encoder, "registry_connected", "Does the registry answer?", away.is_none().into())?;
    let seconds = i64::try_from(away.unwrap_or_default()).unwrap_or(i64::MAX);
    gauge(encoder, "registry_away_seconds", "Seconds since the registry last answered", seconds)?;
    let assigned = view.rooms().filter(|assignment| assignment.has(node)).count();
    let assigned = i64::try_from(assigned).unwrap_or(i64::MAX);
    gauge(encoder, "registry_assigned", "Records of rooms that name this node", assigned)?;
    counter(encoder, "registry_garbled", "Records that could not be read", view.garbled())
}

type Figure = (&'static str, &'static str, fn(&LinkStats) -> u64);

/// Figures of a link that count up.
const COUNTED: [Figure; 10] = [
    ("link_messages_lost", "Lossy messages that this node did not take in time.", |stats| {
        stats.messages_lost
    }),
    ("link_split", "Packets sent in two halves.", |stats| stats.split),
    ("link_joined", "Packets received in two halves.", |stats| stats.joined),
    ("link_too_large", "Packets that two datagrams could not hold.", |stats| stats.too_large),
    ("link_malformed", "Datagrams that were no frames.", |stats| stats.malformed),
    ("link_unroutable", "Packets of flows that nobody here knows.", |stats| stats.unroutable),
    ("link_lost", "QUIC packets lost on the way out.", |stats| stats.lost),
    ("link_sent", "QUIC packets sent.", |stats| stats.sent),
    ("link_closed_room_messages", "Messages about rooms that were not open.", |stats| {
        stats.closed_room_messages
    }),
    ("link_control_dropped", "Control messages that the other node did not read.", |stats| {
        stats.control_dropped
    }),
];

type Pair = (&'static str, &'static str, fn(&LinkStats) -> [u64; 2]);

/// Figures of a link with a direction: out, in.
const BOTH_WAYS: [Pair; 4] = [
    ("link_asked_again", "Packets asked for again over links: out by this node, in by the other.", |stats| {
        [stats.asked_out, stats.asked_in]
    }),
    ("link_messages", "Lossy messages of participants over links.", |stats| {
        [stats.messages_out, stats.messages_in]
    }),
    ("link_packets", "Media packets over links.", |stats| [stats.packets_out, stats.packets_in]),
    ("link_bytes", "Media bytes over links.", |stats| [stats.bytes_out, stats.bytes_in]),
];

type Measure = (&'static str, &'static str, fn(&LinkStats) -> f64);

/// Figures of a link that go up and down.
const MEASURED: [Measure; 3] = [
    ("link_rtt_seconds", "Round-trip time of the link.", |stats| stats.rtt.as_secs_f64()),
    ("link_mtu_bytes", "Largest UDP payload in use.", |stats| f64::from(stats.mtu)),
    ("link_rate_bytes", "Bytes per second that the path is thought to carry.", |stats| stats.rate as f64),
];

pub(super) fn links(encoder: &mut DescriptorEncoder<'_>, links: &[(String, LinkStats)]) -> fmt::Result {
    if links.is_empty() {
        return Ok(());
    }
    for (name, help, values) in BOTH_WAYS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (peer, stats) in links {
            for (direction, value) in ["out", "in"].into_iter().zip(values(stats)) {
                let labels = [("peer", peer.as_str()), ("direction", direction)];
                ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    let help = "Packets that did not get room in time, by priority.";
    let mut metric = encoder.encode_descriptor("link_dropped", help, None, MetricType::Counter)?;
    for (peer, stats) in links {
        // Each by its name, so that a new priority cannot take the label of another.
        let [control, audio, messages, base, rest] = stats.dropped;
        for (class, value) in
            [("control", control), ("audio", audio), ("messages", messages), ("base", base), ("rest", rest)]
        {
            let labels = [("peer", peer.as_str()), ("class", class)];
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
    }
    for (name, help, value) in COUNTED {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (peer, stats) in links {
            ConstCounter::new(value(stats)).encode(metric.encode_family(&[("peer", peer.as_str())])?)?;
        }
    }
    for (name, help, value) in MEASURED {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (peer, stats) in links {
            ConstGauge::new(value(stats)).encode(metric.encode_family(&[("peer", peer.as_str())])?)?;
        }
    }
    Ok(())
}
