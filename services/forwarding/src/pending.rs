//! Packets for one subscriber that are not sent yet. Only their numbers are kept: the packets stay in the cache of
//! their layer, which all subscribers share.

use std::collections::VecDeque;

/// Most ranges. A stream without gaps and switches is one range.
const MAX_RANGES: usize = 256;

/// Consecutive packets of one layer.
#[derive(Debug, Default)]
struct Range {
    layer: u8,
    /// Extended sequence number of the first packet.
    next: u64,
    /// After the last one.
    end: u64,
}

impl Range {
    fn is_empty(&self) -> bool {
        self.next == self.end
    }
}

/// A bounded queue of packets, in the order in which they are sent.
#[derive(Debug, Default)]
pub(crate) struct PendingPackets {
    /// The first range; nearly always the only one, so it needs no memory of its own.
    first: Range,
    rest: VecDeque<Range>,
}

impl PendingPackets {
    /// Appends a packet by its layer and the publisher's extended sequence number. False: the queue is full.
    pub(crate) fn push(&mut self, layer: u8, seq: u64) -> bool {
        let new = Range { layer, next: seq, end: seq + 1 };
        if self.is_empty() {
            self.first = new;
            return true;
        }
        let last = self.rest.back_mut().unwrap_or(&mut self.first);
        if last.layer == layer && last.end == seq {
            last.end += 1;
        } else if self.rest.len() + 1 < MAX_RANGES {
            self.rest.push_back(new);
        } else {
            return false;
        }
        true
    }

    /// Removes the first packet.
    pub(crate) fn pop(&mut self) -> Option<(u8, u64)> {
        if self.is_empty() {
            return None;
        }
        let packet = (self.first.layer, self.first.next);
        self.first.next += 1;
        if self.first.is_empty()
            && let Some(next) = self.rest.pop_front()
        {
            self.first = next;
        }
        Some(packet)
    }

    /// The first packet.
    pub(crate) fn first(&self) -> Option<(u8, u64)> {
        (!self.is_empty()).then_some((self.first.layer, self.first.next))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
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
        assert_eq!(pending.rest.len(), 3);
        assert_eq!(pending.first(), all.first().copied());
        assert_eq!(std::iter::from_fn(|| pending.pop()).collect::<Vec<_>>(), all);
        assert!(pending.is_empty());
        assert_eq!(pending.first(), None);
    }

    #[test]
    fn a_full_queue_refuses_packets() {
        let mut pending = PendingPackets::default();
        let accepted = (0..1000).filter(|index| pending.push(0, index * 2)).count();
        assert_eq!(accepted, MAX_RANGES);
        assert!(pending.push(0, MAX_RANGES as u64 * 2 - 1), "the last range still grows");
    }
}
