//! Seats of other nodes that participants who were asked to reconnect are about to take.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::view::NodeView;

/// After this time a participant who was asked has joined elsewhere, and the report of the node there counts it: clients
/// rejoin within a second, and nodes report a changed load each second.
const REPORTED_AFTER: Duration = Duration::from_secs(3);

/// Participants who were asked, each with the nodes that may get it. It counts at each of them: which one places it is
/// decided when it joins.
#[derive(Debug, Default)]
pub(crate) struct SeatsInUseSoon {
    asked: VecDeque<(Instant, Vec<String>)>,
    by_node: BTreeMap<String, u32>,
}

impl SeatsInUseSoon {
    /// Forgets those that reports count by now. While no reports arrive, all count.
    pub(crate) fn settle(&mut self, view: &NodeView, now: Instant) {
        while view.reports_arrive
            && self.asked.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= REPORTED_AFTER)
        {
            let Some((_, nodes)) = self.asked.pop_front() else { return };
            for node in nodes {
                if let Some(count) = self.by_node.get_mut(&node) {
                    *count = count.saturating_sub(1);
                }
            }
        }
    }

    /// Has one of these nodes a free seat, and each that has one a seat that nobody is about to take? Else a participant could
    /// take the seat of another one, who may have no other node.
    pub(crate) fn has_free(&self, nodes: &[String], view: &NodeView) -> bool {
        let free = |node: &String| view.free_seats.get(node).copied().unwrap_or_default();
        let soon = |node: &String| self.by_node.get(node).copied().unwrap_or_default();
        let mut with_seats = nodes.iter().filter(|node| free(node) > 0).peekable();
        with_seats.peek().is_some() && with_seats.all(|node| free(node) > soon(node))
    }

    /// A participant was asked who will take a seat of one of these nodes.
    pub(crate) fn take(&mut self, nodes: &[String], now: Instant) {
        for node in nodes {
            *self.by_node.entry(node.clone()).or_default() += 1;
        }
        self.asked.push_back((now, nodes.to_vec()));
    }
}
