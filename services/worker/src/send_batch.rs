//! The datagrams of several clients that one system call sends. Audio leaves a connection as one packet at a time: the
//! call is most of its cost, and is shared.

use std::net::IpAddr;
use std::ops::Range;

use smallvec::SmallVec;

use super::multi_send::{MAX_MESSAGES, Message, SendOptions};
use super::send_queue::{Datagrams, GsoGroup, Route};

/// Bytes after which a batch is sent, so that they are still in the processor's cache.
const MAX_BYTES: usize = 64_000;

/// Buffers that a batch keeps while its socket takes little.
const MAX_BUFFERS: usize = 64;

/// A group of datagrams in one of the batch's buffers.
#[derive(Debug)]
struct Entry {
    buffer: usize,
    range: Range<usize>,
    segment_size: usize,
    /// Datagrams.
    count: usize,
}

/// Messages on one socket with the same source address and the same size of segments.
#[derive(Debug, Default)]
pub(super) struct SendBatch {
    source: Option<IpAddr>,
    /// The longest datagram; the size of segments, if there are any.
    segment_size: usize,
    has_segments: bool,
    /// The kernel refuses segmented sends to the destination.
    is_refused: bool,
    bytes: usize,
    entries: Vec<Entry>,
    buffers: Vec<(Route, Datagrams)>,
}

impl SendBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Does it keep so many buffers that it takes no more?
    pub(super) fn is_crowded(&self) -> bool {
        self.buffers.len() >= MAX_BUFFERS
    }

    /// Takes a buffer; [`SendBatch::push`] adds its groups, at most `max_segments` datagrams in each.
    pub(super) fn take(
        &mut self,
        route: Route,
        datagrams: Datagrams,
        max_segments: usize,
    ) -> SmallVec<[GsoGroup; 4]> {
        let groups = datagrams.gso_groups(max_segments).collect();
        self.buffers.push((route, datagrams));
        groups
    }

    /// Adds a group of the buffer that was taken last. False: it does not fit, the batch is to be sent first.
    /// `is_refused`: the kernel refuses segmented sends to this destination.
    pub(super) fn push(&mut self, group: &GsoGroup, is_refused: bool) -> bool {
        let Some((route, _)) = self.buffers.last() else { return true };
        let source = route.source;
        if self.entries.is_empty() {
            (self.source, self.is_refused) = (source, is_refused);
            (self.segment_size, self.has_segments, self.bytes) = (0, false, 0);
        } else if !self.fits(source, group, is_refused) {
            return false;
        }
        self.segment_size = self.segment_size.max(group.segment_size);
        self.has_segments |= group.count > 1;
        self.bytes += group.range.len();
        self.entries.push(Entry {
            buffer: self.buffers.len() - 1,
            range: group.range.clone(),
            segment_size: group.segment_size,
            count: group.count,
        });
        true
    }

    fn fits(&self, source: Option<IpAddr>, group: &GsoGroup, is_refused: bool) -> bool {
        // The kernel does not cut a datagram that is no longer than a segment.
        let segments_fit = match (self.has_segments, group.count > 1) {
            (false, false) => true,
            (true, true) => self.segment_size == group.segment_size,
            (true, false) => group.segment_size <= self.segment_size,
            (false, true) => self.segment_size <= group.segment_size,
        };
        segments_fit
            && (self.source, self.is_refused) == (source, is_refused)
            && self.entries.len() < MAX_MESSAGES
            && self.bytes + group.range.len() <= MAX_BYTES
    }

    pub(super) fn options(&self) -> SendOptions {
        let segment_size = self.has_segments.then(|| self.segment_size.min(u16::MAX.into()) as u16);
        SendOptions { source: self.source, segment_size }
    }

    pub(super) fn messages(&self) -> SmallVec<[Message<'_>; MAX_MESSAGES]> {
        let message = |entry: &Entry| {
            let (route, datagrams) = self.buffers.get(entry.buffer)?;
            Some(Message { to: route.to, bytes: datagrams.bytes(entry.range.clone())? })
        };
        self.entries.iter().filter_map(message).collect()
    }

    /// The datagrams of the first message.
    pub(super) fn first(&self) -> Option<(Route, impl Iterator<Item = &[u8]>)> {
        let entry = self.entries.first()?;
        let (route, datagrams) = self.buffers.get(entry.buffer)?;
        Some((*route, datagrams.bytes(entry.range.clone())?.chunks(entry.segment_size.max(1))))
    }

    /// Removes the first messages. Returns how many datagrams and bytes they are.
    pub(super) fn remove_first(&mut self, messages: usize) -> (usize, usize) {
        let removed = self.entries.drain(..messages.min(self.entries.len()));
        removed.fold((0, 0), |(count, bytes), entry| (count + entry.count, bytes + entry.range.len()))
    }

    /// A buffer of which nothing is left to send. `all`: also the one that was taken last, of which more groups may be
    /// added otherwise.
    pub(super) fn recycle(&mut self, all: bool) -> Option<Datagrams> {
        let keep = if all { 1 } else { 2 };
        let at = self.buffers.len().checked_sub(keep).filter(|_| self.entries.is_empty())?;
        Some(self.buffers.swap_remove(at).1)
    }

    /// The buffer that was taken last, if none of its groups was added.
    pub(super) fn give_back(&mut self) -> Option<Datagrams> {
        let last = self.buffers.len().checked_sub(1)?;
        if self.entries.iter().any(|entry| entry.buffer == last) {
            return None;
        }
        self.buffers.pop().map(|(_, datagrams)| datagrams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send_queue::Via;

    /// Adds datagrams of these sizes for a client. Returns how many batches were full before.
    fn add(batch: &mut SendBatch, client: u16, sizes: &[usize]) -> usize {
        let mut datagrams = Datagrams::default();
        for size in sizes {
            datagrams.push_with(|bytes, start| {
                bytes.resize(start + size, client as u8);
                true
            });
        }
        let to = ([192, 0, 2, 1], client).into();
        let route = Route { via: Via::Udp(0), source: Some([192, 0, 2, 7].into()), to };
        let mut full = 0;
        for group in batch.take(route, datagrams, 64) {
            if !batch.push(&group, false) {
                full += 1;
                send(batch);
                assert!(batch.push(&group, false));
            }
        }
        full
    }

    fn send(batch: &mut SendBatch) {
        let messages = batch.messages().len();
        batch.remove_first(messages);
        while batch.recycle(false).is_some() {}
    }

    /// Calls for datagrams of these sizes to each of so many clients.
    fn calls(clients: u16, sizes: &[usize]) -> usize {
        let mut batch = SendBatch::default();
        let full: usize = (1..=clients).map(|client| add(&mut batch, client, sizes)).sum();
        let left = usize::from(!batch.is_empty());
        send(&mut batch);
        while batch.recycle(true).is_some() {}
        assert!(batch.buffers.is_empty(), "no buffer is kept");
        full + left
    }

    #[test]
    fn audio_of_many_clients_leaves_in_few_calls() {
        assert_eq!(calls(100, &[150]), 100_usize.div_ceil(MAX_MESSAGES));
    }

    #[test]
    fn a_frame_is_one_message_of_which_several_leave_in_one_call() {
        let mut batch = SendBatch::default();
        for client in 1..=8 {
            assert_eq!(add(&mut batch, client, &[1200, 1200, 1200, 1200, 1200, 700]), 0);
        }
        assert_eq!(batch.messages().len(), 8);
        assert_eq!(batch.options().segment_size, Some(1200));
        assert_eq!(calls(48, &[1200, 1200, 1200, 1200, 1200, 700]), 6, "64 kB in each");
    }

    #[test]
    fn short_datagrams_share_a_call_with_segments() {
        assert_eq!(calls(8, &[150, 1200, 1200, 700]), 1);
    }

    #[test]
    fn segments_of_another_size_need_another_call() {
        assert_eq!(calls(1, &[1200, 1200, 1000, 1000, 1000]), 1 + 1);
        assert_eq!(calls(1, &[9000, 1200, 1200]), 2, "an oversized datagram refuses no other one");
    }

    #[test]
    fn what_is_left_after_a_partial_send_stays() {
        let mut batch = SendBatch::default();
        for client in 1..=5 {
            add(&mut batch, client, &[100]);
        }
        assert_eq!(batch.remove_first(3), (3, 300));
        let left: Vec<_> = batch.messages().iter().map(|message| message.to.port()).collect();
        assert_eq!(left, [4, 5]);
        assert!(batch.recycle(true).is_none());
    }
}
