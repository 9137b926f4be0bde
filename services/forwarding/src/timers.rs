//! One deadline per track, in a table of its own, so that the search for the next deadline reads little
//! memory.

use std::time::{Duration, Instant};

/// Deadlines this soon after now count as due.
const SLACK: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By the track's index.
    deadlines: Vec<Option<Instant>>,
    next: Option<Instant>,
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
            if self.next.is_none_or(|next| at < next) {
                self.next = Some(at);
            }
        }
    }

    /// Removes the deadline of a track.
    pub(crate) fn clear(&mut self, index: usize) {
        if let Some(slot) = self.deadlines.get_mut(index) {
            *slot = None;
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The first index at or after `from` that is due. Its deadline is removed.
    pub(crate) fn take_due(&mut self, now: Instant, from: usize) -> Option<usize> {
        let due = |at: &Option<Instant>| at.is_some_and(|at| at <= now + SLACK);
        let index = from + self.deadlines.get(from..)?.iter().position(due)?;
        self.clear(index);
        Some(index)
    }

    /// Finds the next deadline. Call it after all due ones were taken.
    pub(crate) fn update_next(&mut self) {
        self.next = self.deadlines.iter().flatten().min().copied();
    }
}
