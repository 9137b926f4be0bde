//! Packets for one subscriber that are not sent yet. Only their numbers are kept: the packets stay in the cache of
//! their layer, which all subscribers share.

use std::collections::VecDeque;

/// Most ranges. A stream without gaps and switches is one range.
const MAX_RANGES: usize = 256;

/// Consecutive packets of one layer.
#[derive(Debug)]
struct Range {
    layer: u8,
    /// Extended sequence number of the first packet.
    next: u64,
    /// After the last one.
    end: u64,
}

/// A bounded queue of packets, in the order in which they are sent.
#[derive(Debug, Default)]
pub(crate) struct PendingPackets(VecDeque<Range>);

impl PendingPackets {
    /// Appends a packet by its layer and the publisher's extended sequence number. False: the queue is full.
    pub(crate) fn push(&mut self, layer: u8, seq: u64) -> bool {
        let is_full = self.0.len() >= MAX_RANGES;
        match self.0.back_mut() {
            Some(last) if last.layer == layer && last.end == seq => last.end += 1,
            _ if is_full => return false,
            _ => self.0.push_back(Range { layer, next: seq, end: seq + 1 }),
        }
        true
    }

    /// Removes the first packet.
    pub(crate) fn pop(&mut self) -> Option<(u8, u64)> {
        let first = self.0.front_mut()?;
        let packet = (first.layer, first.next);
        first.next += 1;
        if first.next == first.end {
            self.0.pop_front();
        }
        Some(packet)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_in_the_order_in_which_they_went_in() {
        let mut pending = PendingPackets::default();
        let all = [(0, 7), (0, 8), (2, 100), (2, 101), (2, 99), (0, 9)];
        assert!(all.iter().all(|(layer, seq)| pending.push(*layer, *seq)));
        assert_eq!(pending.0.len(), 4);
        assert_eq!(std::iter::from_fn(|| pending.pop()).collect::<Vec<_>>(), all);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_full_queue_refuses_packets() {
        let mut pending = PendingPackets::default();
        let accepted = (0..1000).filter(|index| pending.push(0, index * 2)).count();
        assert_eq!(accepted, MAX_RANGES);
        assert!(pending.push(0, MAX_RANGES as u64 * 2 - 1), "the last range still grows");
    }
}
