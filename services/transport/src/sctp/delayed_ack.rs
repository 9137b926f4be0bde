//! Acknowledges data soon. The library acknowledges every second packet at once, and a single one after 200 ms, which
//! is the longest that RFC 9260 section 6.2 recommends. LiveKit's Go SDK sends the next 15 kB of a data stream only
//! when all before it is acknowledged, so each odd packet at the end cost it 200 ms.

use std::time::{Duration, Instant};

use sctp_proto::Association;

/// How long a single packet waits for a second one.
const DELAY: Duration = Duration::from_millis(1);
/// The same in the library, whose delay cannot be configured.
const LIBRARY_DELAY: Duration = Duration::from_millis(200);

/// The acknowledgement that waits, if any.
#[derive(Debug, Default)]
pub(super) struct DelayedAck {
    /// When it is due here, and the library's timer for it.
    waiting: Option<(Instant, Instant)>,
}

impl DelayedAck {
    /// A packet was handled: does its acknowledgement wait?
    pub(super) fn received(&mut self, now: Instant, association: &Association) {
        let timer = now + LIBRARY_DELAY;
        // No other timer is set to exactly this time. When another one is due before it, the library's delay stays.
        if association.poll_timeout() == Some(timer) {
            self.waiting = Some((now + DELAY, timer));
        }
    }

    /// The association's next timeout.
    pub(super) fn next_timeout(&self, association: &Association) -> Option<Instant> {
        let next = association.poll_timeout();
        match self.waiting {
            Some((due, timer)) if next == Some(timer) => Some(due),
            _ => next,
        }
    }

    /// Ends the wait when it is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, association: &mut Association) {
        let Some((due, timer)) = self.waiting else { return };
        if due > now {
            return;
        }
        self.waiting = None;
        // Else it was sent already.
        if association.poll_timeout() == Some(timer) {
            association.handle_timeout(timer);
        }
    }
}
