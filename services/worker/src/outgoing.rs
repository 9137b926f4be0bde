//! Sending: one connection after the other, so that its packets are written, sealed and passed to the kernel while they
//! are in the processor's cache. Audio leaves at once, video at the pace of the connection.

use std::cmp::Reverse;
use std::time::Instant;

use systir_rtp::packet::Kind;

use super::connection::Role;
use super::engine::Engine;
use super::send_control::SendControl;
use super::send_queue::{Datagrams, Route, Via};

/// Most packets before the newest one that are sent again to probe.
const MAX_PROBE_PACKETS: u64 = 32;

impl Engine {
    /// The next datagrams to send: those that are submitted, then those of the next connection that has queued media. A
    /// connection whose socket `is_full` keeps its media for a later turn.
    pub(super) fn poll_outgoing(
        &mut self,
        now: Instant,
        is_full: impl Fn(usize) -> bool,
    ) -> Option<(Route, Datagrams)> {
        loop {
            if let Some(submitted) = self.egress.buffers.queue.pop() {
                return Some(submitted);
            }
            let connection = self.next_ready(&is_full)?;
            if let Some(pending) = self.egress.pending(connection) {
                pending.listed = false;
            }
            self.send_queued(now, connection);
            self.egress.submit(connection);
        }
    }

    /// Takes the first of the connections that may send.
    fn next_ready(&mut self, is_full: &impl Fn(usize) -> bool) -> Option<usize> {
        while let Some(connection) = self.egress.ready.pop_front() {
            let route = self.egress.connections.get(connection).and_then(|conn| conn.route);
            if !route.is_some_and(|route| matches!(route.via, Via::Udp(socket) if is_full(socket))) {
                return Some(connection);
            }
            self.egress.held.push(connection);
        }
        // In a later turn their sockets may take something.
        self.egress.ready.extend(self.egress.held.drain(..));
        None
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
        let mut role = self.egress.connections.get_mut(connection).map(|conn| &mut conn.role);
        let Some(Role::Subscriber { probed, .. }) = &mut role else { return };
        *probed = (*probed + 1) % MAX_PROBE_PACKETS;
        let back = *probed;
        let mut first = None;
        for index in 0.. {
            let role = self.egress.connections.get(connection).map(|conn| &conn.role);
            let Some(Role::Subscriber { downtracks, .. }) = role else { return };
            let Some(sub) = downtracks.get(index).copied() else { break };
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
        let next = self.egress.pending(connection).and_then(|pending| pending.next(Kind::Video));
        let has_video = next.is_some();
        let waits_since = next.and_then(|sub| self.core.next_arrived(sub));
        let Some(control) = self.egress.send_control(connection) else { return };
        control.set_waits(now, waits_since);
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

#[cfg(test)]
mod tests {
    use crate::simulated_meeting::SimulatedMeeting;

    #[test]
    fn a_full_socket_delays_its_own_subscribers_only() {
        let mut meeting = SimulatedMeeting::new(4, true);
        // The camera sends a key frame each 5 s.
        meeting.received_in(6_000);
        let before = meeting.received_in(500);
        assert!(before.iter().all(|packets| *packets > 50), "{before:?}");
        meeting.full_socket = Some(1);
        let meanwhile = meeting.received_in(500);
        // The keys of subscribers begin with 2.
        for (key, (packets, before)) in (2..).zip(meanwhile.iter().zip(&before)) {
            let is_delayed = key % 2 == 1;
            assert_eq!(*packets == 0, is_delayed, "{meanwhile:?}");
            assert!(is_delayed || packets + 10 > *before, "{meanwhile:?}, {before:?} before");
        }
        meeting.full_socket = None;
        let after = meeting.received_in(500);
        assert!(after.iter().all(|packets| *packets > 50), "{after:?}");
    }
}
