//! The flows of the rooms that are open on a link. The session of the link writes them; the QUIC thread reads them, and sends and
//! passes on no packet of another flow. So media ends with the room, whatever the worker or the peer still sends.

use crate::flow::FlowId;
use rustc_hash::FxHashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::warn;

/// Flows of one link, at most.
const MAX_FLOWS: usize = 1 << 16;

/// The flows of one link.
#[derive(Debug, Default, Clone)]
pub(crate) struct LinkFlows {
    /// Those that the peer chose: this node sends their media.
    pub(crate) sent: Arc<OpenFlows>,
    /// Those that this node chose when it subscribed: the peer sends their media.
    pub(crate) received: Arc<OpenFlows>,
}

/// A set of flows that is copied when it changes: its reader takes no lock for each packet.
#[derive(Debug, Default)]
pub(crate) struct OpenFlows {
    /// Counts the changes.
    version: AtomicU64,
    flows: Mutex<Arc<FxHashSet<FlowId>>>,
    /// Was it logged that there are too many?
    logged: AtomicBool,
}

impl OpenFlows {
    fn lock(&self) -> MutexGuard<'_, Arc<FxHashSet<FlowId>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a flow. False when it is one of another track already, or there are too many.
    pub(crate) fn insert(&self, flow: FlowId) -> bool {
        let mut flows = self.lock();
        if flows.contains(&flow) {
            return false;
        }
        if flows.len() >= MAX_FLOWS {
            if !self.logged.swap(true, Ordering::Relaxed) {
                warn!("a link has {MAX_FLOWS} subscriptions; further ones are refused");
            }
            return false;
        }
        Arc::make_mut(&mut flows).insert(flow);
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// Removes flows.
    pub(crate) fn remove(&self, ended: impl IntoIterator<Item = FlowId>) {
        let mut ended = ended.into_iter().peekable();
        if ended.peek().is_none() {
            return;
        }
        let mut flows = self.lock();
        let set = Arc::make_mut(&mut flows);
        for flow in ended {
            set.remove(&flow);
        }
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// The flows as the QUIC thread knows them.
#[derive(Debug)]
pub(crate) struct KnownOpenFlows {
    source: Arc<OpenFlows>,
    version: u64,
    flows: Arc<FxHashSet<FlowId>>,
}

impl KnownOpenFlows {
    pub(crate) fn of(source: Arc<OpenFlows>) -> Self {
        let mut known = Self { source, version: u64::MAX, flows: Arc::default() };
        known.refresh();
        known
    }

    /// Takes over what has changed.
    pub(crate) fn refresh(&mut self) {
        // Before the set is read: a change in between is seen again at the next call.
        let version = self.source.version.load(Ordering::Acquire);
        if version != self.version {
            self.flows = self.source.lock().clone();
            self.version = version;
        }
    }

    /// Is the flow open? One that was added since the last [`Self::refresh`] is found too.
    pub(crate) fn contains(&mut self, flow: FlowId) -> bool {
        if self.flows.contains(&flow) {
            return true;
        }
        self.refresh();
        self.flows.contains(&flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Parity;

    fn flow(counter: u32) -> FlowId {
        FlowId::new(Parity::Greater, 0, counter).unwrap()
    }

    #[test]
    fn the_reader_sees_new_flows_at_once_and_removed_ones_once_it_refreshes() {
        let flows = Arc::new(OpenFlows::default());
        let mut known = KnownOpenFlows::of(flows.clone());
        assert!(!known.contains(flow(1)));
        assert!(flows.insert(flow(1)) && flows.insert(flow(2)));
        assert!(!flows.insert(flow(1)), "a flow is of one track");
        assert!(known.contains(flow(1)) && known.contains(flow(2)));
        flows.remove([flow(1)]);
        known.refresh();
        assert!(!known.contains(flow(1)) && known.contains(flow(2)));
    }

    #[test]
    fn the_set_is_bounded() {
        let flows = OpenFlows::default();
        let added = (1..100_000).filter(|counter| flows.insert(flow(*counter))).count();
        assert_eq!(added, MAX_FLOWS);
    }
}
