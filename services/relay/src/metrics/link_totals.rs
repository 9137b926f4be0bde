//! What the links to each node have carried. A link counts for itself and begins at zero; here the
//! links that were are added to the one that is, so that a counter never goes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use systir_cascade::{LinkInfo, LinkNumber, LinkStats};

use crate::node_directory::NodeDirectory;

/// The links to one node: the sum of those that ended, and the last word of those that stand.
#[derive(Debug, Default)]
struct Account {
    ended: LinkStats,
    standing: BTreeMap<LinkNumber, LinkStats>,
}

/// An account for each node.
#[derive(Debug, Default)]
pub(crate) struct LinkLedger(Mutex<BTreeMap<String, Account>>);

impl LinkLedger {
    /// Takes down what the links that stand say now, each with the node's name.
    pub(crate) fn note(&self, links: &[(String, LinkInfo)]) {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for account in accounts.values_mut() {
            let gone = account
                .standing
                .extract_if(.., |number, _| links.iter().all(|(_, link)| link.link != *number));
            let ended: Vec<_> = gone.map(|(_, stats)| stats).collect();
            for stats in ended {
                account.ended = sum(account.ended, stats);
            }
        }
        for (node, link) in links {
            accounts.entry(node.clone()).or_default().standing.insert(link.link, link.stats);
        }
    }

    /// Each node with its sums; times and sizes are those of the newest link, zero without one.
    pub(crate) fn totals(&self) -> Vec<(String, LinkStats)> {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = |account: &Account| {
            let counted = account.standing.values().copied().fold(account.ended, sum);
            let newest = account.standing.values().next_back().copied().unwrap_or_default();
            LinkStats { rtt: newest.rtt, rate: newest.rate, mtu: newest.mtu, ..counted }
        };
        accounts.iter().map(|(node, account)| (node.clone(), total(account))).collect()
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
        asked_out: a.asked_out + b.asked_out,
        asked_in: a.asked_in + b.asked_in,
        split: a.split + b.split,
        joined: a.joined + b.joined,
        too_large: a.too_large + b.too_large,
        malformed: a.malformed + b.malformed,
        messages_out: a.messages_out + b.messages_out,
        messages_in: a.messages_in + b.messages_in,
        messages_lost: a.messages_lost + b.messages_lost,
        unroutable: a.unroutable + b.unroutable,
        lost: a.lost + b.lost,
        sent: a.sent + b.sent,
        closed_room_messages: a.closed_room_messages + b.closed_room_messages,
        control_dropped: a.control_dropped + b.control_dropped,
        // Not sums; whoever reads the total sets them.
        rtt: Duration::ZERO,
        rate: 0,
        mtu: 0,
    }
}

/// Keeps the ledger, so that a link that ends takes at most its last second with it.
pub(crate) async fn keep(directory: Arc<NodeDirectory>, ledger: Arc<LinkLedger>) {
    loop {
        ledger.note(&directory.links_by_name());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use systir_cascade::Parity;
    use systir_identity::TrustDomain;

    use super::*;

    fn link(number: LinkNumber, packets: u64) -> (String, LinkInfo) {
        let me = TrustDomain::new("nordu.net").unwrap();
        let (a, b) = (me.relay("cph-1").unwrap(), me.relay("sto-1").unwrap());
        let stats = LinkStats { packets_out: packets, mtu: 1400, ..LinkStats::default() };
        let info = LinkInfo { parity: Parity::of(&a, &b), peer: b, link: number, rooms: Vec::new(), stats };
        ("sto-1".to_owned(), info)
    }

    #[test]
    fn a_new_link_goes_on_where_the_old_one_ended() {
        let ledger = LinkLedger::default();
        let packets = |ledger: &LinkLedger| ledger.totals().first().map(|(_, stats)| stats.packets_out);
        ledger.note(&[link(1, 10)]);
        ledger.note(&[link(1, 25)]);
        assert_eq!(packets(&ledger), Some(25));
        ledger.note(&[]);
        assert_eq!(packets(&ledger), Some(25));
        assert_eq!(ledger.totals().first().map(|(_, stats)| stats.mtu), Some(0), "no link, no size");
        ledger.note(&[link(7, 3)]);
        assert_eq!(packets(&ledger), Some(28));
    }
}
