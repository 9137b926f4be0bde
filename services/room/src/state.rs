//! One node's copy of a room.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::check::check;
use crate::digest::{OwnerDigest, StateDigest};
use crate::error::{LocalError, MergeError};
use crate::limits::{MAX_AHEAD_MS, MAX_CARRIED_MS, MAX_GATEWAY_AHEAD_MS, MAX_PARTICIPANTS};
use crate::metadata::MetadataRegister;
use crate::owned_records::{OwnedRecords, Presence, StoredRecord, Touched};
use crate::update::{Change, Participant, ParticipantRecord, RecordState, Update};
use crate::version::ParticipantVersion;
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
    owners: BTreeMap<NodeId, OwnedRecords>,
    owner_of: FxHashMap<Sid, NodeId>,
    sids: BTreeMap<Identity, BTreeSet<Sid>>,
    register: MetadataRegister,
    /// The greatest join epoch that was ever visible here.
    latest_epoch: u64,
}

/// The stay of an identity that a copy shows.
type Visible = Option<(Sid, ParticipantVersion)>;

impl RoomState {
    /// An empty copy on this node. `incarnation` must be greater than at any earlier time when the
    /// node carried the room: its time of start will do.
    pub fn new(node: impl Into<NodeId>, incarnation: u64) -> Self {
        let node = node.into();
        let register = MetadataRegister::new(node.clone(), incarnation);
        let owners = BTreeMap::from([(node.clone(), OwnedRecords::new(incarnation))]);
        Self {
            node,
            incarnation,
            seq: 0,
            owners,
            owner_of: FxHashMap::default(),
            sids: BTreeMap::new(),
            register,
            latest_epoch: 0,
        }
    }

    /// This node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A join epoch that wins against every join of this identity known here, and against `gateway_join`,
    /// the last one that the participant's front door knows of: this node may not be linked yet with
    /// the one where that was. It is this node's time, carried ahead by what it saw (a Lamport clock),
    /// so that a node whose clock is behind does not lose people against their own older joins.
    ///
    /// Two joins of one identity on nodes of which neither, nor a front door of theirs, can know of the
    /// other are ordered by the clocks alone.
    pub fn next_epoch(&self, identity: &str, gateway_join: u64, now_ms: u64) -> u64 {
        let within = |epoch: u64, ahead: u64| epoch.min(now_ms.saturating_add(ahead));
        let known = self.last_join(identity).unwrap_or_default();
        let last = known
            .max(within(self.latest_epoch, MAX_CARRIED_MS))
            .max(within(gateway_join, MAX_GATEWAY_AHEAD_MS));
        now_ms.max(last.saturating_add(1))
    }

    /// The greatest join epoch of this identity that is remembered here, also of one that left.
    pub fn last_join(&self, identity: &str) -> Option<u64> {
        let sids = self.sids.get(identity)?;
        sids.iter().filter_map(|sid| self.held(sid)).map(|held| held.version.epoch).max()
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
        if self.owners.get(&self.node).is_some_and(OwnedRecords::is_full) {
            return Err(MergeError::TooMany { from: self.node.clone() }.into());
        }
        let version = ParticipantVersion { epoch, counter: 0 };
        self.write(ParticipantRecord {
            sid,
            identity: identity.into(),
            version,
            state: RecordState::Live(body),
        })
    }

    /// A participant of this node has a new state.
    pub fn local_update(&mut self, sid: &str, body: Bytes) -> Result<(Update, Vec<Change>), LocalError> {
        let record = self.next_record(sid, RecordState::Live(body))?;
        self.write(record)
    }

    /// A participant of this node has left.
    pub fn local_remove(&mut self, sid: &str) -> Result<(Update, Vec<Change>), LocalError> {
        let record = self.next_record(sid, RecordState::Removed)?;
        self.write(record)
    }

    /// The version that the next write of a participant of this node will have.
    pub fn next_version(&self, sid: &str) -> Option<ParticipantVersion> {
        self.own_live(sid).map(|held| incremented(held.version))
    }

    /// Takes what another node sent. `from` is the node that the link has authenticated, `now_ms` the
    /// time here: what bears a time too far ahead of it would win for ever, and is refused.
    pub fn apply(&mut self, from: &str, update: Update, now_ms: u64) -> Result<Vec<Change>, MergeError> {
        if update.latest() > now_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(MergeError::FromTheFuture { from: from.to_owned() });
        }
        match update {
            Update::Participant { owner, incarnation, seq, record } => {
                self.check_update(from, &owner, std::slice::from_ref(&record))?;
                let full = self.owners.get(from).is_some_and(|o| {
                    o.incarnation == incarnation && o.is_full() && o.get(&record.sid).is_none()
                });
                if full && matches!(record.state, RecordState::Live(_)) {
                    return Err(MergeError::TooMany { from: owner });
                }
                self.latest_epoch = self.latest_epoch.max(record.version.epoch);
                Ok(self.merge_one(&owner, incarnation, seq, record))
            }
            Update::Snapshot { owner, incarnation, seq, records } => {
                let live = records.iter().filter(|r| matches!(r.state, RecordState::Live(_))).count();
                if live > MAX_PARTICIPANTS {
                    return Err(MergeError::TooMany { from: from.to_owned() });
                }
                self.check_update(from, &owner, &records)?;
                let mut identities = self.identities_of(&owner);
                identities.extend(records.iter().map(|record| record.identity.clone()));
                self.latest_epoch =
                    records.iter().map(|record| record.version.epoch).fold(self.latest_epoch, u64::max);
                Ok(self.merge(&owner, incarnation, identities, |owner| owner.replace(seq, records)))
            }
            Update::Metadata { home, version, value } => {
                Ok(self.register.apply(from, &home, version, value)?.into_iter().collect())
            }
        }
    }

    /// A node of the room is away: nobody on it can be visible. It is not forgotten: what it says
    /// when it comes back counts, unless it is older than what was known.
    pub fn lose_node(&mut self, node: &str) -> Vec<Change> {
        if node == self.node {
            return Vec::new();
        }
        let Some(incarnation) = self.owners.get(node).map(|owner| owner.incarnation) else {
            return Vec::new();
        };
        self.merge(node, incarnation, self.identities_of(node), OwnedRecords::mark_lost)
    }

    /// All that this node has to say, for a node that joins the room or missed something.
    pub fn snapshot(&self) -> Vec<Update> {
        let records = self.owners.get(&self.node).map(OwnedRecords::records).unwrap_or_default();
        let own = Update::Snapshot {
            owner: self.node.clone(),
            incarnation: self.incarnation,
            seq: self.seq,
            records,
        };
        std::iter::once(own).chain(self.register.restate()).collect()
    }

    /// A short account of what this copy holds.
    pub fn digest(&self) -> StateDigest {
        let owners = self.owners.iter().map(|(node, owner)| (node.clone(), OwnerDigest::of(owner))).collect();
        StateDigest { owners, metadata: self.register.version() }
    }

    /// Does a copy with this digest lack something that this node has to say? Then it needs the
    /// [`snapshot`](Self::snapshot).
    pub fn must_resync(&self, theirs: &StateDigest) -> bool {
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
        self.sids.keys().filter_map(|identity| self.by_identity(identity))
    }

    /// The participant with this identity.
    pub fn by_identity(&self, identity: &str) -> Option<Participant> {
        let (sid, _) = self.visible(identity)?;
        self.participant(&sid)
    }

    /// The participant with this id, unless it has left or lost against a newer join.
    pub fn by_sid(&self, sid: &str) -> Option<Participant> {
        let found = self.participant(sid)?;
        self.visible(&found.identity).is_some_and(|(visible, _)| visible == sid).then_some(found)
    }

    /// Nodes that this copy has heard of, itself included.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.owners.keys().map(|node| &**node)
    }

    /// Refuses what breaks the rules, before anything is changed.
    fn check_update(&self, from: &str, owner: &str, records: &[ParticipantRecord]) -> Result<(), MergeError> {
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

    fn next_record(&self, sid: &str, state: RecordState) -> Result<ParticipantRecord, LocalError> {
        let held = self.own_live(sid).ok_or_else(|| LocalError::NotHere(sid.to_owned()))?;
        let (identity, version) = (held.identity.clone(), incremented(held.version));
        Ok(ParticipantRecord { sid: sid.to_owned(), identity, version, state })
    }

    fn write(&mut self, record: ParticipantRecord) -> Result<(Update, Vec<Change>), LocalError> {
        check(&record)?;
        self.latest_epoch = self.latest_epoch.max(record.version.epoch);
        let update = self.number_write(record.clone());
        let me = self.node.clone();
        let changes = self.merge_one(&me, self.incarnation, self.seq, record);
        Ok((update, changes))
    }

    fn merge_one(
        &mut self,
        node: &str,
        incarnation: u64,
        seq: u64,
        record: ParticipantRecord,
    ) -> Vec<Change> {
        self.merge(node, incarnation, BTreeSet::from([record.identity.clone()]), |owner| {
            let key = (record.sid.clone(), record.identity.clone());
            if owner.merge(seq, record) { vec![key] } else { Touched::new() }
        })
    }

    fn number_write(&mut self, record: ParticipantRecord) -> Update {
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
        change: impl FnOnce(&mut OwnedRecords) -> Touched,
    ) -> Vec<Change> {
        let known = self.owners.get(node).map_or(incarnation, |owner| owner.incarnation);
        if incarnation < known {
            return Vec::new();
        }
        if incarnation > known {
            identities.extend(self.identities_of(node));
        }
        let before: Vec<(Identity, Visible)> =
            identities.into_iter().map(|identity| (identity.clone(), self.visible(&identity))).collect();

        let mut owner = self.owners.remove(node).unwrap_or_else(|| OwnedRecords::new(incarnation));
        let mut touched = Touched::new();
        if incarnation > known {
            touched = std::mem::replace(&mut owner, OwnedRecords::new(incarnation)).into_touched();
        }
        touched.extend(change(&mut owner));
        touched.extend(owner.drop_old_tombstones());
        for (sid, identity) in touched {
            self.index(node, sid, identity, &owner);
        }
        self.owners.insert(node.to_owned(), owner);

        let mut changes = Vec::new();
        for (identity, before) in before {
            self.push_changes(&identity, before, &mut changes);
            self.evict(&identity, &mut changes);
        }
        changes
    }

    fn identities_of(&self, node: &str) -> BTreeSet<Identity> {
        self.owners.get(node).into_iter().flat_map(OwnedRecords::identities).cloned().collect()
    }

    fn index(&mut self, node: &str, sid: Sid, identity: Identity, owner: &OwnedRecords) {
        if owner.get(&sid).is_some() {
            self.sids.entry(identity).or_default().insert(sid.clone());
            self.owner_of.insert(sid, node.to_owned());
        } else {
            self.owner_of.remove(&sid);
            if let Some(sids) = self.sids.get_mut(&identity) {
                sids.remove(&sid);
                if sids.is_empty() {
                    self.sids.remove(&identity);
                }
            }
        }
    }

    fn push_changes(&self, identity: &str, before: Visible, changes: &mut Vec<Change>) {
        let after = self.visible(identity);
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

    /// Ends this node's sids of an identity that are not the one every copy shows.
    fn evict(&mut self, identity: &str, changes: &mut Vec<Change>) {
        let Some(winner) = self.latest_join(identity).map(|(sid, _)| sid.clone()) else { return };
        let losers: Vec<Sid> = self
            .sids
            .get(identity)
            .into_iter()
            .flatten()
            .filter(|sid| **sid != winner && self.own_live(sid).is_some())
            .cloned()
            .collect();
        for sid in losers {
            let Ok(record) = self.next_record(&sid, RecordState::Removed) else { continue };
            let tombstone = self.number_write(record.clone());
            let seq = self.seq;
            if let Some(own) = self.owners.get_mut(&self.node) {
                own.merge(seq, record);
            }
            let identity = identity.to_owned();
            changes.push(Change::Evicted { sid, identity, winner: winner.clone(), tombstone });
        }
    }

    fn held(&self, sid: &str) -> Option<&StoredRecord> {
        self.owners.get(self.owner_of.get(sid)?)?.get(sid)
    }

    fn own_live(&self, sid: &str) -> Option<&StoredRecord> {
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
    fn visible(&self, identity: &str) -> Visible {
        let (sid, held) = self.latest_join(identity)?;
        matches!(held.presence, Presence::Live(_)).then(|| (sid.clone(), held.version))
    }

    /// The stay with the greatest (join epoch, id). One that has ended since counts too: whoever came
    /// back and left does not turn into what a dead node last said of them. One whose node is away
    /// does not count.
    fn latest_join(&self, identity: &str) -> Option<(&Sid, &StoredRecord)> {
        let sids = self.sids.get(identity)?;
        sids.iter()
            .filter_map(|sid| Some((sid, self.held(sid)?)))
            .filter(|(_, held)| !matches!(held.presence, Presence::Lost))
            .max_by(|(a_sid, a), (b_sid, b)| (a.version.epoch, a_sid).cmp(&(b.version.epoch, b_sid)))
    }
}

fn incremented(version: ParticipantVersion) -> ParticipantVersion {
    ParticipantVersion { counter: version.counter.saturating_add(1), ..version }
}

#[cfg(test)]
#[path = "convergence_tests.rs"]
mod convergence;
#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
