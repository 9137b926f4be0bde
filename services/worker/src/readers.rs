//! Data messages to readers: those that wait, readers that are slow, and readers that are ended.

use std::time::Instant;

use bytes::Bytes;
use rustc_hash::FxHashSet;
use systir_media_control::{DataChannel, ParticipantKey, RoomNumber, Side, WorkerEvent};

use super::connection::{Connection, Role};
use super::engine::Engine;

impl Engine {
    /// Sends a data message to a participant.
    pub(super) fn send_data(
        &mut self,
        now: Instant,
        participant: ParticipantKey,
        channel: DataChannel,
        data: Bytes,
    ) {
        let Some(connection) = self.connection(participant, Side::Subscriber) else { return };
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let Role::Subscriber { channels, .. } = &mut conn.role else { return };
        match channels.send(now, &mut conn.transport, channel, data) {
            Ok(kept) => self.egress.counts.data_dropped += u64::from(!kept),
            Err(_) => self.end_reader(connection),
        }
        self.note_slow_reader(connection);
        self.drain_transport(now, connection);
    }

    /// Sends what waits for a reader, and ends it when it takes too little.
    pub(super) fn check_reader(&mut self, now: Instant, connection: usize) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let Role::Subscriber { channels, .. } = &mut conn.role else { return };
        let stalled = channels.check(now).is_err();
        if stalled {
            self.end_reader(connection);
        } else if channels.is_behind() {
            self.drain_transport(now, connection);
        }
    }

    /// The reader gets no reliable messages any more, rather than some of them. The room has its client join again.
    fn end_reader(&mut self, connection: usize) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let (room, participant) = (conn.room, conn.participant);
        if let Role::Subscriber { channels, .. } = &mut conn.role {
            self.egress.counts.data_dropped += channels.end();
        }
        self.egress.counts.readers_ended += 1;
        self.egress.notify_room(room, WorkerEvent::ReaderEnded { participant });
    }

    /// Tells the room when one of its readers has become slow.
    fn note_slow_reader(&mut self, connection: usize) {
        let Some(conn) = self.egress.connections.get(connection).filter(|conn| is_slow(conn)) else { return };
        let number = conn.room;
        if let Some(room) = self.egress.rooms.get_mut(&number)
            && !room.readers_slow
        {
            room.readers_slow = true;
            self.egress.counts.rooms_slowed += 1;
            self.egress.notify_room(number, WorkerEvent::ReadersSlow { slow: true });
        }
    }

    /// Tells rooms whose readers have all caught up, or left.
    pub(super) fn note_caught_up(&mut self) {
        if !self.egress.rooms.values().any(|room| room.readers_slow) {
            return;
        }
        let connections = self.egress.connections.iter().map(|(_, conn)| conn);
        let slow: FxHashSet<RoomNumber> =
            connections.filter(|conn| is_slow(conn)).map(|conn| conn.room).collect();
        let mut caught_up = Vec::new();
        for (number, room) in self.egress.rooms.iter_mut().filter(|(_, room)| room.readers_slow) {
            if !slow.contains(number) {
                room.readers_slow = false;
                caught_up.push(*number);
            }
        }
        for room in caught_up {
            self.egress.notify_room(room, WorkerEvent::ReadersSlow { slow: false });
        }
    }
}

fn is_slow(conn: &Connection) -> bool {
    matches!(&conn.role, Role::Subscriber { channels, .. } if channels.is_slow())
}
