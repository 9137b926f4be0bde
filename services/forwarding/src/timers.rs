//! One deadline per track, kept apart from the tracks so that looking for the next one is a walk
//! over a small table.

use std::time::{Duration, Instant};

/// What is due this soon is done with what is due now.
const SLACK: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: Vec<Option<Instant>>,
    next: Option<Instant>,
}

impl Timers {
    /// The track at this index wants to be looked at no later than `at`.
    pub(crate) fn schedule(&mut self, index: usize, at: Instant) {
        if self.at.len() <= index {
            self.at.resize(index + 1, None);
        }
        if let Some(slot) = self.at.get_mut(index)
            && slot.is_none_or(|old| at < old)
        {
            *slot = Some(at);
            if self.next.is_none_or(|next| at < next) {
                self.next = Some(at);
            }
        }
    }

    /// No deadline for this index.
    pub(crate) fn clear(&mut self, index: usize) {
        if let Some(slot) = self.at.get_mut(index) {
            *slot = None;
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The first index at or after `from` that is due; its deadline is taken off.
    pub(crate) fn take_due(&mut self, now: Instant, from: usize) -> Option<usize> {
        let due = |at: &Option<Instant>| at.is_some_and(|at| at <= now + SLACK);
        let index = from + self.at.get(from..)?.iter().position(due)?;
        self.clear(index);
        Some(index)
    }

    /// Finds the next deadline anew, after those that were due have been taken.
    pub(crate) fn update_next(&mut self) {
        self.next = self.at.iter().flatten().min().copied();
    }
}
