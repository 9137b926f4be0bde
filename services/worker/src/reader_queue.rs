//! The reliable messages that wait for one reader. They wait in order, and none is dropped from the middle: a reader
//! that takes too little for too long is ended, and its client has to join again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use systir_transport::SendError;

/// Bytes that may wait, with [`MESSAGE_OVERHEAD`] for each message. All readers of a message share its bytes.
const MAX_BYTES: usize = 8 << 20;
/// From so many waiting bytes on the reader is slow, and the room's data is read slowly from those who send it.
const SLOW_FROM: usize = 1 << 20;
/// Below so many it is slow no longer.
const SLOW_BELOW: usize = 256 << 10;
/// What a message counts for beside its bytes.
const MESSAGE_OVERHEAD: usize = 128;
/// A slow reader must take [`LEAST_TAKEN`] bytes in this time.
const STALL_TIME: Duration = Duration::from_secs(10);
/// 16 KiB per second.
const LEAST_TAKEN: usize = 160 << 10;

/// The reader takes no or too few messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stalled;

/// Since when the reader is slow, and what it has taken since.
#[derive(Debug)]
struct Slow {
    since: Instant,
    taken: usize,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct ReaderQueue {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    slow: Option<Slow>,
}

fn size(data: &Bytes) -> usize {
    data.len() + MESSAGE_OVERHEAD
}

impl ReaderQueue {
    /// Appends a message.
    ///
    /// # Errors
    /// The queue is full. The reader is to be ended.
    pub(super) fn push(&mut self, now: Instant, data: Bytes) -> Result<(), Stalled> {
        if self.bytes + size(&data) > MAX_BYTES {
            return Err(Stalled);
        }
        self.bytes += size(&data);
        self.waiting.push_back(data);
        if self.bytes >= SLOW_FROM && self.slow.is_none() {
            self.slow = Some(Slow { since: now, taken: 0 });
        }
        Ok(())
    }

    /// Sends messages until `send` would block. Returns how many it refused for good.
    pub(super) fn flush(&mut self, mut send: impl FnMut(&[u8]) -> Result<(), SendError>) -> u64 {
        let mut refused = 0;
        while let Some(data) = self.waiting.front() {
            match send(data) {
                Ok(()) => {}
                Err(SendError::WouldBlock) => break,
                Err(SendError::TooLarge { .. } | SendError::Closed) => refused += 1,
            }
            let size = size(data);
            self.bytes -= size;
            self.waiting.pop_front();
            if let Some(slow) = &mut self.slow {
                slow.taken += size;
            }
        }
        if self.bytes < SLOW_BELOW {
            self.slow = None;
        }
        refused
    }

    /// Does the reader still take enough?
    ///
    /// # Errors
    /// It does not, and is to be ended.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Stalled> {
        if let Some(slow) = &mut self.slow
            && now.saturating_duration_since(slow.since) >= STALL_TIME
        {
            if slow.taken < LEAST_TAKEN {
                return Err(Stalled);
            }
            *slow = Slow { since: now, taken: 0 };
        }
        Ok(())
    }

    /// Do those who send have to wait for this reader?
    pub(super) fn is_slow(&self) -> bool {
        self.slow.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops all messages. Returns how many there were.
    pub(super) fn clear(&mut self) -> u64 {
        let dropped = self.waiting.len() as u64;
        *self = Self::default();
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u32, size: usize) -> Bytes {
        let mut data = vec![0; size];
        data[..4].copy_from_slice(&number.to_be_bytes());
        data.into()
    }

    /// A reader that takes a limited number of messages.
    #[derive(Default)]
    struct Reader {
        takes: usize,
        taken: Vec<u32>,
    }

    impl Reader {
        fn take(&mut self, queue: &mut ReaderQueue, messages: usize) {
            self.takes = messages;
            let refused = queue.flush(|data| {
                if self.takes == 0 {
                    return Err(SendError::WouldBlock);
                }
                self.takes -= 1;
                self.taken.push(u32::from_be_bytes(*data.first_chunk().unwrap()));
                Ok(())
            });
            assert_eq!(refused, 0);
        }
    }

    #[test]
    fn reader_that_stops_and_comes_back_gets_all_messages_in_order() {
        let (now, mut queue, mut reader) = (Instant::now(), ReaderQueue::default(), Reader::default());
        for number in 0..5_000 {
            assert_eq!(queue.push(now, message(number, 1_000)), Ok(()));
            reader.take(&mut queue, usize::from(number % 100 == 0));
        }
        assert!(queue.is_slow());
        reader.take(&mut queue, usize::MAX);
        assert_eq!(reader.taken, (0..5_000).collect::<Vec<_>>());
        assert!(queue.is_empty() && !queue.is_slow());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_whatever_the_size_of_messages() {
        for size in [4, 1_000, 60_000] {
            let (now, mut queue) = (Instant::now(), ReaderQueue::default());
            let kept = (0..).take_while(|number| queue.push(now, message(*number, size)).is_ok()).count();
            assert_eq!(kept, MAX_BYTES / (size + MESSAGE_OVERHEAD));
            assert_eq!(queue.waiting.len(), kept, "what waited is not touched");
        }
    }

    #[test]
    fn slow_reader_is_ended_when_it_takes_nothing_and_not_while_it_takes_a_little() {
        let start = Instant::now();
        let mut queue = ReaderQueue::default();
        for number in 0..4_000 {
            queue.push(start, message(number, 1_000)).unwrap();
        }
        let mut reader = Reader::default();
        let mut now = start;
        for _ in 0..120 {
            now += Duration::from_secs(1);
            reader.take(&mut queue, 17);
            assert_eq!(queue.check(now), Ok(()));
        }
        assert!(queue.is_slow());
        let stopped = now;
        while queue.check(now).is_ok() {
            now += Duration::from_millis(100);
        }
        assert!((STALL_TIME..=2 * STALL_TIME).contains(&(now - stopped)), "{:?}", now - stopped);
    }

    #[test]
    fn reader_of_few_messages_may_sleep_for_an_hour() {
        let (start, mut queue) = (Instant::now(), ReaderQueue::default());
        for number in 0..500 {
            queue.push(start, message(number, 1_000)).unwrap();
        }
        assert_eq!(queue.check(start + Duration::from_secs(3_600)), Ok(()));
        assert!(!queue.is_slow(), "nobody is slowed down for it");
    }
}
