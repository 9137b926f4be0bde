//! One deadline per track, in a queue: a search for what is due visits only what is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Deadlines this soon after now count as due.
const SLACK: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By the track's index.
    deadlines: Vec<Option<Instant>>,
    /// Entries that differ from the track's deadline are outdated. The first one never is.
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    /// Sets the deadline of a track to `at`, unless it has an earlier one.
    pub(crate) fn schedule(&mut self, index: usize, at: Instant) {
        if self.deadlines.len() <= index {
            self.deadlines.resize(index + 1, None);
        }
        if let Some(slot) = self.deadlines.get_mut(index)
            && slot.is_none_or(|old| at < old)
        {
            *slot = Some(at);
            self.queue.push(Reverse((at, index)));
        }
    }

    /// Removes the deadline of a track.
    pub(crate) fn clear(&mut self, index: usize) {
        if let Some(slot) = self.deadlines.get_mut(index) {
            *slot = None;
        }
        self.remove_outdated();
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Appends the tracks that are due to `due`, and removes their deadlines.
    pub(crate) fn take_due(&mut self, now: Instant, due: &mut Vec<usize>) {
        while let Some(Reverse((at, index))) = self.queue.peek().copied()
            && at <= now + SLACK
        {
            due.push(index);
            self.clear(index);
        }
    }

    fn remove_outdated(&mut self) {
        while let Some(Reverse((at, index))) = self.queue.peek()
            && self.deadlines.get(*index).copied().flatten() != Some(*at)
        {
            self.queue.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut Timers, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        timers.take_due(now, &mut due);
        due
    }

    #[test]
    fn a_track_has_one_deadline_the_earliest() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        for (index, ms) in [(3, 50), (3, 20), (3, 70), (1, 40), (2, 10)] {
            timers.schedule(index, at(ms));
        }
        timers.clear(2);
        assert_eq!(timers.next(), Some(at(20)));
        assert!(due(&mut timers, at(17)).is_empty());
        assert_eq!(due(&mut timers, at(45)), [3, 1], "in order");
        assert_eq!((timers.next(), due(&mut timers, at(1000))), (None, Vec::new()));
        timers.schedule(3, at(50));
        assert_eq!(timers.next(), Some(at(50)));
    }
}
