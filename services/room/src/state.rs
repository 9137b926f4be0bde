//! One node's copy of a room.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::check::check;
use crate::digest::{Digest, OwnerDigest};
use crate::error::{LocalError, MergeError};
use crate::limits::{MAX_AHEAD_MS, MAX_CARRIED_MS, MAX_LENT_MS, MAX_PARTICIPANTS};
use crate::metadata::Register;
use crate::owner::{Held, Owner, Presence, Touched};
use crate::update::{Change, Participant, Record, RecordState, Update};
use crate::version::Version;
use crate::{Identity, NodeId, Sid};

/// The room as one of its nodes knows it.
///
/// Of several live participants with one identity, on any nodes, every copy shows only the one
/// with the greatest (join epoch, id); each loser's own node evicts it and says so by a tombstone.
#[derive(Debug)]
pub struct RoomState {
    node: NodeId,
    incarnation: u64,
    seq: u64,
    owners: BTreeMap<NodeId, Owner>,
    owner_of: FxHashMap<Sid, NodeId>,
    stays: BTreeMap<Identity, BTreeSet<Sid>>,
    register: Register,
    /// The greatest join epoch that was ever seen here.
    latest: u64,
}

/// The stay of an identity that a copy shows.
type Seen = Option<(Sid, Version)>;

impl RoomState {
    /// An empty copy on this node. `incarnation` must be greater than at any earlier time when the
    /// node carried the room: its time of start will do.
    pub fn new(node: impl Into<NodeId>, incarnation: u64) -> Self {
        let node = node.into();
        let register = Register::new(node.clone(), incarnation);
        let owners = BTreeMap::from([(node.clone(), Owner::new(incarnation))]);
        Self {
            node,
            incarnation,
            seq: 0,
            owners,
            owner_of: FxHashMap::default(),
            stays: BTreeMap::new(),
            register,
            latest: 0,
        }
    }

    /// This node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A join epoch that wins against every join of this identity known here, and against `lent`,
    /// the last one that the participant's front door knows of: this node may not be linked yet with
    /// the one where that was. It is this node's time, carried ahead by what it saw (a Lamport clock),
    /// so that a node whose clock is behind does not lose people against their own older joins.
    ///
    /// Two joins of one identity on nodes of which neither, nor a front door of theirs, can know of the
    /// other are ordered by the clocks alone.
    pub fn next_epoch(&self, identity: &str, lent: u64, now_ms: u64) -> u64 {
        let within = |epoch: u64, ahead: u64| epoch.min(now_ms.saturating_add(ahead));
        let known = self.last_join(identity).unwrap_or_default();
        let last = known.max(within(self.latest, MAX_CARRIED_MS)).max(within(lent, MAX_LENT_MS));
        now_ms.max(last.saturating_add(1))
    }

    /// The greatest join epoch of this identity that is remembered here, also of one that left.
    pub fn last_join(&self, identity: &str) -> Option<u64> {
        let stays = self.stays.get(identity)?;
        stays.iter().filter_map(|sid| self.held(sid)).map(|held| held.version.epoch).max()
    }

    /// A participant has joined on this node. Send the update to every other node of the room.
    pub fn local_join(
        &mut self,
        sid: impl Into<Sid>,
        identity: impl Into<Identity>,
        epoch: u64,
        body: Bytes,
    ) -> Result<(Update, Vec<Change>), LocalError> {
        let sid = sid.into();
        if self.owner_of.contains_key(&sid) {
            return Err(LocalError::SidTaken(sid));
        }
        if self.owners.get(&self.node).is_some_and(Owner::is_full) {
            return Err(MergeError::TooMany { from: self.node.clone() }.into());
        }
        let version = Version { epoch, counter: 0 };
        self.write(Record { sid, identity: identity.into(), version, state: RecordState::Live(body) })
    }

    /// A participant of this node has a new state.
    pub fn local_update(&mut self, sid: &str, body: Bytes) -> Result<(Update, Vec<Change>), LocalError> {
        let record = self.successor(sid, RecordState::Live(body))?;
        self.write(record)
    }

    /// A participant of this node has left.
    pub fn local_remove(&mut self, sid: &str) -> Result<(Update, Vec<Change>), LocalError> {
        let record = self.successor(sid, RecordState::Removed)?;
        self.write(record)
    }

    /// The version that the next write of a participant of this node will have.
    pub fn next_version(&self, sid: &str) -> Option<Version> {
        self.own_live(sid).map(|held| bump(held.version))
    }

    /// Takes what another node sent. `from` is the node that the link has authenticated, `now_ms` the
    /// time here: what bears a time too far ahead of it would win for ever, and is refused.
    pub fn apply(&mut self, from: &str, update: Update, now_ms: u64) -> Result<Vec<Change>, MergeError> {
        if update.latest() > now_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(MergeError::FromTheFuture { from: from.to_owned() });
        }
        match update {
            Update::Participant { owner, incarnation, seq, record } => {
                self.admit(from, &owner, std::slice::from_ref(&record))?;
                let full = self.owners.get(from).is_some_and(|o| {
                    o.incarnation == incarnation && o.is_full() && o.get(&record.sid).is_none()
                });
                if full && matches!(record.state, RecordState::Live(_)) {
                    return Err(MergeError::TooMany { from: owner });
                }
                self.latest = self.latest.max(record.version.epoch);
                Ok(self.merge_one(&owner, incarnation, seq, record))
            }
            Update::Snapshot { owner, incarnation, seq, records } => {
                let live = records.iter().filter(|r| matches!(r.state, RecordState::Live(_))).count();
                if live > MAX_PARTICIPANTS {
                    return Err(MergeError::TooMany { from: from.to_owned() });
                }
                self.admit(from, &owner, &records)?;
                let mut identities = self.identities_of(&owner);
                identities.extend(records.iter().map(|record| record.identity.clone()));
                self.latest = records.iter().map(|record| record.version.epoch).fold(self.latest, u64::max);
                Ok(self.merge(&owner, incarnation, identities, |owner| owner.replace(seq, records)))
            }
            Update::Metadata { home, version, value } => {
                Ok(self.register.apply(from, &home, version, value)?.into_iter().collect())
            }
        }
    }

    /// A node of the room is away: nobody on it can be seen. It is not forgotten: what it says
    /// when it comes back counts, unless it is older than what was known.
    pub fn node_gone(&mut self, node: &str) -> Vec<Change> {
        if node == self.node {
            return Vec::new();
        }
        let Some(incarnation) = self.owners.get(node).map(|owner| owner.incarnation) else {
            return Vec::new();
        };
        self.merge(node, incarnation, self.identities_of(node), Owner::lose)
    }

    /// All that this node has to say, for a node that joins the room or missed something.
    pub fn snapshot(&self) -> Vec<Update> {
        let records = self.owners.get(&self.node).map(Owner::records).unwrap_or_default();
        let own = Update::Snapshot {
            owner: self.node.clone(),
            incarnation: self.incarnation,
            seq: self.seq,
            records,
        };
        std::iter::once(own).chain(self.register.restate()).collect()
    }

    /// A short account of what this copy holds.
    pub fn digest(&self) -> Digest {
        let owners = self.owners.iter().map(|(node, owner)| (node.clone(), OwnerDigest::of(owner))).collect();
        Digest { owners, metadata: self.register.version() }
    }

    /// Does a copy with this digest lack something that this node has to say? Then it needs the
    /// [`snapshot`](Self::snapshot).
    pub fn must_resync(&self, theirs: &Digest) -> bool {
        let mine = self.owners.get(&self.node).map(OwnerDigest::of);
        let metadata = self.register.restate().is_some();
        theirs.owners.get(&self.node).copied() != mine
            || (metadata && theirs.metadata != self.register.version())
    }

    /// Learns from the assignment who is home since which epoch; an older epoch is ignored. A node
    /// that becomes home restates the metadata in its epoch: send that to every other node.
    pub fn set_home(&mut self, home: &str, epoch: u64) -> Option<Update> {
        self.register.set_home(home, epoch)
    }

    /// Who is home, since which epoch.
    pub fn home(&self) -> Option<(&str, u64)> {
        self.register.home()
    }

    /// Home writes the room's metadata. Send the update to every other node.
    pub fn set_metadata(&mut self, value: Bytes) -> Result<Update, LocalError> {
        self.register.write(value)
    }

    /// The room's metadata.
    pub fn metadata(&self) -> Option<&Bytes> {
        self.register.value()
    }

    /// Everyone in the room, by identity.
    pub fn participants(&self) -> impl Iterator<Item = Participant> + '_ {
        self.stays.keys().filter_map(|identity| self.by_identity(identity))
    }

    /// The participant with this identity.
    pub fn by_identity(&self, identity: &str) -> Option<Participant> {
        let (sid, _) = self.seen(identity)?;
        self.participant(&sid)
    }

    /// The participant with this id, unless it has left or lost against a newer join.
    pub fn by_sid(&self, sid: &str) -> Option<Participant> {
        let found = self.participant(sid)?;
        self.seen(&found.identity).is_some_and(|(seen, _)| seen == sid).then_some(found)
    }

    /// Nodes that this copy has heard of, itself included.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.owners.keys().map(|node| &**node)
    }

    /// Refuses what breaks the rules, before anything is changed.
    fn admit(&self, from: &str, owner: &str, records: &[Record]) -> Result<(), MergeError> {
        if owner == self.node || from == self.node {
            return Err(MergeError::OwnName { from: from.to_owned() });
        }
        if from != owner {
            return Err(MergeError::NotOwner { from: from.to_owned(), owner: owner.to_owned() });
        }
        for record in records {
            check(record)?;
            let (from, sid) = (from.to_owned(), record.sid.clone());
            match self.owner_of.get(&sid) {
                Some(other) if *other != from => {
                    return Err(MergeError::SidTaken { from, sid, owner: other.clone() });
                }
                _ => {}
            }
            if self.held(&sid).is_some_and(|held| {
                held.identity != record.identity || held.version.epoch != record.version.epoch
            }) {
                return Err(MergeError::Rewritten { from, sid });
            }
        }
        Ok(())
    }

    fn successor(&self, sid: &str, state: RecordState) -> Result<Record, LocalError> {
        let held = self.own_live(sid).ok_or_else(|| LocalError::NotHere(sid.to_owned()))?;
        let (identity, version) = (held.identity.clone(), bump(held.version));
        Ok(Record { sid: sid.to_owned(), identity, version, state })
    }

    fn write(&mut self, record: Record) -> Result<(Update, Vec<Change>), LocalError> {
        check(&record)?;
        self.latest = self.latest.max(record.version.epoch);
        let update = self.stamp(record.clone());
        let me = self.node.clone();
        let changes = self.merge_one(&me, self.incarnation, self.seq, record);
        Ok((update, changes))
    }

    fn merge_one(&mut self, node: &str, incarnation: u64, seq: u64, record: Record) -> Vec<Change> {
        self.merge(node, incarnation, BTreeSet::from([record.identity.clone()]), |owner| {
            let key = (record.sid.clone(), record.identity.clone());
            if owner.merge(seq, record) { vec![key] } else { Touched::new() }
        })
    }

    fn stamp(&mut self, record: Record) -> Update {
        self.seq += 1;
        Update::Participant { owner: self.node.clone(), incarnation: self.incarnation, seq: self.seq, record }
    }

    /// Runs one change of an owner's records, which may touch these identities (and, when the owner
    /// has started afresh, all of its own), and tells what it made of the view.
    fn merge(
        &mut self,
        node: &str,
        incarnation: u64,
        mut identities: BTreeSet<Identity>,
        change: impl FnOnce(&mut Owner) -> Touched,
    ) -> Vec<Change> {
        let known = self.owners.get(node).map_or(incarnation, |owner| owner.incarnation);
        if incarnation < known {
            return Vec::new();
        }
        if incarnation > known {
            identities.extend(self.identities_of(node));
        }
        let before: Vec<(Identity, Seen)> =
            identities.into_iter().map(|identity| (identity.clone(), self.seen(&identity))).collect();

        let mut owner = self.owners.remove(node).unwrap_or_else(|| Owner::new(incarnation));
        let mut touched = Touched::new();
        if incarnation > known {
            touched = std::mem::replace(&mut owner, Owner::new(incarnation)).into_touched();
        }
        touched.extend(change(&mut owner));
        touched.extend(owner.bury());
        for (sid, identity) in touched {
            self.index(node, sid, identity, &owner);
        }
        self.owners.insert(node.to_owned(), owner);

        let mut changes = Vec::new();
        for (identity, before) in before {
            self.tell(&identity, before, &mut changes);
            self.evict(&identity, &mut changes);
        }
        changes
    }

    fn identities_of(&self, node: &str) -> BTreeSet<Identity> {
        self.owners.get(node).into_iter().flat_map(Owner::identities).cloned().collect()
    }

    fn index(&mut self, node: &str, sid: Sid, identity: Identity, owner: &Owner) {
        if owner.get(&sid).is_some() {
            self.stays.entry(identity).or_default().insert(sid.clone());
            self.owner_of.insert(sid, node.to_owned());
        } else {
            self.owner_of.remove(&sid);
            if let Some(stays) = self.stays.get_mut(&identity) {
                stays.remove(&sid);
                if stays.is_empty() {
                    self.stays.remove(&identity);
                }
            }
        }
    }

    fn tell(&self, identity: &str, before: Seen, changes: &mut Vec<Change>) {
        let after = self.seen(identity);
        let same = matches!((&before, &after), (Some((a, _)), Some((b, _))) if a == b);
        if before == after {
            return;
        }
        if let Some((sid, _)) = before.filter(|_| !same) {
            changes.push(Change::Left { sid, identity: identity.to_owned() });
        }
        if let Some(participant) = after.and_then(|(sid, _)| self.participant(&sid)) {
            changes.push(if same { Change::Updated(participant) } else { Change::Joined(participant) });
        }
    }

    /// Ends this node's stays of an identity that are not the one every copy shows.
    fn evict(&mut self, identity: &str, changes: &mut Vec<Change>) {
        let Some(winner) = self.latest(identity).map(|(sid, _)| sid.clone()) else { return };
        let losers: Vec<Sid> = self
            .stays
            .get(identity)
            .into_iter()
            .flatten()
            .filter(|sid| **sid != winner && self.own_live(sid).is_some())
            .cloned()
            .collect();
        for sid in losers {
            let Ok(record) = self.successor(&sid, RecordState::Removed) else { continue };
            let tombstone = self.stamp(record.clone());
            let seq = self.seq;
            if let Some(own) = self.owners.get_mut(&self.node) {
                own.merge(seq, record);
            }
            let identity = identity.to_owned();
            changes.push(Change::Evicted { sid, identity, winner: winner.clone(), tombstone });
        }
    }

    fn held(&self, sid: &str) -> Option<&Held> {
        self.owners.get(self.owner_of.get(sid)?)?.get(sid)
    }

    fn own_live(&self, sid: &str) -> Option<&Held> {
        self.owners.get(&self.node)?.get(sid).filter(|held| matches!(held.presence, Presence::Live(_)))
    }

    fn participant(&self, sid: &str) -> Option<Participant> {
        let owner = self.owner_of.get(sid)?;
        let held = self.owners.get(owner)?.get(sid)?;
        let Presence::Live(body) = &held.presence else { return None };
        Some(Participant {
            sid: sid.to_owned(),
            identity: held.identity.clone(),
            owner: owner.clone(),
            version: held.version,
            body: body.clone(),
        })
    }

    /// The latest stay, while it lasts.
    fn seen(&self, identity: &str) -> Seen {
        let (sid, held) = self.latest(identity)?;
        matches!(held.presence, Presence::Live(_)).then(|| (sid.clone(), held.version))
    }

    /// The stay with the greatest (join epoch, id). One that has ended since counts too: whoever came
    /// back and left does not turn into what a dead node last said of them. One whose node is away
    /// does not count.
    fn latest(&self, identity: &str) -> Option<(&Sid, &Held)> {
        let stays = self.stays.get(identity)?;
        stays
            .iter()
            .filter_map(|sid| Some((sid, self.held(sid)?)))
            .filter(|(_, held)| !matches!(held.presence, Presence::Lost))
            .max_by(|(a_sid, a), (b_sid, b)| (a.version.epoch, a_sid).cmp(&(b.version.epoch, b_sid)))
    }
}

fn bump(version: Version) -> Version {
    Version { counter: version.counter.saturating_add(1), ..version }
}

#[cfg(test)]
#[path = "convergence_tests.rs"]
mod convergence;
#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
