//! The seat book of one node: the only place where a participant is admitted.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use systir_reason::{Reason, Refusal};
use thiserror::Error;

/// How long a seat is held for a participant who was promised it and has not come yet.
pub const RESERVATION_TTL: Duration = Duration::from_secs(10);

/// A seat held for one join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The join it is held for.
    pub join_id: String,
    /// When the seat falls free unless the join is committed; none once it is.
    pub expires: Option<Instant>,
    /// Seats taken, this one included.
    pub used: u32,
    /// Seats in all.
    pub capacity: u32,
}

/// The join holds no seat: it never did, it was released, or the reservation ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the join holds no seat, its reservation may have run out; reserve again")]
pub struct NoReservation;

fn full(capacity: u32, used: u32) -> Refusal {
    let sentence = format!("the node is full: {used} of {capacity} seats are taken; ask the next node");
    Refusal::new(Reason::Full, sentence)
}

fn draining() -> Refusal {
    Refusal::new(Reason::Draining, "the node is draining and admits nobody new; ask the next node")
}

fn other_room() -> Refusal {
    Refusal::new(Reason::Internal, "this join id holds a seat in another room; use a new id for each join")
}

#[derive(Debug)]
struct Seat {
    room: String,
    identity: String,
    expires: Option<Instant>,
    /// Given beyond the capacity, in exchange for the seat that the same person still has.
    exchange: bool,
}

impl Seat {
    fn is_of(&self, room: &str, identity: &str) -> bool {
        self.room == room && self.identity == identity
    }
}

/// Seats of one node. Used seats never exceed the capacity, except after
/// [`set_capacity`](Self::set_capacity) lowered it, which sends nobody away.
///
/// Whoever comes back before their old connection was found dead still holds a seat. A full node
/// gives them another one in exchange: of two people with one identity the room keeps the newer.
#[derive(Debug)]
pub struct SeatBook {
    capacity: u32,
    draining: bool,
    seats: HashMap<String, Seat>,
    /// How many of the seats are given in exchange.
    exchanges: u32,
    deadlines: BTreeSet<(Instant, String)>,
}

impl SeatBook {
    /// An empty book with this many seats.
    pub fn new(capacity: u32) -> Self {
        Self { capacity, draining: false, seats: HashMap::new(), exchanges: 0, deadlines: BTreeSet::new() }
    }

    /// Holds a seat for [`RESERVATION_TTL`]. Asking again for the same join (the answer was lost)
    /// takes no second seat and extends the first reservation.
    ///
    /// # Errors
    /// [`Reason::Full`] without a free seat, [`Reason::Draining`] while the node drains,
    /// [`Reason::Internal`] when this join holds a seat in another room.
    pub fn reserve(
        &mut self,
        room: &str,
        identity: &str,
        join_id: &str,
        now: Instant,
    ) -> Result<Reservation, Refusal> {
        self.expire(now);
        let (used, capacity) = (self.used(), self.capacity);
        let expires = now + RESERVATION_TTL;
        match self.seats.get_mut(join_id) {
            Some(seat) if seat.room != room => return Err(other_room()),
            Some(seat) => {
                if let Some(old) = seat.expires {
                    self.deadlines.remove(&(old, join_id.to_owned()));
                    self.deadlines.insert((expires, join_id.to_owned()));
                    seat.expires = Some(expires);
                }
                return Ok(Reservation {
                    join_id: join_id.to_owned(),
                    expires: seat.expires,
                    used,
                    capacity,
                });
            }
            None => {}
        }
        if self.draining {
            return Err(draining());
        }
        let exchange = used >= capacity;
        if exchange && !self.may_exchange(room, identity) {
            return Err(full(capacity, used));
        }
        let seat =
            Seat { room: room.to_owned(), identity: identity.to_owned(), expires: Some(expires), exchange };
        self.seats.insert(join_id.to_owned(), seat);
        self.exchanges += u32::from(exchange);
        self.deadlines.insert((expires, join_id.to_owned()));
        Ok(Reservation { join_id: join_id.to_owned(), expires: Some(expires), used: self.used(), capacity })
    }

    /// One seat for one seat, and only for one that its person has taken.
    fn may_exchange(&self, room: &str, identity: &str) -> bool {
        let mut held = self.seats.values().filter(|seat| seat.is_of(room, identity));
        held.next().is_some_and(|seat| seat.expires.is_none()) && held.next().is_none()
    }

    /// The participant has come: the seat is theirs until [`release`](Self::release).
    ///
    /// # Errors
    /// When the seat is of another room, or taken already: one reservation admits one participant.
    pub fn commit(&mut self, room: &str, join_id: &str) -> Result<(), NoReservation> {
        let seat = self.seats.get_mut(join_id).filter(|seat| seat.room == room).ok_or(NoReservation)?;
        let expires = seat.expires.take().ok_or(NoReservation)?;
        self.deadlines.remove(&(expires, join_id.to_owned()));
        Ok(())
    }

    /// Gives a seat back that is only held. One whose participant has come stays theirs: whoever
    /// asked for the reservation has no say in that any more.
    pub fn release_reservation(&mut self, join_id: &str) -> bool {
        let held = self.seats.get(join_id).is_some_and(|seat| seat.expires.is_some());
        held && self.release(join_id)
    }

    /// The participant has gone, or will not come. False when they held no seat.
    pub fn release(&mut self, join_id: &str) -> bool {
        let Some(seat) = self.remove(join_id) else { return false };
        if let Some(expires) = seat.expires {
            self.deadlines.remove(&(expires, join_id.to_owned()));
        }
        true
    }

    /// The seat of one who came back in the meantime counts in the place of the one that is gone.
    fn remove(&mut self, join_id: &str) -> Option<Seat> {
        let gone = self.seats.remove(join_id)?;
        if gone.exchange {
            self.exchanges -= 1;
        } else if self.exchanges > 0
            && let Some(heir) =
                self.seats.values_mut().find(|seat| seat.exchange && seat.is_of(&gone.room, &gone.identity))
        {
            heir.exchange = false;
            self.exchanges -= 1;
        }
        Some(gone)
    }

    /// Frees the seats whose reservations have run out; answers the joins.
    pub fn expire(&mut self, now: Instant) -> Vec<String> {
        let mut gone = Vec::new();
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now) {
            if let Some((_, join_id)) = self.deadlines.pop_first() {
                self.remove(&join_id);
                gone.push(join_id);
            }
        }
        gone
    }

    /// When [`expire`](Self::expire) next has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Seats taken or held; two that are in exchange count once.
    pub fn used(&self) -> u32 {
        u32::try_from(self.seats.len()).unwrap_or(u32::MAX).saturating_sub(self.exchanges)
    }

    /// Seats taken or held by one room.
    pub fn used_by(&self, room: &str) -> u32 {
        u32::try_from(self.seats.values().filter(|seat| seat.room == room).count()).unwrap_or(u32::MAX)
    }

    /// Seats in all.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Changes the number of seats. Nobody is sent away: while more are used than there are,
    /// nobody new is admitted.
    pub fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// Begins or ends draining: while it lasts nobody new is admitted.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }
}

#[cfg(test)]
#[path = "seat_book_tests.rs"]
mod tests;
