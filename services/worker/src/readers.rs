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
        self.list_reader(connection);
    }

    /// Lists a reader for whom messages wait.
    pub(super) fn list_reader(&mut self, connection: usize) {
        if let Some(conn) = self.egress.connections.get_mut(connection)
            && is_behind(conn)
            && !std::mem::replace(&mut conn.is_reader_listed, true)
        {
            self.due.readers.push(connection);
        }
    }

    /// Sends what waits for readers, and ends those that take too little.
    pub(super) fn check_readers(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.due.readers);
        waiting.retain(|connection| {
            self.due.visits += 1;
            self.check_reader(now, *connection);
            let Some(conn) = self.egress.connections.get_mut(*connection) else { return false };
            conn.is_reader_listed = is_behind(conn);
            conn.is_reader_listed
        });
        waiting.append(&mut self.due.readers);
        self.due.readers = waiting;
    }

    /// Sends what waits for a reader, and ends it when it takes too little.
    fn check_reader(&mut self, now: Instant, connection: usize) {
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
            self.due.slow_rooms.push(number);
            self.egress.counts.rooms_slowed += 1;
            self.egress.notify_room(number, WorkerEvent::ReadersSlow { slow: true });
        }
    }

    /// Tells rooms whose readers have all caught up, or left.
    pub(super) fn note_caught_up(&mut self) {
        if self.due.slow_rooms.is_empty() {
            return;
        }
        // Messages wait for a slow reader, so it is listed.
        let readers = self.due.readers.iter().filter_map(|key| self.egress.connections.get(*key));
        let slow: FxHashSet<RoomNumber> =
            readers.filter(|conn| is_slow(conn)).map(|conn| conn.room).collect();
        let mut caught_up = Vec::new();
        let rooms = &mut self.egress.rooms;
        self.due.slow_rooms.retain(|number| {
            let Some(room) = rooms.get_mut(number) else { return false };
            room.readers_slow = slow.contains(number);
            if !room.readers_slow {
                caught_up.push(*number);
            }
            room.readers_slow
        });
        for room in caught_up {
            self.egress.notify_room(room, WorkerEvent::ReadersSlow { slow: false });
        }
    }
}

fn is_behind(conn: &Connection) -> bool {
    matches!(&conn.role, Role::Subscriber { channels, .. } if channels.is_behind())
}

fn is_slow(conn: &Connection) -> bool {
    matches!(&conn.role, Role::Subscriber { channels, .. } if channels.is_slow())
}
