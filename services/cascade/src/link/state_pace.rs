//! Bounds how fast links read what must be verified: records of participants, tickets and grants are signed. A peer that
//! sends more is read later, so that its flood takes the time of no other link. A new link of the peer goes on at the pace of the
//! one before.

use super::established::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{RoomMessage, SessionMessage, room_message};
use tonic::Status;

/// What one signature counts. A record with a ticket has more bytes than this.
const BYTES: usize = 512;
/// At once: the records of some 8,000 participants, as after a link has come up.
const BURST: u32 = 65_536;
/// One more each.
const INTERVAL: Duration = Duration::from_micros(250);

/// Peers whose pace is remembered, at most. Those that have paid are forgotten first; no directory lists so many.
const MAX_PEERS: usize = 1024;

/// The paces of all peers.
#[derive(Default)]
pub(crate) struct StatePaces(Mutex<HashMap<SpiffeId, Arc<Mutex<StatePace>>>>);

impl StatePaces {
    /// The pace of a peer, whichever its links are.
    pub(super) fn of(&self, peer: &SpiffeId, now: Instant) -> Arc<Mutex<StatePace>> {
        let mut paces = lock(&self.0);
        if paces.len() >= MAX_PEERS && !paces.contains_key(peer) {
            paces.retain(|_, pace| Arc::strong_count(pace) > 1 || lock(pace).paid_at > now);
        }
        paces.entry(peer.clone()).or_insert_with(|| Arc::new(Mutex::new(StatePace::new(now)))).clone()
    }
}

/// The pace of one peer. The time is an argument.
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
        pace: &Mutex<Self>,
        read: Result<Option<SessionMessage>, Status>,
        now: Instant,
    ) -> Result<Option<SessionMessage>, Status> {
        if let Ok(Some(message)) = &read {
            lock(pace).count(message, now);
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
    fn a_peer_that_makes_a_new_link_may_do_no_more() {
        let (paces, start) = (StatePaces::default(), Instant::now());
        let peer = |name: &str| format!("spiffe://nordu.net/relay/{name}").parse::<SpiffeId>().unwrap();
        let mut read = 0;
        for _ in 0..100 {
            let pace = paces.of(&peer("sto-1"), start);
            while lock(&pace).is_ready(start) {
                lock(&pace).count(&state(100), start);
                read += 1;
            }
        }
        assert_eq!(read, BURST + 1);
        assert!(lock(&paces.of(&peer("osl-1"), start)).is_ready(start), "another peer is not affected");
        // Many peers are remembered; one that has not paid stays.
        for number in 0..3 * MAX_PEERS {
            paces.of(&peer(&format!("n{number}")), start);
        }
        assert!(lock(&paces.0).len() <= MAX_PEERS);
        assert!(!lock(&paces.of(&peer("sto-1"), start)).is_ready(start));
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
