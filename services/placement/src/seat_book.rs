//! The seat book of one node: it alone admits participants to the node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use systir_reason::{Reason, Refusal};
use thiserror::Error;

/// How long a seat is reserved for a participant that has not connected yet.
pub const RESERVATION_TTL: Duration = Duration::from_secs(10);

/// A seat reserved for one join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The join that it is reserved for.
    pub join_id: String,
    /// When the seat is released unless the join is committed; none once it is committed.
    pub expires: Option<Instant>,
    /// Seats taken or reserved, this one included.
    pub used: u32,
    /// Seats of the node.
    pub capacity: u32,
}

/// The join has no reservation: it never had one, it was released or committed, or it expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the join has no reservation, it may have expired; reserve again")]
pub struct NoReservation;

fn full(capacity: u32, used: u32) -> Refusal {
    let sentence = format!("the node is full: {used} of {capacity} seats are taken; ask the next node");
    Refusal::new(Reason::Full, sentence)
}

fn identity_quota(quota: u32) -> Refusal {
    let sentence = format!(
        "You already have {quota} connections to this meeting, and one participant may have no more. Close another \
         one and join again."
    );
    Refusal::new(Reason::IdentityQuota, sentence)
}

fn institution_quota(quota: u32) -> Refusal {
    let sentence =
        format!("the institution has all {quota} seats that it may have on this node; ask the next node");
    Refusal::new(Reason::InstitutionQuota, sentence)
}

fn draining() -> Refusal {
    Refusal::new(Reason::Draining, "the node is draining and admits no new participants; ask the next node")
}

fn other_room() -> Refusal {
    Refusal::new(Reason::Internal, "this join id has a seat in another room; use a new id for each join")
}

/// Limits within a node's capacity, so that one token or one institution cannot take all seats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatQuotas {
    /// Connections of one token's identity to a room, over all nodes as far as the asked nodes know. A participant needs a second one for a moment when it rejoins, and
    /// one for each further publisher (the query parameter `publish`).
    pub per_identity: u32,
    /// Seats of an institution on this node; an institution that is not listed may have all.
    pub institutions: HashMap<String, u32>,
}

impl SeatQuotas {
    /// The default of [`SeatQuotas::per_identity`].
    pub const PER_IDENTITY: u32 = 4;
}

impl Default for SeatQuotas {
    fn default() -> Self {
        Self { per_identity: Self::PER_IDENTITY, institutions: HashMap::new() }
    }
}

/// Who asks for a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatRequest<'a> {
    /// The institution of the room.
    pub institution: &'a str,
    /// The key of the room.
    pub room: &'a str,
    /// The participant's identity. A gateway appends `#` and a suffix for further publishers of one token.
    pub identity: &'a str,
    /// The id of the join.
    pub join_id: &'a str,
    /// Connections of the same token to the room on other nodes, as far as this node knows.
    pub elsewhere: u32,
}

/// The identity of the token: without the suffix of a further publisher.
#[must_use]
pub fn token_identity(identity: &str) -> &str {
    identity.split('#').next().unwrap_or(identity)
}

/// Are both identities of one token?
#[must_use]
pub fn is_same_token(one: &str, other: &str) -> bool {
    token_identity(one) == token_identity(other)
}

fn relayed_key(room: &str, identity: &str) -> (String, String) {
    (room.to_owned(), token_identity(identity).to_owned())
}

#[derive(Debug)]
struct SeatEntry {
    institution: String,
    room: String,
    identity: String,
    expires: Option<Instant>,
    /// Given beyond the capacity, in exchange for the seat that the same participant still has.
    exchange: bool,
}

impl SeatEntry {
    fn is_of(&self, room: &str, identity: &str) -> bool {
        self.room == room && self.identity == identity
    }
}

/// Seats of one node. Used seats never exceed the capacity, except after
/// [`set_capacity`](Self::set_capacity) lowered it, which removes no participant.
///
/// A participant that rejoins before its old connection is detected as dead still has a seat. A full
/// node gives it another one in exchange: of two participants with one identity the room keeps the newer.
#[derive(Debug)]
pub struct SeatBook {
    capacity: u32,
    quotas: SeatQuotas,
    draining: bool,
    seats: HashMap<String, SeatEntry>,
    /// Number of seats given in exchange.
    exchanges: u32,
    /// Connections that this node relays to other nodes as gateway, by room and identity of the token.
    relayed: HashMap<(String, String), u32>,
    deadlines: BTreeSet<(Instant, String)>,
}

impl SeatBook {
    /// An empty book with this many seats.
    pub fn new(capacity: u32, quotas: SeatQuotas) -> Self {
        let (seats, deadlines) = (HashMap::new(), BTreeSet::new());
        let relayed = HashMap::new();
        Self { capacity, quotas, draining: false, seats, exchanges: 0, relayed, deadlines }
    }

    /// Reserves a seat for [`RESERVATION_TTL`]. Asking again for the same join (the reply was lost)
    /// takes no second seat and extends the reservation.
    ///
    /// # Errors
    /// [`Reason::Full`] without a free seat, [`Reason::Draining`] while the node drains,
    /// [`Reason::IdentityQuota`] or [`Reason::InstitutionQuota`] when one of [`SeatQuotas`] is reached,
    /// [`Reason::Internal`] when this join has a seat in another room.
    pub fn reserve(&mut self, request: SeatRequest<'_>, now: Instant) -> Result<Reservation, Refusal> {
        let SeatRequest { institution, room, identity, join_id, .. } = request;
        self.expire(now);
        let expires = now + RESERVATION_TTL;
        let (used, capacity) = (self.used(), self.capacity);
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
        let exchange = self.check(&request)?;
        let seat = SeatEntry {
            institution: institution.to_owned(),
            room: room.to_owned(),
            identity: identity.to_owned(),
            expires: Some(expires),
            exchange,
        };
        self.seats.insert(join_id.to_owned(), seat);
        self.exchanges += u32::from(exchange);
        self.deadlines.insert((expires, join_id.to_owned()));
        Ok(Reservation { join_id: join_id.to_owned(), expires: Some(expires), used: self.used(), capacity })
    }

    /// Would [`SeatBook::reserve`] give a seat to a new join? Nothing is reserved.
    ///
    /// # Errors
    /// As [`SeatBook::reserve`] for a join that has no seat.
    pub fn would_reserve(&mut self, request: SeatRequest<'_>, now: Instant) -> Result<(), Refusal> {
        self.expire(now);
        self.check(&request).map(drop)
    }

    /// May the request have a new seat? True when it would be in exchange for another one.
    fn check(&self, request: &SeatRequest<'_>) -> Result<bool, Refusal> {
        if self.draining {
            return Err(draining());
        }
        self.check_quotas(request)?;
        let (used, capacity) = (self.used(), self.capacity);
        let exchange = used >= capacity;
        if exchange && !self.may_exchange(request.room, request.identity) {
            return Err(full(capacity, used));
        }
        Ok(exchange)
    }

    fn check_quotas(&self, request: &SeatRequest<'_>) -> Result<(), Refusal> {
        self.check_identity(request)?;
        let SeatRequest { institution, room, identity, .. } = *request;
        if let Some(quota) = self.quotas.institutions.get(institution).copied()
            && self.count(|seat| seat.institution == institution && !seat.exchange) >= quota
            && !self.may_exchange(room, identity)
        {
            return Err(institution_quota(quota));
        }
        Ok(())
    }

    fn count(&self, matches: impl Fn(&SeatEntry) -> bool) -> u32 {
        let count = self.seats.values().filter(|seat| matches(seat)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// May the token have one more connection to the room? Those on other nodes count too: what this node relays as
    /// gateway, at once, and what its room knows of the others.
    fn check_identity(&self, request: &SeatRequest<'_>) -> Result<(), Refusal> {
        let SeatRequest { room, identity, elsewhere, .. } = *request;
        let here = self.count(|seat| seat.room == room && is_same_token(&seat.identity, identity));
        let relayed = self.relayed.get(&relayed_key(room, identity)).copied().unwrap_or_default();
        let quota = self.quotas.per_identity;
        if here.saturating_add(relayed.max(elsewhere)) >= quota { Err(identity_quota(quota)) } else { Ok(()) }
    }

    /// This gateway is about to ask another node for a seat: counts the connection for the quota of its token until
    /// [`SeatBook::end_relayed`].
    ///
    /// # Errors
    /// [`Reason::IdentityQuota`].
    pub fn relay(&mut self, request: SeatRequest<'_>, now: Instant) -> Result<(), Refusal> {
        self.expire(now);
        self.check_identity(&request)?;
        *self.relayed.entry(relayed_key(request.room, request.identity)).or_default() += 1;
        Ok(())
    }

    /// A connection that was counted by [`SeatBook::relay`] ended.
    pub fn end_relayed(&mut self, room: &str, identity: &str) {
        let key = relayed_key(room, identity);
        if let Some(count) = self.relayed.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.relayed.remove(&key);
            }
        }
    }

    /// May this gateway ask another node for a seat? As [`SeatBook::relay`], but nothing is counted.
    ///
    /// # Errors
    /// [`Reason::IdentityQuota`].
    pub fn would_relay(&mut self, request: SeatRequest<'_>, now: Instant) -> Result<(), Refusal> {
        self.expire(now);
        self.check_identity(&request)
    }

    /// One seat for one seat, and only for one that the participant has taken.
    fn may_exchange(&self, room: &str, identity: &str) -> bool {
        let mut held = self.seats.values().filter(|seat| seat.is_of(room, identity));
        held.next().is_some_and(|seat| seat.expires.is_none()) && held.next().is_none()
    }

    /// The participant has connected: the seat is taken until [`release`](Self::release).
    ///
    /// # Errors
    /// When the join has no reservation in this room, or is committed already: one reservation admits one
    /// participant.
    pub fn commit(&mut self, room: &str, join_id: &str) -> Result<(), NoReservation> {
        let seat = self.seats.get_mut(join_id).filter(|seat| seat.room == room).ok_or(NoReservation)?;
        let expires = seat.expires.take().ok_or(NoReservation)?;
        self.deadlines.remove(&(expires, join_id.to_owned()));
        Ok(())
    }

    /// Releases a seat that is only reserved. Once the participant has connected, the node that asked for
    /// the reservation can no longer release it.
    pub fn release_reservation(&mut self, join_id: &str) -> bool {
        let held = self.seats.get(join_id).is_some_and(|seat| seat.expires.is_some());
        held && self.release(join_id)
    }

    /// Releases a seat: the participant has left, or will not connect. False when the join had none.
    pub fn release(&mut self, join_id: &str) -> bool {
        let Some(seat) = self.remove(join_id) else { return false };
        if let Some(expires) = seat.expires {
            self.deadlines.remove(&(expires, join_id.to_owned()));
        }
        true
    }

    /// When the old seat of a rejoined participant goes, its seat in exchange becomes a normal one.
    fn remove(&mut self, join_id: &str) -> Option<SeatEntry> {
        let gone = self.seats.remove(join_id)?;
        if gone.exchange {
            self.exchanges -= 1;
        } else if self.exchanges > 0
            && let Some(newer) =
                self.seats.values_mut().find(|seat| seat.exchange && seat.is_of(&gone.room, &gone.identity))
        {
            newer.exchange = false;
            self.exchanges -= 1;
        }
        Some(gone)
    }

    /// Releases the seats whose reservations have expired; returns their joins.
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

    /// When the next reservation expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Seats taken or reserved; a seat and the one given in exchange for it count once.
    pub fn used(&self) -> u32 {
        u32::try_from(self.seats.len()).unwrap_or(u32::MAX).saturating_sub(self.exchanges)
    }

    /// Seats taken or reserved by one room.
    pub fn used_by(&self, room: &str) -> u32 {
        u32::try_from(self.seats.values().filter(|seat| seat.room == room).count()).unwrap_or(u32::MAX)
    }

    /// Seats of the node.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Changes the number of seats. No participant is removed: while more seats are used than there are,
    /// no new participant is admitted.
    pub fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// Starts or stops draining. A draining node admits no new participants.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Is the node draining?
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Connected participants of each room, by its key.
    pub fn taken_by_room(&self) -> BTreeMap<String, u32> {
        let mut rooms: BTreeMap<String, u32> = BTreeMap::new();
        for seat in self.seats.values().filter(|seat| seat.expires.is_none()) {
            *rooms.entry(seat.room.clone()).or_default() += 1;
        }
        rooms
    }

    /// Seats that are reserved for participants who have not connected yet.
    pub fn reserved(&self) -> u32 {
        u32::try_from(self.deadlines.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[path = "seat_book_tests.rs"]
mod tests;
