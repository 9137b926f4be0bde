//! What a replica stores of one node's participants.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::limits::{
    MAX_OWNED_BYTES, MAX_OWNED_BYTES_OF_ALL_ROOMS, MAX_PARTICIPANTS, MAX_TOMBSTONES, RECORD_BYTES,
};
use crate::replica_totals::OwnedBytes;
use crate::update::{ParticipantRecord, RecordState};
use crate::version::ParticipantVersion;
use crate::{Identity, Sid};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    Live(Bytes),
    Removed,
    /// The owner is unreachable. An equal or newer version restores the participant, an older one does not.
    Lost,
}

#[derive(Debug, Clone)]
pub(crate) struct StoredRecord {
    pub(crate) identity: Identity,
    pub(crate) version: ParticipantVersion,
    pub(crate) presence: Presence,
    /// The note of its newest ticket.
    ticket: Option<Bytes>,
    /// Number of the owner's write that this is from, or an upper bound of it.
    seq: u64,
}

impl StoredRecord {
    fn ticket_bytes(&self) -> usize {
        self.ticket.as_ref().map_or(0, Bytes::len)
    }

    fn bytes(&self, sid: &str) -> usize {
        let body = if let Presence::Live(body) = &self.presence { body.len() } else { 0 };
        RECORD_BYTES + sid.len() + self.identity.len() + body + self.ticket_bytes()
    }
}

/// What a record counts for [`MAX_OWNED_BYTES`].
fn record_bytes(record: &ParticipantRecord) -> usize {
    let body = if let RecordState::Live(body) = &record.state { body.len() } else { 0 };
    let ticket = record.ticket.as_ref().map_or(0, Bytes::len);
    RECORD_BYTES + record.sid.len() + record.identity.len() + body + ticket
}

/// The participants that one node owns.
#[derive(Debug, Default)]
pub(crate) struct OwnedRecords {
    pub(crate) incarnation: u64,
    /// Last write covered by a snapshot. An unknown participant in an older write was removed before it.
    floor: u64,
    live: usize,
    /// Bytes of all records.
    bytes: OwnedBytes,
    records: FxHashMap<Sid, StoredRecord>,
    /// Removed and lost participants, oldest write first.
    tombstones: BTreeSet<(u64, Sid)>,
}

/// Participant ids that a merge changed, with their identities.
pub(crate) type Touched = Vec<(Sid, Identity)>;

impl OwnedRecords {
    /// None yet. `total`: what all rooms store of the node.
    pub(crate) fn new(incarnation: u64, total: Arc<AtomicUsize>) -> Self {
        Self { incarnation, bytes: OwnedBytes::new(total), ..Self::default() }
    }

    pub(crate) fn get(&self, sid: &str) -> Option<&StoredRecord> {
        self.records.get(sid)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.live >= MAX_PARTICIPANTS
    }

    /// Would this record, in place of the stored one, be too much?
    pub(crate) fn is_too_much(&self, record: &ParticipantRecord) -> bool {
        let stored = self.records.get(&record.sid);
        let kept = stored.map_or(0, |stored| stored.bytes(&record.sid));
        // A write without a ticket keeps the stored one.
        let ticket = if record.ticket.is_none() { stored.map_or(0, StoredRecord::ticket_bytes) } else { 0 };
        self.is_too_much_instead(kept, record_bytes(record) + ticket)
    }

    /// Would this snapshot be too much?
    pub(crate) fn is_snapshot_too_much(&self, records: &[ParticipantRecord]) -> bool {
        self.is_too_much_instead(self.bytes.here(), records.iter().map(record_bytes).sum())
    }

    /// Would so many bytes be too much in place of those that are dropped?
    fn is_too_much_instead(&self, dropped: usize, more: usize) -> bool {
        let with = |bytes: usize| bytes.saturating_sub(dropped) + more;
        with(self.bytes.here()) > MAX_OWNED_BYTES
            || with(self.bytes.everywhere()) > MAX_OWNED_BYTES_OF_ALL_ROOMS
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (&Sid, &StoredRecord)> {
        self.records.iter().filter(|(_, stored)| matches!(stored.presence, Presence::Live(_)))
    }

    /// Participants that have not left, lost ones included.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Sid> {
        let present = |stored: &StoredRecord| !matches!(stored.presence, Presence::Removed);
        self.records.iter().filter(move |(_, stored)| present(stored)).map(|(sid, _)| sid)
    }

    pub(crate) fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.records.values().map(|stored| &stored.identity)
    }

    /// All participants and tombstones, in the order of ids.
    pub(crate) fn records(&self) -> Vec<ParticipantRecord> {
        let mut records: Vec<_> = self
            .records
            .iter()
            .map(|(sid, stored)| ParticipantRecord {
                sid: sid.clone(),
                identity: stored.identity.clone(),
                version: stored.version,
                state: match &stored.presence {
                    Presence::Live(body) => RecordState::Live(body.clone()),
                    Presence::Removed | Presence::Lost => RecordState::Removed,
                },
                ticket: stored.ticket.clone(),
            })
            .collect();
        records.sort_by(|a, b| a.sid.cmp(&b.sid));
        records
    }

    /// Merges one write. True when it changed something.
    pub(crate) fn merge(&mut self, seq: u64, record: ParticipantRecord) -> bool {
        let stale = seq <= self.floor && !self.records.contains_key(&record.sid);
        !stale && self.store_if_newer(seq, record)
    }

    /// Merges a snapshot: all that the owner has after write `seq`. Returns what changed.
    pub(crate) fn replace(&mut self, seq: u64, records: Vec<ParticipantRecord>) -> Touched {
        if seq < self.floor {
            return Vec::new();
        }
        self.floor = seq;
        let listed: BTreeSet<&Sid> = records.iter().map(|r| &r.sid).collect();
        let unlisted: Vec<Sid> = self
            .records
            .iter()
            .filter(|(sid, stored)| stored.seq <= seq && !listed.contains(*sid))
            .map(|(sid, _)| sid.clone())
            .collect();
        let mut touched = Touched::new();
        for sid in unlisted {
            if let Some(stored) = self.remove(&sid) {
                touched.push((sid, stored.identity));
            }
        }
        for record in records {
            let key = (record.sid.clone(), record.identity.clone());
            if self.store_if_newer(seq, record) {
                touched.push(key);
            }
        }
        touched
    }

    fn store_if_newer(&mut self, seq: u64, record: ParticipantRecord) -> bool {
        let presence = match record.state {
            RecordState::Live(body) => Presence::Live(body),
            RecordState::Removed => Presence::Removed,
            RecordState::Refused => return false,
        };
        let known = self.records.get(&record.sid);
        let newer = known.is_none_or(|stored| match stored.presence {
            Presence::Lost => record.version >= stored.version,
            Presence::Live(_) | Presence::Removed => record.version > stored.version,
        });
        if newer {
            let ParticipantRecord { sid, identity, version, ticket, .. } = record;
            let ticket = ticket.or_else(|| known.and_then(|stored| stored.ticket.clone()));
            self.insert(sid, StoredRecord { identity, version, presence, ticket, seq });
        }
        newer
    }

    /// Marks all live participants as lost: the owner is unreachable.
    pub(crate) fn mark_lost(&mut self) -> Touched {
        let live: Vec<Sid> = self.live().map(|(sid, _)| sid.clone()).collect();
        live.iter().flat_map(|sid| self.mark_one_lost(sid)).collect()
    }

    /// Marks one participant as lost, if it is live.
    pub(crate) fn mark_one_lost(&mut self, sid: &str) -> Touched {
        if !self.get(sid).is_some_and(|stored| matches!(stored.presence, Presence::Live(_))) {
            return Touched::new();
        }
        let Some(stored) = self.remove(sid) else { return Touched::new() };
        let touched = vec![(sid.to_owned(), stored.identity.clone())];
        self.insert(sid.to_owned(), StoredRecord { presence: Presence::Lost, ..stored });
        touched
    }

    /// All participant ids, when a new incarnation of the owner replaces them.
    pub(crate) fn into_touched(self) -> Touched {
        self.records.into_iter().map(|(sid, stored)| (sid, stored.identity)).collect()
    }

    /// Drops the oldest tombstones beyond the limit. Returns them, so that the caller drops them too.
    pub(crate) fn drop_old_tombstones(&mut self) -> Touched {
        let mut dropped = Touched::new();
        while self.tombstones.len() > MAX_TOMBSTONES {
            let Some((_, sid)) = self.tombstones.pop_first() else { break };
            if let Some(stored) = self.records.remove(&sid) {
                self.bytes.remove(stored.bytes(&sid));
                dropped.push((sid, stored.identity));
            }
        }
        dropped
    }

    fn insert(&mut self, sid: Sid, stored: StoredRecord) {
        self.remove(&sid);
        self.bytes.add(stored.bytes(&sid));
        match stored.presence {
            Presence::Live(_) => self.live += 1,
            Presence::Removed | Presence::Lost => {
                self.tombstones.insert((stored.seq, sid.clone()));
            }
        }
        self.records.insert(sid, stored);
    }

    fn remove(&mut self, sid: &str) -> Option<StoredRecord> {
        let stored = self.records.remove(sid)?;
        self.bytes.remove(stored.bytes(sid));
        match stored.presence {
            Presence::Live(_) => self.live = self.live.saturating_sub(1),
            Presence::Removed | Presence::Lost => {
                self.tombstones.remove(&(stored.seq, sid.to_owned()));
            }
        }
        Some(stored)
    }
}
