//! Sealed datagrams on their way out: gathered per destination while a batch of packets is
//! handled, then handed to the kernel in as few calls as possible (UDP segmentation offload).

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::streams::StreamId;

/// Bytes that may wait for one destination before it is flushed; a segmented send is at most one
/// IP datagram long.
const MAX_WAITING: usize = 60_000;

/// Datagrams for one destination, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Datagrams {
    /// Appends what `write` puts at the end of the buffer; it is told where it starts. What a
    /// failed write left is taken off again.
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

    /// Should it be flushed before more is added?
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= MAX_WAITING
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The datagrams in order, as runs that one call can send: all of one size, except that the
    /// last may be shorter; at most `max_segments` in a run.
    pub(super) fn runs(&self, max_segments: usize) -> impl Iterator<Item = Run<'_>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = self.range(next)?;
            let size = first.len();
            let mut run = first;
            let mut count = 1;
            next += 1;
            while count < max_segments {
                let Some(range) = self.range(next) else { break };
                if range.len() > size || range.end - run.start > MAX_WAITING {
                    break;
                }
                run.end = range.end;
                count += 1;
                next += 1;
                if range.len() < size {
                    break;
                }
            }
            Some(Run { bytes: self.bytes.get(run)?, segment: size, count })
        })
    }

    /// The datagrams, one by one.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|index| self.bytes.get(self.range(index)?))
    }

    fn range(&self, index: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        Some(start..end)
    }
}

/// Datagrams that one call sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) bytes: &'a [u8],
    /// Size of each but the last.
    pub(super) segment: usize,
    /// How many.
    pub(super) count: usize,
}

/// What carries datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// Index of the worker's UDP socket.
    Udp(usize),
    /// A TCP stream.
    Tcp(StreamId),
}

/// Where datagrams go, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// How.
    pub(super) via: Via,
    /// Our address that the client knows.
    pub(super) source: Option<IpAddr>,
    /// The client.
    pub(super) to: SocketAddr,
}

/// Everything that waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    ready: Vec<(Route, Datagrams)>,
    pool: Vec<Datagrams>,
}

/// Empty buffers kept for reuse.
const MAX_POOLED: usize = 1024;

impl Outgoing {
    /// An empty buffer.
    pub(super) fn fresh(&mut self) -> Datagrams {
        self.pool.pop().unwrap_or_default()
    }

    /// Datagrams that shall be sent.
    pub(super) fn submit(&mut self, route: Route, datagrams: Datagrams) {
        self.ready.push((route, datagrams));
    }

    /// Takes all that shall be sent, in exchange for an empty list.
    pub(super) fn take(&mut self, into: &mut Vec<(Route, Datagrams)>) {
        std::mem::swap(&mut self.ready, into);
    }

    /// Gets a buffer back.
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
        datagrams(sizes).runs(64).map(|run| (run.segment, run.count)).collect()
    }

    #[test]
    fn a_frame_of_equal_packets_leaves_in_one_call() {
        assert_eq!(counts(&[1200, 1200, 1200, 700]), [(1200, 4)]);
        assert_eq!(counts(&[100, 1200, 1200]), [(100, 1), (1200, 2)]);
        assert_eq!(counts(&[1200, 700, 1200]), [(1200, 2), (1200, 1)]);
        assert_eq!(counts(&[]), []);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let mut all = datagrams(&[10]);
        assert!(!all.push_with(|bytes, _| {
            bytes.extend_from_slice(b"half");
            false
        }));
        assert_eq!(all.runs(64).map(|run| run.bytes.len()).sum::<usize>(), 10);
    }

    proptest! {
        #[test]
        fn runs_cut_back_into_the_same_datagrams(
            sizes in proptest::collection::vec(1_usize..1500, 0..100),
            max in 1_usize..64,
        ) {
            let all = datagrams(&sizes);
            let mut seen = Vec::new();
            for run in all.runs(max) {
                prop_assert!(run.count <= max && run.bytes.len() <= 65_507);
                let cut: Vec<_> = run.bytes.chunks(run.segment).map(<[u8]>::len).collect();
                prop_assert_eq!(cut.len(), run.count);
                seen.extend(cut);
            }
            prop_assert_eq!(seen, sizes);
        }
    }
}
