//! Bounds how fast a link reads what must be verified: records of participants, tickets and grants are signed. A peer that
//! sends more is read later, so that its flood takes the time of no other link.

use std::time::{Duration, Instant};
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{RoomMessage, SessionMessage, room_message};
use tonic::Status;

/// What one signature counts. A record with a ticket has more bytes than this.
const BYTES: usize = 512;
/// At once: the records of some 8,000 participants, as after a link has come up.
const BURST: u32 = 65_536;
/// One more each.
const INTERVAL: Duration = Duration::from_micros(250);

/// The pace of one link. The time is an argument.
pub(super) struct StatePace {
    /// When all that was read is paid for.
    paid_at: Instant,
}

impl StatePace {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_at: now }
    }

    /// What was read, after it is counted.
    pub(super) fn read(
        &mut self,
        read: Result<Option<SessionMessage>, Status>,
        now: Instant,
    ) -> Result<Option<SessionMessage>, Status> {
        if let Ok(Some(message)) = &read {
            self.count(message, now);
        }
        read
    }

    fn count(&mut self, message: &SessionMessage, now: Instant) {
        self.paid_at = self.paid_at.max(now) + INTERVAL.saturating_mul(cost(message));
    }

    /// When the next message may be read.
    pub(super) fn ready_at(&self) -> Instant {
        self.paid_at.checked_sub(INTERVAL * BURST).unwrap_or(self.paid_at)
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.ready_at() <= now
    }
}

/// Signatures that a message may have, from its length.
fn cost(message: &SessionMessage) -> u32 {
    match &message.body {
        Some(Body::OpenRoom(_)) => 1,
        Some(Body::Room(RoomMessage { body: Some(body), .. })) => match body {
            room_message::Body::Assignment(_) | room_message::Body::Ticket(_) => 1,
            room_message::Body::StateUpdate(update) => {
                let costs = update.updates.iter().map(|update| 1 + update.len() / BYTES);
                u32::try_from(costs.sum::<usize>()).unwrap_or(u32::MAX)
            }
            _ => 0,
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use systir_proto::cluster::v1::{StateUpdate, Unsubscribe};

    fn room(body: room_message::Body) -> SessionMessage {
        SessionMessage {
            body: Some(Body::Room(RoomMessage { room: "ku.dk/x".to_owned(), body: Some(body) })),
        }
    }

    fn state(bytes: usize) -> SessionMessage {
        let updates = vec![vec![0; bytes].into()];
        room(room_message::Body::StateUpdate(StateUpdate { updates, snapshot: false }))
    }

    #[test]
    fn a_flood_of_state_is_read_at_a_bounded_rate_and_a_large_snapshot_at_once() {
        let start = Instant::now();
        let mut pace = StatePace::new(start);
        pace.count(&state(16 << 20), start);
        assert!(pace.is_ready(start), "a snapshot of the longest message");
        let mut read = 0;
        let mut now = start;
        while now < start + Duration::from_secs(60) {
            if pace.is_ready(now) {
                pace.count(&state(100), now);
                read += 1;
            } else {
                now = pace.ready_at();
            }
        }
        assert!((240_000..310_000).contains(&read), "{read} in a minute");
    }

    #[test]
    fn what_is_not_signed_costs_nothing() {
        let start = Instant::now();
        let mut pace = StatePace::new(start);
        for _ in 0..1_000_000 {
            pace.count(&room(room_message::Body::Unsubscribe(Unsubscribe::default())), start);
        }
        assert!(pace.is_ready(start));
    }

    #[test]
    fn a_message_of_very_many_empty_updates_delays_the_next_one_and_overflows_nothing() {
        let start = Instant::now();
        let mut pace = StatePace::new(start);
        let updates = vec![bytes::Bytes::new(); 8_000_000];
        let many = room(room_message::Body::StateUpdate(StateUpdate { updates, snapshot: false }));
        pace.count(&many, start);
        assert!(!pace.is_ready(start + Duration::from_secs(1_000)));
        assert!(pace.is_ready(start + Duration::from_secs(2_000)));
    }
}
