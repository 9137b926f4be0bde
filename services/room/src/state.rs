//! One node's replica of the state of a room.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::check::check;
use crate::error::{LocalError, MergeError};
use crate::limits::{MAX_AHEAD_MS, MAX_PARTICIPANTS, MAX_RECORDS};
use crate::metadata::MetadataRegister;
use crate::owned_records::{OwnedRecords, Presence, StoredRecord, Touched};
use crate::replica_totals::ReplicaTotals;
use crate::update::{Applied, Change, Participant, ParticipantRecord, RecordState, Update};
use crate::version::ParticipantVersion;
use crate::{Identity, NodeName, Sid};

/// The state of a room as one of its nodes knows it.
///
/// Of several live participants with one identity, on any nodes, each replica shows only the one with the
/// greatest (join number, participant id). The nodes of the others evict them and send tombstones.
#[derive(Debug)]
pub struct RoomState {
    node: NodeName,
    incarnation: u64,
    seq: u64,
    owners: BTreeMap<NodeName, OwnedRecords>,
    owner_of: FxHashMap<Sid, NodeName>,
    sids: BTreeMap<Identity, BTreeSet<Sid>>,
    register: MetadataRegister,
    /// Nodes to which a link has opened, and whose snapshot over it is still awaited.
    announcing: BTreeSet<NodeName>,
    /// What all rooms store of other nodes.
    totals: Arc<ReplicaTotals>,
}

/// The participant that the replica shows for an identity, and its body.
type Visible = Option<(Sid, Bytes)>;

impl RoomState {
    /// An empty replica on this node. `incarnation` must differ from that of any earlier replica of the room
    /// on this node, so it should be random.
    pub fn new(node: impl Into<NodeName>, incarnation: u64) -> Self {
        Self::with_totals(node, incarnation, Arc::default())
    }

    /// The same, as one of several rooms whose replicas are bounded together for each other node.
    pub fn with_totals(node: impl Into<NodeName>, incarnation: u64, totals: Arc<ReplicaTotals>) -> Self {
        let node = node.into();
        let register = MetadataRegister::new(node.clone(), incarnation);
        let owners = BTreeMap::from([(node.clone(), OwnedRecords::new(incarnation, Arc::default()))]);
        Self {
            node,
            incarnation,
            seq: 0,
            owners,
            owner_of: FxHashMap::default(),
            sids: BTreeMap::new(),
            register,
            announcing: BTreeSet::new(),
            totals,
        }
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The greatest join number of this identity that this replica holds, tombstones included.
    pub fn last_join(&self, identity: &str) -> Option<u64> {
        let sids = self.sids.get(identity)?;
        sids.iter().filter_map(|sid| self.stored(sid)).map(|stored| stored.version.epoch).max()
    }

    /// Writes the join of a participant on this node. `ticket` is opaque here, as the body is: the room core checks
    /// tickets. Send the update to all other nodes of the room.
    ///
    /// # Errors
    /// When the id was used before or a limit is exceeded.
    pub fn local_join(
        &mut self,
        sid: impl Into<Sid>,
        identity: impl Into<Identity>,
        epoch: u64,
        body: Bytes,
        ticket: Bytes,
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
            ticket: Some(ticket),
        })
    }

    /// Writes a new state of a participant of this node. Send the update to all other nodes of the room.
    ///
    /// # Errors
    /// When no live participant of this node has the id, or the body is too large.
    pub fn local_update(&mut self, sid: &str, body: Bytes) -> Result<(Update, Vec<Change>), LocalError> {
        let record = self.next_record(sid, RecordState::Live(body))?;
        self.write(record)
    }

    /// Writes a new state of a participant of this node with a renewed ticket. Send the update to all other nodes of the
    /// room.
    ///
    /// # Errors
    /// When no live participant of this node has the id, or the body is too large.
    pub fn local_renewal(
        &mut self,
        sid: &str,
        body: Bytes,
        ticket: Bytes,
    ) -> Result<(Update, Vec<Change>), LocalError> {
        let record = self.next_record(sid, RecordState::Live(body))?;
        self.write(ParticipantRecord { ticket: Some(ticket), ..record })
    }

    /// Removes a participant of this node. Send the update to all other nodes of the room.
    ///
    /// # Errors
    /// When no live participant of this node has the id.
    pub fn local_remove(&mut self, sid: &str) -> Result<(Update, Vec<Change>), LocalError> {
        let record = self.next_record(sid, RecordState::Removed)?;
        self.write(record)
    }

    /// The version of the next write of a participant of this node.
    pub fn next_version(&self, sid: &str) -> Option<ParticipantVersion> {
        self.own_live(sid).map(|stored| incremented(stored.version))
    }

    /// The room opened on the link to a node. Its next snapshot announces its incarnation, whatever this
    /// replica knew: messages on a link are in order, so the snapshot is of the node's present replica.
    pub fn link_opened(&mut self, node: &str) {
        self.announcing.insert(node.to_owned());
    }

    /// Is an update of this incarnation of an earlier or unannounced replica of its owner?
    fn is_foreign(&self, owner: &str, incarnation: u64) -> bool {
        self.owners.get(owner).is_some_and(|known| known.incarnation != incarnation)
    }

    /// Applies an update from another node. `from` is the node that the link authenticated. `now_ms` is the
    /// time on this node: a record with a join number too far ahead would win for ever, so it is refused.
    ///
    /// # Errors
    /// Why the whole update changes nothing. A snapshot is applied without the records that are refused: one such record
    /// must not hide all other participants of its node.
    pub fn apply(&mut self, from: &str, update: Update, now_ms: u64) -> Result<Applied, MergeError> {
        match update {
            Update::Participant { owner, incarnation, seq, record } => {
                self.check_owner(from, &owner)?;
                self.check_record(from, &record, now_ms)?;
                if self.is_foreign(&owner, incarnation) {
                    return Ok(Applied::default());
                }
                let full = self.owners.get(from).is_some_and(|o| o.is_full() && o.get(&record.sid).is_none());
                if full && matches!(record.state, RecordState::Live(_)) {
                    return Err(MergeError::TooMany { from: owner });
                }
                let nothing = || OwnedRecords::new(incarnation, self.totals.of(from));
                let too_much = match self.owners.get(from) {
                    Some(known) => known.is_too_much(&record),
                    None => nothing().is_too_much(&record),
                };
                if too_much {
                    return Err(MergeError::TooMuch { from: owner });
                }
                Ok(self.merge_one(&owner, incarnation, seq, record).into())
            }
            Update::Snapshot { owner, incarnation, seq, mut records } => {
                self.check_owner(from, &owner)?;
                let live = records.iter().filter(|r| matches!(r.state, RecordState::Live(_))).count();
                if live > MAX_PARTICIPANTS || records.len() > MAX_RECORDS {
                    return Err(MergeError::TooMany { from: from.to_owned() });
                }
                let nothing = || OwnedRecords::new(incarnation, self.totals.of(&owner));
                let too_much = match self.owners.get(&owner) {
                    Some(known) => known.is_snapshot_too_much(&records),
                    None => nothing().is_snapshot_too_much(&records),
                };
                if too_much {
                    return Err(MergeError::TooMuch { from: from.to_owned() });
                }
                let announced = self.announcing.remove(&owner);
                if self.is_foreign(&owner, incarnation) && !announced {
                    return Ok(Applied::default());
                }
                let refused = self.refuse_records(from, &mut records, now_ms);
                let mut identities = self.identities_of(&owner);
                let accepted = records.iter().filter(|record| record.state != RecordState::Refused);
                identities.extend(accepted.map(|record| record.identity.clone()));
                let changes =
                    self.merge(&owner, incarnation, identities, |owner| owner.replace(seq, records));
                Ok(Applied { changes, refused })
            }
            Update::Metadata { home, version, value } => {
                if self.is_foreign(&home, version.incarnation) {
                    return Ok(Applied::default());
                }
                let changed = self.register.apply(from, &home, version, value)?;
                Ok(changed.into_iter().collect::<Vec<_>>().into())
            }
        }
    }

    /// Removes the participants of an unreachable node from view. Their versions are kept: when the node
    /// returns, its updates are applied unless they are older.
    pub fn lose_node(&mut self, node: &str) -> Vec<Change> {
        if node == self.node {
            return Vec::new();
        }
        let Some(incarnation) = self.owners.get(node).map(|owner| owner.incarnation) else {
            return Vec::new();
        };
        self.merge(node, incarnation, self.identities_of(node), OwnedRecords::mark_lost)
    }

    /// Removes one participant of another node from view, as [`RoomState::lose_node`] does.
    pub(crate) fn lose_participant(&mut self, node: &str, sid: &str) -> Vec<Change> {
        let Some(owner) = self.owners.get(node).filter(|_| node != self.node) else { return Vec::new() };
        let Some(stored) = owner.get(sid) else { return Vec::new() };
        let (incarnation, identity) = (owner.incarnation, stored.identity.clone());
        self.merge(node, incarnation, BTreeSet::from([identity]), |owner| owner.mark_one_lost(sid))
    }

    /// What this replica has of a node's participant.
    pub(crate) fn presence(&self, node: &str, sid: &str) -> Option<&Presence> {
        Some(&self.owners.get(node)?.get(sid)?.presence)
    }

    /// The participants of a node that have not left, lost ones included.
    pub(crate) fn present(&self, node: &str) -> impl Iterator<Item = &Sid> {
        self.owners.get(node).into_iter().flat_map(OwnedRecords::present)
    }

    /// Is or was there a participant with this id?
    pub(crate) fn knows(&self, sid: &str) -> bool {
        self.owner_of.contains_key(sid)
    }

    /// All writes of this node, for a node that joins the room or missed an update.
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

    /// Sets the home node and its epoch from the assignment; an older epoch is ignored. A node that becomes
    /// home writes the metadata again in its epoch: send the returned update to all other nodes.
    pub fn set_home(&mut self, home: &str, epoch: u64) -> Option<Update> {
        self.register.set_home(home, epoch)
    }

    /// The home node and its epoch.
    pub fn home(&self) -> Option<(&str, u64)> {
        self.register.home()
    }

    /// Writes the room's metadata, on the home node. Send the update to all other nodes.
    ///
    /// # Errors
    /// [`LocalError::NotHome`] on another node; [`LocalError::Limit`] when the value is too large.
    pub fn set_metadata(&mut self, value: Bytes) -> Result<Update, LocalError> {
        self.register.write(value)
    }

    /// The room's metadata.
    pub fn metadata(&self) -> Option<&Bytes> {
        self.register.value()
    }

    /// All participants in the room, ordered by identity.
    pub fn participants(&self) -> impl Iterator<Item = Participant> + '_ {
        self.sids.keys().filter_map(|identity| self.by_identity(identity))
    }

    /// The participant with this identity.
    pub fn by_identity(&self, identity: &str) -> Option<Participant> {
        let (sid, _) = self.visible(identity)?;
        self.participant(&sid)
    }

    /// The participant with this id, unless it has left or a newer join replaced it.
    pub fn by_sid(&self, sid: &str) -> Option<Participant> {
        let found = self.participant(sid)?;
        self.visible(&found.identity).is_some_and(|(visible, _)| visible == sid).then_some(found)
    }

    /// The participants whose identity begins with `prefix`.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Participant> + 'a {
        let from = self.sids.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let found =
            from.map(|(identity, _)| identity).take_while(move |identity| identity.starts_with(prefix));
        found.filter_map(|identity| self.by_identity(identity))
    }

    /// The nodes that this replica has updates from, and this node.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.owners.keys().map(|node| &**node)
    }

    /// Has this node live participants, as far as this replica knows?
    pub(crate) fn has_participants_of(&self, node: &str) -> bool {
        self.owners.get(node).is_some_and(|owner| owner.live().next().is_some())
    }

    /// May the node write participants of this owner?
    fn check_owner(&self, from: &str, owner: &str) -> Result<(), MergeError> {
        if owner == self.node || from == self.node {
            return Err(MergeError::OwnName { from: from.to_owned() });
        }
        if from != owner {
            return Err(MergeError::NotOwner { from: from.to_owned(), owner: owner.to_owned() });
        }
        Ok(())
    }

    /// Marks the records of a snapshot that are not to be applied, before anything is changed. Returns why.
    fn refuse_records(&self, from: &str, records: &mut [ParticipantRecord], now_ms: u64) -> Vec<MergeError> {
        let mut refused = Vec::new();
        for record in records.iter_mut().filter(|record| record.state != RecordState::Refused) {
            if let Err(error) = self.check_record(from, record, now_ms) {
                record.state = RecordState::Refused;
                refused.push(error);
            }
        }
        refused
    }

    /// May the node write this record of a participant?
    fn check_record(&self, from: &str, record: &ParticipantRecord, now_ms: u64) -> Result<(), MergeError> {
        check(record)?;
        let (from, sid) = (from.to_owned(), record.sid.clone());
        if record.version.epoch > now_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(MergeError::FromTheFuture { from });
        }
        if let Some(other) = self.owner_of.get(&sid).filter(|owner| **owner != from) {
            return Err(MergeError::SidTaken { from, sid, owner: other.clone() });
        }
        if self.stored(&sid).is_some_and(|stored| {
            stored.identity != record.identity || stored.version.epoch != record.version.epoch
        }) {
            return Err(MergeError::Rewritten { from, sid });
        }
        Ok(())
    }

    fn next_record(&self, sid: &str, state: RecordState) -> Result<ParticipantRecord, LocalError> {
        let stored = self.own_live(sid).ok_or_else(|| LocalError::NotHere(sid.to_owned()))?;
        let (identity, version) = (stored.identity.clone(), incremented(stored.version));
        Ok(ParticipantRecord { sid: sid.to_owned(), identity, version, state, ticket: None })
    }

    fn write(&mut self, record: ParticipantRecord) -> Result<(Update, Vec<Change>), LocalError> {
        check(&record)?;
        let live = matches!(record.state, RecordState::Live(_));
        if live && self.owners.get(&self.node).is_some_and(|own| own.is_too_much(&record)) {
            return Err(MergeError::TooMuch { from: self.node.clone() }.into());
        }
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

    /// Applies `change` to an owner's records. It may change only participants with these identities and, in
    /// a new incarnation of the owner, all of the owner's participants. Returns the changes of what is
    /// visible.
    fn merge(
        &mut self,
        node: &str,
        incarnation: u64,
        mut identities: BTreeSet<Identity>,
        change: impl FnOnce(&mut OwnedRecords) -> Touched,
    ) -> Vec<Change> {
        let restarted = self.is_foreign(node, incarnation);
        if restarted {
            identities.extend(self.identities_of(node));
        }
        let before: Vec<(Identity, Visible)> =
            identities.into_iter().map(|identity| (identity.clone(), self.visible(&identity))).collect();

        let nothing = || OwnedRecords::new(incarnation, self.totals.of(node));
        let mut owner = self.owners.remove(node).unwrap_or_else(nothing);
        let mut touched = Touched::new();
        if restarted {
            touched = std::mem::replace(&mut owner, nothing()).into_touched();
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
        // A write that changes no body, such as one that renews a ticket, is not shown.
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

    /// Removes this node's participants of an identity that a newer join replaced.
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

    fn stored(&self, sid: &str) -> Option<&StoredRecord> {
        self.owners.get(self.owner_of.get(sid)?)?.get(sid)
    }

    fn own_live(&self, sid: &str) -> Option<&StoredRecord> {
        self.owners.get(&self.node)?.get(sid).filter(|stored| matches!(stored.presence, Presence::Live(_)))
    }

    fn participant(&self, sid: &str) -> Option<Participant> {
        let owner = self.owner_of.get(sid)?;
        let stored = self.owners.get(owner)?.get(sid)?;
        let Presence::Live(body) = &stored.presence else { return None };
        Some(Participant {
            sid: sid.to_owned(),
            identity: stored.identity.clone(),
            owner: owner.clone(),
            version: stored.version,
            body: body.clone(),
        })
    }

    /// The participant with the latest join of an identity, if it is live.
    fn visible(&self, identity: &str) -> Visible {
        let (sid, stored) = self.latest_join(identity)?;
        match &stored.presence {
            Presence::Live(body) => Some((sid.clone(), body.clone())),
            Presence::Removed | Presence::Lost => None,
        }
    }

    /// The participant with the greatest (join number, id) of an identity. A removed one counts too:
    /// otherwise, after a participant rejoined and left, its earlier join on a dead node would be shown
    /// again. One whose node is unreachable does not count.
    fn latest_join(&self, identity: &str) -> Option<(&Sid, &StoredRecord)> {
        let sids = self.sids.get(identity)?;
        sids.iter()
            .filter_map(|sid| Some((sid, self.stored(sid)?)))
            .filter(|(_, stored)| !matches!(stored.presence, Presence::Lost))
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
