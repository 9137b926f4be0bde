//! Totals of all links to each node since the start. Each link counts from zero, so the counts of ended
//! links are added to those of the open link: a counter in the metrics must never decrease.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::event::LinkNumber;
use crate::link::info::LinkInfo;
use crate::stats::LinkStats;

/// The links to one node.
#[derive(Debug, Default)]
struct PeerTotals {
    /// Sum of the links that ended.
    ended: LinkStats,
    /// Latest statistics of the open links.
    open: BTreeMap<LinkNumber, LinkStats>,
}

/// Totals by node name.
#[derive(Debug, Default)]
pub(crate) struct LinkTotals(Mutex<BTreeMap<String, PeerTotals>>);

impl LinkTotals {
    /// Records the current statistics of all open links, each with its node's name.
    pub(crate) fn update(&self, links: &[(String, LinkInfo)]) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for peer in peers.values_mut() {
            let gone =
                peer.open.extract_if(.., |number, _| links.iter().all(|(_, link)| link.link != *number));
            let ended: Vec<_> = gone.map(|(_, stats)| stats).collect();
            for stats in ended {
                peer.ended = sum(peer.ended, stats);
            }
        }
        for (node, link) in links {
            peers.entry(node.clone()).or_default().open.insert(link.link, link.stats);
        }
    }

    /// The totals of each node. Round-trip time, rate and MTU are those of the newest open link; zero without
    /// one.
    pub(crate) fn totals(&self) -> Vec<(String, LinkStats)> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = |peer: &PeerTotals| {
            let counters = peer.open.values().copied().fold(peer.ended, sum);
            let newest = peer.open.values().next_back().copied().unwrap_or_default();
            LinkStats { rtt: newest.rtt, rate: newest.rate, mtu: newest.mtu, ..counters }
        };
        peers.iter().map(|(node, peer)| (node.clone(), total(peer))).collect()
    }
}

fn sum(a: LinkStats, b: LinkStats) -> LinkStats {
    let mut dropped = a.dropped;
    for (sum, more) in dropped.iter_mut().zip(b.dropped) {
        *sum += more;
    }
    LinkStats {
        packets_out: a.packets_out + b.packets_out,
        bytes_out: a.bytes_out + b.bytes_out,
        packets_in: a.packets_in + b.packets_in,
        bytes_in: a.bytes_in + b.bytes_in,
        dropped,
        nacked_out: a.nacked_out + b.nacked_out,
        nacked_in: a.nacked_in + b.nacked_in,
        split: a.split + b.split,
        joined: a.joined + b.joined,
        too_large: a.too_large + b.too_large,
        malformed: a.malformed + b.malformed,
        data_messages_out: a.data_messages_out + b.data_messages_out,
        data_messages_in: a.data_messages_in + b.data_messages_in,
        data_messages_lost: a.data_messages_lost + b.data_messages_lost,
        unroutable: a.unroutable + b.unroutable,
        over_share: a.over_share + b.over_share,
        lost: a.lost + b.lost,
        sent: a.sent + b.sent,
        closed_flow_packets: a.closed_flow_packets + b.closed_flow_packets,
        closed_room_messages: a.closed_room_messages + b.closed_room_messages,
        control_dropped: a.control_dropped + b.control_dropped,
        // Not counters; `totals` sets them.
        rtt: Duration::ZERO,
        rate: 0,
        mtu: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Parity;
    use systir_identity::TrustDomain;

    fn link(number: LinkNumber, packets: u64) -> (String, LinkInfo) {
        let me = TrustDomain::new("nordu.net").unwrap();
        let (a, b) = (me.relay("cph-1").unwrap(), me.relay("sto-1").unwrap());
        let stats = LinkStats { packets_out: packets, mtu: 1400, ..LinkStats::default() };
        let info = LinkInfo { parity: Parity::of(&a, &b), peer: b, link: number, rooms: Vec::new(), stats };
        ("sto-1".to_owned(), info)
    }

    #[test]
    fn totals_continue_over_a_new_link() {
        let link_totals = LinkTotals::default();
        let packets =
            |link_totals: &LinkTotals| link_totals.totals().first().map(|(_, stats)| stats.packets_out);
        link_totals.update(&[link(1, 10)]);
        link_totals.update(&[link(1, 25)]);
        assert_eq!(packets(&link_totals), Some(25));
        link_totals.update(&[]);
        assert_eq!(packets(&link_totals), Some(25));
        assert_eq!(
            link_totals.totals().first().map(|(_, stats)| stats.mtu),
            Some(0),
            "no MTU without a link"
        );
        link_totals.update(&[link(7, 3)]);
        assert_eq!(packets(&link_totals), Some(28));
    }
}
