//! Home roles that are handed over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::action::DrainAction;
use crate::view::{CarriedRoom, HomeRole};

/// Most hand-overs at the same time.
const AT_ONCE: usize = 16;

/// Attempts to hand over a room. Afterwards its participants are moved all the same.
const ATTEMPTS: u32 = 4;

/// Time before the second attempt; doubled for each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Attempts {
    count: u32,
    running: bool,
    next: Instant,
}

/// The hand-overs of one drain.
#[derive(Debug, Default)]
pub(crate) struct HandOvers {
    rooms: BTreeMap<String, Attempts>,
    pub(crate) done: u32,
}

impl HandOvers {
    /// Is the home role of the room still to be handed over?
    pub(crate) fn is_pending(&self, room: &CarriedRoom) -> bool {
        let HomeRole::Here { successors, .. } = &room.home else { return false };
        let tried = self.rooms.get(&room.room);
        tried.is_some_and(|tried| tried.running)
            || (!successors.is_empty() && tried.is_none_or(|tried| tried.count < ATTEMPTS))
    }

    /// Must participants of the room stay until its home role was handed over?
    pub(crate) fn holds_participants(&self, room: &CarriedRoom) -> bool {
        matches!(room.home, HomeRole::Here { stays_as_spill: true, .. }) && self.is_pending(room)
    }

    /// The hand-overs to begin now.
    pub(crate) fn begin(&mut self, rooms: &[CarriedRoom], now: Instant) -> Vec<DrainAction> {
        let mut actions = Vec::new();
        let mut running = self.rooms.values().filter(|attempts| attempts.running).count();
        for room in rooms {
            let HomeRole::Here { successors, stays_as_spill } = &room.home else { continue };
            // A node that policy denies as spill node must not carry participants when another node is home.
            let may_leave = *stays_as_spill || room.participants == 0;
            if running >= AT_ONCE || !may_leave || !self.is_pending(room) {
                continue;
            }
            let fresh = || Attempts { count: 0, running: false, next: now };
            let attempts = self.rooms.entry(room.room.clone()).or_insert_with(fresh);
            if attempts.running || attempts.next > now {
                continue;
            }
            (attempts.running, attempts.count) = (true, attempts.count + 1);
            running += 1;
            actions.push(DrainAction::HandOver { room: room.room.clone(), successors: successors.clone() });
        }
        actions
    }

    /// A hand-over ended.
    pub(crate) fn ended(&mut self, room: &str, handed_over: bool, now: Instant, rng: &mut StdRng) {
        let Some(attempts) = self.rooms.get_mut(room) else { return };
        if handed_over {
            self.rooms.remove(room);
            self.done += 1;
            return;
        }
        let doubled = FIRST_RETRY * 2_u32.saturating_pow(attempts.count.saturating_sub(1));
        (attempts.running, attempts.next) = (false, now + doubled.mul_f64(rng.random_range(0.75..1.25)));
    }

    /// Forgets rooms that the node does not carry any more.
    pub(crate) fn retain(&mut self, rooms: &[CarriedRoom]) {
        self.rooms
            .retain(|room, attempts| attempts.running || rooms.iter().any(|carried| carried.room == *room));
    }
}
