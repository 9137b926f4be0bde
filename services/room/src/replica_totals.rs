//! What the replicas of all rooms of a node store of each other node, so that a node that has a part in many rooms is bounded
//! over all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::NodeName;

/// Bytes that all rooms store, by the node that owns them. Shared by the rooms of a node.
#[derive(Debug, Default)]
pub struct ReplicaTotals(Mutex<BTreeMap<NodeName, Arc<AtomicUsize>>>);

impl ReplicaTotals {
    /// The total of a node.
    pub(crate) fn of(&self, node: &str) -> Arc<AtomicUsize> {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(total) = totals.get(node) {
            return total.clone();
        }
        // No room has anything of these any more.
        totals.retain(|_, total| Arc::strong_count(total) > 1);
        let total = Arc::<AtomicUsize>::default();
        totals.insert(node.to_owned(), total.clone());
        total
    }
}

/// The bytes of one node in one room, which are part of the node's total until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct OwnedBytes {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl OwnedBytes {
    pub(crate) fn new(total: Arc<AtomicUsize>) -> Self {
        Self { bytes: 0, total }
    }

    /// In this room.
    pub(crate) fn here(&self) -> usize {
        self.bytes
    }

    /// In all rooms.
    pub(crate) fn everywhere(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for OwnedBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_that_of_all_rooms_that_are_left() {
        let totals = ReplicaTotals::default();
        let (mut one, mut other) = (OwnedBytes::new(totals.of("sto-1")), OwnedBytes::new(totals.of("sto-1")));
        one.add(10);
        other.add(7);
        other.remove(2);
        assert_eq!((one.here(), other.here(), one.everywhere()), (10, 5, 15));
        assert_eq!(OwnedBytes::new(totals.of("osl-1")).everywhere(), 0);
        drop(other);
        assert_eq!(one.everywhere(), 10);
        drop(one);
        assert_eq!(OwnedBytes::new(totals.of("sto-1")).everywhere(), 0);
    }

    #[test]
    fn nodes_of_which_no_room_has_anything_are_forgotten() {
        let totals = ReplicaTotals::default();
        let kept = totals.of("sto-1");
        for node in 0..1_000 {
            totals.of(&format!("node-{node}"));
        }
        assert!(totals.0.lock().unwrap().len() <= 2);
        drop(kept);
    }
}
