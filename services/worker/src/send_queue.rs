//! The send queue of sealed datagrams. They are gathered per destination, then passed to the kernel in as few calls
//! as possible (UDP segmentation offload, GSO).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::streams::StreamId;

/// Bytes in one buffer, after which it is submitted. All segments of one GSO send together must fit in one IP
/// datagram.
const MAX_BUFFERED: usize = 60_000;

/// Largest segment of a GSO send: the UDP payload of an IPv6 packet on Ethernet.
const MAX_SEGMENT: usize = 1452;

/// A buffer of datagrams for one destination, stored back to back.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Datagrams {
    /// Appends the datagram that `write` appends to the buffer; it gets the buffer and the start position.
    /// If it returns false, the buffer is truncated to its former length.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>, usize) -> bool) -> bool {
        let start = self.bytes.len();
        if write(&mut self.bytes, start) && self.bytes.len() > start {
            self.ends.push(self.bytes.len());
            true
        } else {
            self.bytes.truncate(start);
            false
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether it is to be submitted before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= MAX_BUFFERED
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The datagrams in order, grouped for GSO: all segments of a group have one size, except that the last
    /// may be shorter; at most `max_segments` per group. An oversized datagram is alone, because the kernel
    /// would refuse its whole group.
    pub(super) fn gso_groups(&self, max_segments: usize) -> impl Iterator<Item = GsoGroup> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = self.range(next)?;
            let size = first.len();
            let mut run = first;
            let mut count = 1;
            next += 1;
            while count < max_segments && size <= MAX_SEGMENT {
                let Some(range) = self.range(next) else { break };
                if range.len() > size || range.end - run.start > MAX_BUFFERED {
                    break;
                }
                run.end = range.end;
                count += 1;
                next += 1;
                if range.len() < size {
                    break;
                }
            }
            Some(GsoGroup { range: run, segment_size: size, count })
        })
    }

    /// The bytes of a group.
    pub(super) fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.bytes.get(range)
    }

    /// The datagrams in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|index| self.bytes.get(self.range(index)?))
    }

    fn range(&self, index: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        Some(start..end)
    }
}

/// Datagrams that are sent as segments of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GsoGroup {
    /// Where they are in their buffer.
    pub(super) range: Range<usize>,
    /// Size of each segment but the last, in bytes.
    pub(super) segment_size: usize,
    /// Number of segments.
    pub(super) count: usize,
}

/// The socket that datagrams are sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// Index of the worker's UDP socket.
    Udp(usize),
    /// A TCP stream.
    Tcp(StreamId),
}

/// The way to a client: socket and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The socket.
    pub(super) via: Via,
    /// Our address that the client sends to.
    pub(super) source: Option<IpAddr>,
    /// The address of the client.
    pub(super) to: SocketAddr,
}

/// Submitted buffers, and empty ones for reuse.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    ready: VecDeque<(Route, Datagrams)>,
    pool: Vec<Datagrams>,
}

/// Empty buffers that are kept for reuse.
const MAX_POOLED: usize = 1024;

impl SendQueue {
    /// An empty buffer.
    pub(super) fn empty_buffer(&mut self) -> Datagrams {
        self.pool.pop().unwrap_or_default()
    }

    /// Queues datagrams.
    pub(super) fn submit(&mut self, route: Route, datagrams: Datagrams) {
        self.ready.push_back((route, datagrams));
    }

    /// Takes the datagrams that were submitted first.
    pub(super) fn pop(&mut self) -> Option<(Route, Datagrams)> {
        self.ready.pop_front()
    }

    /// Takes back a buffer for reuse.
    pub(super) fn recycle(&mut self, mut datagrams: Datagrams) {
        if self.pool.len() < MAX_POOLED {
            datagrams.clear();
            self.pool.push(datagrams);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datagrams(sizes: &[usize]) -> Datagrams {
        let mut all = Datagrams::default();
        for (index, size) in sizes.iter().enumerate() {
            all.push_with(|bytes, start| {
                bytes.resize(start + size, index as u8);
                true
            });
        }
        all
    }

    fn counts(sizes: &[usize]) -> Vec<(usize, usize)> {
        datagrams(sizes).gso_groups(64).map(|group| (group.segment_size, group.count)).collect()
    }

    #[test]
    fn packets_of_one_size_are_sent_in_one_call() {
        assert_eq!(counts(&[1200, 1200, 1200, 700]), [(1200, 4)]);
        assert_eq!(counts(&[100, 1200, 1200]), [(100, 1), (1200, 2)]);
        assert_eq!(counts(&[1200, 700, 1200]), [(1200, 2), (1200, 1)]);
        assert_eq!(counts(&[]), []);
    }

    #[test]
    fn oversized_packets_are_sent_alone() {
        assert_eq!(counts(&[9000, 9000, 1200, 1200]), [(9000, 1), (9000, 1), (1200, 2)]);
        assert_eq!(counts(&[1200, 9000, 1200]), [(1200, 1), (9000, 1), (1200, 1)]);
    }

    #[test]
    fn failed_write_leaves_nothing() {
        let mut all = datagrams(&[10]);
        assert!(!all.push_with(|bytes, _| {
            bytes.extend_from_slice(b"half");
            false
        }));
        assert_eq!(all.gso_groups(64).map(|group| group.range.len()).sum::<usize>(), 10);
    }

    proptest! {
        #[test]
        fn gso_groups_split_into_the_same_datagrams(
            sizes in proptest::collection::vec(1_usize..1500, 0..100),
            max in 1_usize..64,
        ) {
            let all = datagrams(&sizes);
            let mut seen = Vec::new();
            for group in all.gso_groups(max) {
                prop_assert!(group.count <= max && group.range.len() <= 65_507);
                let split: Vec<_> = all.bytes(group.range).unwrap().chunks(group.segment_size).map(<[u8]>::len).collect();
                prop_assert_eq!(split.len(), group.count);
                seen.extend(split);
            }
            prop_assert_eq!(seen, sizes);
        }
    }
}
