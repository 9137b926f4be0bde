//! The seat book of this node, shared by all tasks that admit or release participants. Each call holds the
//! lock briefly; the time is an argument.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use systir_reason::Refusal;

use crate::seat_book::{NoReservation, SeatBook, SeatQuotas, SeatRequest};

/// One node's seat book behind a lock.
#[derive(Debug)]
pub struct Seats(Mutex<SeatBook>);

impl Seats {
    /// An empty book with this many seats and these quotas.
    #[must_use]
    pub fn new(capacity: u32, quotas: SeatQuotas) -> Self {
        Self(Mutex::new(SeatBook::new(capacity, quotas)))
    }

    // A poisoned lock is safe to use: a seat book's methods do not leave it half changed.
    fn book(&self) -> MutexGuard<'_, SeatBook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a seat: [`SeatBook::reserve`]. The caller has checked by policy that this node may carry
    /// the room.
    ///
    /// # Errors
    /// As [`SeatBook::reserve`].
    pub fn reserve(&self, request: SeatRequest<'_>, now: Instant) -> Result<(), Refusal> {
        self.book().reserve(request, now).map(|_| ())
    }

    /// Would a new join get a seat? [`SeatBook::would_reserve`]. Nothing is reserved.
    ///
    /// # Errors
    /// As [`SeatBook::would_reserve`].
    pub fn would_reserve(&self, request: SeatRequest<'_>, now: Instant) -> Result<(), Refusal> {
        self.book().would_reserve(request, now)
    }

    /// Counts a connection that this gateway relays: [`SeatBook::relay`].
    ///
    /// # Errors
    /// As [`SeatBook::relay`].
    pub fn relay(&self, request: SeatRequest<'_>, now: Instant) -> Result<(), Refusal> {
        self.book().relay(request, now)
    }

    /// May this gateway relay one more connection? [`SeatBook::would_relay`].
    ///
    /// # Errors
    /// As [`SeatBook::would_relay`].
    pub fn would_relay(&self, request: SeatRequest<'_>, now: Instant) -> Result<(), Refusal> {
        self.book().would_relay(request, now)
    }

    /// A relayed connection ended: [`SeatBook::end_relayed`].
    pub fn end_relayed(&self, room: &str, identity: &str) {
        self.book().end_relayed(room, identity);
    }

    /// The participant has connected: [`SeatBook::commit`].
    ///
    /// # Errors
    /// As [`SeatBook::commit`].
    pub fn commit(&self, room: &str, join_id: &str) -> Result<(), NoReservation> {
        self.book().commit(room, join_id)
    }

    /// Releases a seat: the participant has left, or will not connect.
    pub fn release(&self, join_id: &str) {
        self.book().release(join_id);
    }

    /// Releases a seat that is only reserved.
    pub fn release_reservation(&self, join_id: &str) {
        self.book().release_reservation(join_id);
    }

    /// Releases the seats whose reservations have expired.
    pub fn expire(&self, now: Instant) {
        self.book().expire(now);
    }

    /// Is a seat here taken or reserved for the room?
    #[must_use]
    pub fn are_held_by(&self, room: &str) -> bool {
        self.book().used_by(room) > 0
    }

    /// Starts or stops draining: [`SeatBook::set_draining`].
    pub fn set_draining(&self, draining: bool) {
        self.book().set_draining(draining);
    }

    /// Is the node draining?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.book().is_draining()
    }

    /// Connected participants of each room, by its key, and the number of seats that are only reserved.
    #[must_use]
    pub fn taken_by_room_and_reserved(&self) -> (BTreeMap<String, u32>, u32) {
        let book = self.book();
        (book.taken_by_room(), book.reserved())
    }

    /// Seats taken or reserved, and the capacity.
    #[must_use]
    pub fn used_and_capacity(&self) -> (u32, u32) {
        let book = self.book();
        (book.used(), book.capacity())
    }
}
