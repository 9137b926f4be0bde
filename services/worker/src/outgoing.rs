//! Sending: one connection after the other, so that its packets are written, sealed and passed to the kernel while they
//! are in the processor's cache. Audio leaves at once, video at the pace of the connection.

use std::cmp::Reverse;
use std::time::Instant;

use smallvec::SmallVec;
use systir_forwarding::SubscriptionId;
use systir_rtp::packet::Kind;

use super::connection::Role;
use super::engine::Engine;
use super::send_control::SendControl;
use super::send_queue::{Datagrams, Route};

/// Most packets before the newest one that are sent again to probe.
const MAX_PROBE_PACKETS: u64 = 32;

impl Engine {
    /// The next datagrams to send: those that are submitted, then those of the next connection that has queued media.
    pub(super) fn poll_outgoing(&mut self, now: Instant) -> Option<(Route, Datagrams)> {
        loop {
            if let Some(submitted) = self.poll_submitted() {
                return Some(submitted);
            }
            let connection = self.egress.ready.pop_front()?;
            if let Some(pending) = self.egress.pending(connection) {
                pending.listed = false;
            }
            self.send_queued(now, connection);
            self.egress.submit(connection);
        }
    }

    /// The next datagrams that are submitted. Queued media stays where it is.
    pub(super) fn poll_submitted(&mut self) -> Option<(Route, Datagrams)> {
        self.egress.buffers.queue.pop()
    }

    /// Writes what the connection may send now, and schedules the rest.
    fn send_queued(&mut self, now: Instant, connection: usize) {
        if self.egress.send_control(connection).is_some_and(|control| control.resumes_data(now)) {
            self.drain_transport(now, connection);
        }
        while let Some(sub) = self.egress.pending(connection).and_then(|pending| pending.next(Kind::Audio)) {
            while self.core.pull(sub, &mut self.egress) {}
            self.finish_downtrack(connection, Kind::Audio);
        }
        self.send_fillers(now, connection);
        while let Some(sub) = self.egress.pending(connection).and_then(|pending| pending.next(Kind::Video)) {
            if self.egress.send_control(connection).is_some_and(|control| !control.may_send(now)) {
                // The other tracks have their turn when it may send again.
                if let Some(pending) = self.egress.pending(connection) {
                    pending.rotate_video();
                }
                break;
            }
            self.core.pull(sub, &mut self.egress);
            if !self.core.has_pending(sub) {
                self.finish_downtrack(connection, Kind::Video);
            }
        }
        self.schedule_sending(now, connection);
    }

    fn finish_downtrack(&mut self, connection: usize, kind: Kind) {
        if let Some(pending) = self.egress.pending(connection) {
            pending.finished(kind);
        }
    }

    /// Sends the packets that are due of a probe or a trial: recent packets once more, or padding.
    fn send_fillers(&mut self, now: Instant, connection: usize) {
        let has_video =
            self.egress.pending(connection).is_some_and(|pending| pending.next(Kind::Video).is_some());
        while self.egress.send_control(connection).is_some_and(|control| control.begin_filler(now, has_video))
        {
            self.send_filler(connection);
            let is_written = self.egress.send_control(connection).is_some_and(SendControl::end_filler);
            self.egress.counts.probe_packets += u64::from(is_written);
        }
    }

    fn send_filler(&mut self, connection: usize) {
        let resends = self.egress.send_control(connection).is_some_and(|control| control.takes_long_filler());
        let Some(Role::Subscriber { downtracks, probed, .. }) =
            self.egress.connections.get_mut(connection).map(|conn| &mut conn.role)
        else {
            return;
        };
        *probed = (*probed + 1) % MAX_PROBE_PACKETS;
        let back = *probed;
        let subs: SmallVec<[SubscriptionId; 16]> = downtracks.iter().copied().collect();
        let mut first = None;
        for sub in subs {
            if self.egress.is_numbered(sub) {
                if resends && self.core.resend(sub, back, &mut self.egress) {
                    return;
                }
                first = first.or(Some(sub));
            }
        }
        if let Some(sub) = first {
            self.egress.send_padding(sub);
        }
    }

    /// Schedules the next look at a connection with congestion control.
    pub(super) fn schedule_sending(&mut self, now: Instant, connection: usize) {
        let has_video =
            self.egress.pending(connection).is_some_and(|pending| pending.next(Kind::Video).is_some());
        let Some(control) = self.egress.send_control(connection) else { return };
        control.set_waits(now, has_video);
        let Some(wake) = control.next_wake(now, has_video) else { return };
        if control.wake_at.is_none_or(|at| wake < at) {
            control.wake_at = Some(wake);
            self.wakes.push(Reverse((wake, connection)));
        }
    }

    /// Lists the connections that may send again.
    pub(super) fn wake_paced(&mut self, now: Instant) {
        while let Some(Reverse((due, connection))) = self.wakes.peek().copied()
            && due <= now
        {
            self.wakes.pop();
            let Some(control) = self.egress.send_control(connection) else { continue };
            if control.wake_at == Some(due) {
                control.wake_at = None;
                self.egress.list_ready(connection);
            }
        }
    }
}
