//! A bounded wait for a full queue.

use std::time::{Duration, Instant};

/// How long the room accepts nothing while a queue is full. After that it accepts again, and a queue that is still
/// full may overflow. It must be shorter than a client's ping timeout.
const MAX_HOLD: Duration = Duration::from_secs(2);

/// Since when a full queue keeps the room from accepting something.
#[derive(Debug, Default)]
pub(super) struct Hold(Option<Instant>);

impl Hold {
    /// May it be accepted now?
    pub(super) fn accepts(&mut self, now: Instant, full: bool, caught_up: bool) -> bool {
        if caught_up {
            self.0 = None;
        }
        !full || now.duration_since(*self.0.get_or_insert(now)) > MAX_HOLD
    }

    /// Was the queue full, and has it not caught up?
    pub(super) fn is_held(&self) -> bool {
        self.0.is_some()
    }
}
