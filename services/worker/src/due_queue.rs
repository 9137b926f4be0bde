//! What is due again after a fixed interval. All entries have the same interval, so they are due in the order in which
//! they were added: whoever looks at the queue visits only those that are due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Keys in the order in which they are due.
#[derive(Debug)]
pub(super) struct DueQueue<K> {
    interval: Duration,
    entries: VecDeque<(Instant, K)>,
}

impl<K: Copy> DueQueue<K> {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, entries: VecDeque::new() }
    }

    /// Adds a key and returns when it is due. An entry whose time is not the latest one of its key is outdated.
    pub(super) fn push(&mut self, now: Instant, key: K) -> Instant {
        // Time does not go back, so the queue stays in order.
        let newest = self.entries.back().map_or(now, |(at, _)| *at);
        let due = (now + self.interval).max(newest);
        self.entries.push_back((due, key));
        due
    }

    /// Removes the next key that is due, with its time.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, K)> {
        self.entries.pop_front_if(|(at, _)| *at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_due_is_visited() {
        let start = Instant::now();
        let mut queue = DueQueue::new(Duration::from_secs(1));
        for key in 0..10 {
            queue.push(start + Duration::from_millis(key * 100), key);
        }
        assert_eq!(queue.pop(start), None);
        let now = start + Duration::from_millis(1250);
        let due: Vec<_> = std::iter::from_fn(|| queue.pop(now)).map(|(_, key)| key).collect();
        assert_eq!(due, [0, 1, 2]);
        assert_eq!(queue.push(now, 0), now + Duration::from_secs(1));
        assert_eq!(queue.pop(now), None);
    }
}
