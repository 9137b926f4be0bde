//! The grants of one node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use systir_assignment::{Assignment, LAST_EPOCH, MediaRole, RoomId};
use systir_documents::{GrantTerms, MAX_GRANT_LIFE_MS, NodeNoteRefused, SignedGrant, SigningKey};

use crate::carriers::Carriers;
use crate::held::HeldGrant;
use crate::offer::{Circumstances, Offered, judge};
use crate::order::{GrantOrder, GrantTime};
use crate::refusal::GrantRefusal;
use crate::role::GrantRole;

/// The epoch of the first takeover of a room.
const FIRST_SUCCESSOR: u64 = 2;

/// Most rooms whose grants a node holds.
const MAX_ROOMS: usize = 100_000;

/// Most rooms of one other home: it can invent rooms, and must not fill the book.
const MAX_ROOMS_OF_A_HOME: usize = 20_000;

/// How long an ended grant of a room that this node does not carry is kept: it says whom to ask.
const KEPT_AFTER_END: Duration = Duration::from_secs(3600);

/// What a node holds of one room.
#[derive(Debug, Clone)]
struct Entry {
    held: HeldGrant,
    carriers: Carriers,
    created_ms: u64,
    /// Did the home itself name the nodes that carry the room? Then nobody else does.
    named_by_home: bool,
}

/// The grants of one node.
#[derive(Debug)]
pub struct GrantBook {
    me: String,
    /// Life of the grants that this node signs, milliseconds.
    life_ms: u64,
    rooms: HashMap<RoomId, Entry>,
    /// Number of rooms by their home.
    homes: HashMap<String, usize>,
}

impl GrantBook {
    /// Without grants, for the node `me`. `life`: of the grants that it signs, at most [`MAX_GRANT_LIFE_MS`].
    #[must_use]
    pub fn new(me: &str, life: Duration) -> Self {
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(MAX_GRANT_LIFE_MS).min(MAX_GRANT_LIFE_MS);
        Self { me: me.to_owned(), life_ms, rooms: HashMap::new(), homes: HashMap::new() }
    }

    /// The grant that this node holds of the room.
    #[must_use]
    pub fn held(&self, room: &RoomId) -> Option<&HeldGrant> {
        self.rooms.get(room).map(|entry| &entry.held)
    }

    /// The room's assignment: its home by the grant, and the spill nodes that carry the room.
    #[must_use]
    pub fn assignment(&self, room: &RoomId) -> Option<Assignment> {
        let Entry { held, carriers, created_ms, .. } = self.rooms.get(room)?;
        let grant = held.grant();
        let mut since_ms = carriers.since_ms();
        since_ms.entry(grant.home.as_str().into()).or_insert(*created_ms);
        Some(Assignment {
            room: room.clone(),
            sid: grant.sid.clone(),
            home: grant.home.as_str().into(),
            spill: carriers.nodes().filter(|node| *node.as_str() != *grant.home).cloned().collect(),
            epoch: grant.epoch,
            policy_version: grant.terms.policy_version.to_string(),
            created_ms: *created_ms,
            since_ms,
            grant: held.signed.note().to_string(),
        })
    }

    /// The rooms of which a grant is held.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.keys()
    }

    /// Offers a grant of the room. `from` is the node that sent it over its own connection; none when the registry holds
    /// it.
    pub fn offer(
        &mut self,
        room: &RoomId,
        offered: SignedGrant,
        from: Option<&str>,
        circumstances: &Circumstances<'_>,
    ) -> Offered {
        if offered.grant().institution != room.institution || offered.grant().room != room.key() {
            return Offered::Refused(GrantRefusal::OtherRoom);
        }
        if offered.grant().epoch > LAST_EPOCH {
            return Offered::Refused(GrantRefusal::Epoch);
        }
        let entry = self.rooms.get(room);
        let of_home = self.homes.get(&offered.grant().home).copied().unwrap_or_default();
        if entry.is_none() && (self.rooms.len() >= MAX_ROOMS || of_home >= MAX_ROOMS_OF_A_HOME) {
            return Offered::Refused(GrantRefusal::TooMany);
        }
        match judge(&self.me, entry.map(|entry| &entry.held), offered, from, circumstances) {
            Ok(held) => {
                self.hold(room, held);
                Offered::Accepted
            }
            Err(other) => other,
        }
    }

    fn hold(&mut self, room: &RoomId, held: HeldGrant) {
        let Some(entry) = self.rooms.get_mut(room) else {
            let created_ms = held.grant().issued_ms;
            let entry = Entry { held, carriers: Carriers::default(), created_ms, named_by_home: false };
            *self.homes.entry(entry.held.grant().home.clone()).or_default() += 1;
            self.rooms.insert(room.clone(), entry);
            return;
        };
        let (before, after) = (entry.held.grant().home.clone(), held.grant().home.clone());
        if before != after {
            *self.homes.entry(after.clone()).or_default() += 1;
            forget_home(&mut self.homes, &before);
            entry.named_by_home = false;
            // The old home carries the room no longer, unless it says so itself.
            entry.carriers.remove(&before);
            entry.carriers.remove(&after);
        }
        let unlisted: Vec<String> = entry
            .carriers
            .nodes()
            .filter(|node| !held.grant().terms.spill.contains(node.as_str()))
            .map(ToString::to_string)
            .collect();
        for node in unlisted {
            entry.carriers.remove(&node);
        }
        entry.held = held;
    }

    /// May these nodes act in these roles? `standing`: they do so already, and the home cannot be reached; then an ended
    /// grant counts.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        room: &RoomId,
        roles: &[(GrantRole, &str)],
        standing: bool,
        now: Instant,
    ) -> Result<&HeldGrant, GrantRefusal> {
        let held = self.held(room).ok_or(GrantRefusal::None)?;
        if held.has_ended(now) && !standing {
            return Err(GrantRefusal::Ended);
        }
        let grant = held.grant();
        for (role, node) in roles {
            let listed = match role {
                GrantRole::Home => grant.home == *node,
                GrantRole::Spill => grant.terms.spill.contains(*node),
                GrantRole::Gateway => grant.terms.gateways.contains(*node),
            };
            if !listed {
                return Err(GrantRefusal::NotListed { node: (*node).to_owned(), role: *role });
            }
        }
        Ok(held)
    }

    /// The role in which a node may carry the room: home if it is home, else spill node if the grant lists it as one.
    #[must_use]
    pub fn role(&self, room: &RoomId, node: &str) -> Option<MediaRole> {
        let grant = self.held(room)?.grant();
        if grant.home == node {
            Some(MediaRole::Home)
        } else {
            grant.terms.spill.contains(node).then_some(MediaRole::Spill)
        }
    }

    /// A spill node carries the room from now on. True when that is news. A node that the grant does not list is not
    /// added.
    pub fn add_carrier(&mut self, room: &RoomId, node: &str, now_ms: u64) -> bool {
        let Some(entry) = self.rooms.get_mut(room) else { return false };
        let grant = entry.held.grant();
        grant.home != node && grant.terms.spill.contains(node) && entry.carriers.add(node, now_ms)
    }

    /// A spill node carries the room no longer. True when that is news.
    pub fn remove_carrier(&mut self, room: &RoomId, node: &str) -> bool {
        self.rooms.get_mut(room).is_some_and(|entry| entry.carriers.remove(node))
    }

    /// The room's home names the spill nodes that carry it, over its own connection. True when something changed. Ignored
    /// when `from` is not the home.
    pub fn home_named(
        &mut self,
        room: &RoomId,
        from: &str,
        spill: &[(String, u64)],
        created_ms: u64,
    ) -> bool {
        let me = self.me.clone();
        let Some(entry) = self.rooms.get_mut(room) else { return false };
        if entry.held.grant().home != from || from == me {
            return false;
        }
        entry.named_by_home = true;
        entry.created_ms = created_ms;
        Self::replace(entry, spill, &me)
    }

    /// The registry's record names the spill nodes that carry the room. It counts as a hint, while neither this node nor
    /// the home itself knows better. True when something changed.
    pub fn record_named(
        &mut self,
        room: &RoomId,
        home: &str,
        spill: &[(String, u64)],
        created_ms: u64,
    ) -> bool {
        let me = self.me.clone();
        let Some(entry) = self.rooms.get_mut(room) else { return false };
        if entry.held.grant().home != home || entry.held.own || entry.named_by_home {
            return false;
        }
        entry.created_ms = created_ms;
        Self::replace(entry, spill, &me)
    }

    fn replace(entry: &mut Entry, spill: &[(String, u64)], me: &str) -> bool {
        let grant = entry.held.grant();
        let listed: Vec<(String, u64)> =
            spill.iter().filter(|(node, _)| grant.terms.spill.contains(node)).cloned().collect();
        entry.carriers.replace(&listed, me)
    }

    /// Signs the first grant of a room, with this node as home. Not held until [`GrantBook::adopt`].
    ///
    /// # Errors
    /// When the terms cannot be signed, for example because they do not list this node as a possible home.
    pub fn first(
        &self,
        room: &RoomId,
        sid: String,
        terms: GrantTerms,
        key: &SigningKey,
        now: GrantTime,
    ) -> Result<SignedGrant, NodeNoteRefused> {
        let order = GrantOrder {
            institution: &room.institution,
            room: room.key(),
            sid,
            epoch: 1,
            serial: 1,
            home: &self.me,
            successor_of: None,
            life_ms: self.life_ms,
        };
        SignedGrant::sign(order.grant(terms, now), key)
    }

    /// Signs the next grant of a room, with this node as home, after the one that is held; in an epoch after `after`.
    /// Not held until [`GrantBook::adopt`]. If this process signed the one that is held, it is renewed; else a new epoch
    /// begins: this node takes over, or was restarted.
    ///
    /// # Errors
    /// When no grant is held, or the terms cannot be signed.
    pub fn next(
        &self,
        room: &RoomId,
        after: u64,
        terms: GrantTerms,
        key: &SigningKey,
        now: GrantTime,
    ) -> Result<SignedGrant, NextGrantError> {
        let held = self.held(room).ok_or(GrantRefusal::None)?;
        let known = held.grant();
        let renews = held.own && after < known.epoch;
        let before =
            if known.home == self.me { known.successor_of.clone() } else { Some(known.home.clone()) };
        let order = GrantOrder {
            institution: &room.institution,
            room: room.key(),
            sid: known.sid.clone(),
            epoch: if renews { known.epoch } else { next_epoch(known.epoch.max(after)) },
            serial: if renews { known.serial.saturating_add(1) } else { 1 },
            home: &self.me,
            successor_of: before,
            life_ms: self.life_ms,
        };
        Ok(SignedGrant::sign(order.grant(terms, now), key)?)
    }

    /// Holds a grant that this node has just signed.
    pub fn adopt(&mut self, room: &RoomId, signed: SignedGrant, now: GrantTime) {
        let held = HeldGrant::own(signed, self.held(room), now);
        self.hold(room, held);
    }

    /// Must this node, as home, sign the room's grant anew: it is half over, this process did not sign it, or the terms
    /// have changed?
    #[must_use]
    pub fn must_renew(&self, room: &RoomId, terms: &GrantTerms, now: Instant) -> bool {
        self.held(room).is_some_and(|held| {
            held.grant().home == self.me
                && (!held.own || held.is_half_over(now) || held.grant().terms != *terms)
        })
    }

    /// Forgets a room.
    pub fn forget(&mut self, room: &RoomId) {
        if let Some(entry) = self.rooms.remove(room) {
            forget_home(&mut self.homes, &entry.held.grant().home);
        }
    }

    /// Forgets grants that ended long ago, of rooms that this node does not carry. Returns these rooms.
    pub fn prune(&mut self, now: Instant, carries: impl Fn(&RoomId) -> bool) -> Vec<RoomId> {
        let (homes, mut forgotten) = (&mut self.homes, Vec::new());
        self.rooms.retain(|room, entry| {
            let kept = now < entry.held.ends + KEPT_AFTER_END || carries(room);
            if !kept {
                forget_home(homes, &entry.held.grant().home);
                forgotten.push(room.clone());
            }
            kept
        });
        forgotten
    }
}

/// One room less has this home.
fn forget_home(homes: &mut HashMap<String, usize>, home: &str) {
    if let Some(rooms) = homes.get_mut(home) {
        *rooms = rooms.saturating_sub(1);
        if *rooms == 0 {
            homes.remove(home);
        }
    }
}

/// The epoch after another one. Only a hostile home signs the last one; once policy denies it, all follow its successor in
/// any epoch.
fn next_epoch(epoch: u64) -> u64 {
    if epoch < LAST_EPOCH { epoch + 1 } else { FIRST_SUCCESSOR }
}

/// Why no next grant can be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NextGrantError {
    /// None is held.
    #[error(transparent)]
    Held(#[from] GrantRefusal),
    /// It cannot be signed.
    #[error(transparent)]
    Sign(#[from] NodeNoteRefused),
}
