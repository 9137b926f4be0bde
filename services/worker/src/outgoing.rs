//! Sending: one connection after the other, so that its packets are written, sealed and passed to the kernel while they
//! are in the processor's cache.

use systir_rtp::packet::Kind;

use super::engine::Engine;
use super::send_queue::{Datagrams, Route};

impl Engine {
    /// The next datagrams to send: those that are submitted, then those of the next connection that has queued media.
    pub(super) fn poll_outgoing(&mut self) -> Option<(Route, Datagrams)> {
        loop {
            if let Some(submitted) = self.poll_submitted() {
                return Some(submitted);
            }
            let connection = self.egress.ready.pop_front()?;
            self.send_queued(connection);
            self.egress.submit(connection);
        }
    }

    /// The next datagrams that are submitted. Queued media stays where it is.
    pub(super) fn poll_submitted(&mut self) -> Option<(Route, Datagrams)> {
        self.egress.send_queue.pop()
    }

    /// Writes the queued media of a connection.
    fn send_queued(&mut self, connection: usize) {
        for kind in [Kind::Audio, Kind::Video] {
            loop {
                let Some(pending) = self.egress.pending(connection) else { return };
                pending.listed = false;
                let Some(sub) = pending.next(kind) else { break };
                while self.core.pull(sub, &mut self.egress) {}
                if let Some(pending) = self.egress.pending(connection) {
                    pending.finished(kind);
                }
            }
        }
    }
}
