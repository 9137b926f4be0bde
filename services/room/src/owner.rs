//! What a copy holds of one node's participants.

use std::collections::BTreeSet;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::limits::{MAX_PARTICIPANTS, MAX_TOMBSTONES};
use crate::update::{Record, RecordState};
use crate::version::Version;
use crate::{Identity, Sid};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    Live(Bytes),
    Removed,
    /// The owner is away. An equal or newer version brings the participant back, an older does not.
    Lost,
}

#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) identity: Identity,
    pub(crate) version: Version,
    pub(crate) presence: Presence,
    /// The owner's write that said so, or an upper bound of it.
    seq: u64,
}

/// One node's participants.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    pub(crate) incarnation: u64,
    /// Last write covered by a snapshot: an unknown participant in an older write is gone already.
    floor: u64,
    live: usize,
    records: FxHashMap<Sid, Held>,
    /// Removed and lost ones, oldest write first.
    graves: BTreeSet<(u64, Sid)>,
}

/// Sids that a merge touched, with their identities.
pub(crate) type Touched = Vec<(Sid, Identity)>;

impl Owner {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { incarnation, ..Self::default() }
    }

    pub(crate) fn get(&self, sid: &str) -> Option<&Held> {
        self.records.get(sid)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.live >= MAX_PARTICIPANTS
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (&Sid, &Held)> {
        self.records.iter().filter(|(_, held)| matches!(held.presence, Presence::Live(_)))
    }

    pub(crate) fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.records.values().map(|held| &held.identity)
    }

    /// Every participant and tombstone, in the order of ids.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records: Vec<_> = self
            .records
            .iter()
            .map(|(sid, held)| Record {
                sid: sid.clone(),
                identity: held.identity.clone(),
                version: held.version,
                state: match &held.presence {
                    Presence::Live(body) => RecordState::Live(body.clone()),
                    Presence::Removed | Presence::Lost => RecordState::Removed,
                },
            })
            .collect();
        records.sort_by(|a, b| a.sid.cmp(&b.sid));
        records
    }

    /// Takes one write. Answers whether anything is different.
    pub(crate) fn merge(&mut self, seq: u64, record: Record) -> bool {
        let stale = seq <= self.floor && !self.records.contains_key(&record.sid);
        !stale && self.take_newer(seq, record)
    }

    /// Takes all that the owner holds after write `seq`. Answers what was touched.
    pub(crate) fn replace(&mut self, seq: u64, records: Vec<Record>) -> Touched {
        if seq < self.floor {
            return Vec::new();
        }
        self.floor = seq;
        let listed: BTreeSet<&Sid> = records.iter().map(|r| &r.sid).collect();
        let gone: Vec<Sid> = self
            .records
            .iter()
            .filter(|(sid, held)| held.seq <= seq && !listed.contains(*sid))
            .map(|(sid, _)| sid.clone())
            .collect();
        let mut touched = Touched::new();
        for sid in gone {
            if let Some(held) = self.take(&sid) {
                touched.push((sid, held.identity));
            }
        }
        for record in records {
            let key = (record.sid.clone(), record.identity.clone());
            if self.take_newer(seq, record) {
                touched.push(key);
            }
        }
        touched
    }

    fn take_newer(&mut self, seq: u64, record: Record) -> bool {
        let newer = self.records.get(&record.sid).is_none_or(|held| match held.presence {
            Presence::Lost => record.version >= held.version,
            Presence::Live(_) | Presence::Removed => record.version > held.version,
        });
        if newer {
            let presence = match record.state {
                RecordState::Live(body) => Presence::Live(body),
                RecordState::Removed => Presence::Removed,
            };
            let Record { sid, identity, version, .. } = record;
            self.put(sid, Held { identity, version, presence, seq });
        }
        newer
    }

    /// The owner is away: its participants cannot be seen, and cannot come back as older ones.
    pub(crate) fn lose(&mut self) -> Touched {
        let live: Vec<Sid> = self.live().map(|(sid, _)| sid.clone()).collect();
        let mut touched = Touched::new();
        for sid in live {
            if let Some(held) = self.take(&sid) {
                touched.push((sid.clone(), held.identity.clone()));
                self.put(sid, Held { presence: Presence::Lost, ..held });
            }
        }
        touched
    }

    /// All participants, when the owner has started afresh.
    pub(crate) fn into_touched(self) -> Touched {
        self.records.into_iter().map(|(sid, held)| (sid, held.identity)).collect()
    }

    /// The oldest graves beyond the limit; the caller forgets them too.
    pub(crate) fn bury(&mut self) -> Touched {
        let mut forgotten = Touched::new();
        while self.graves.len() > MAX_TOMBSTONES {
            let Some((_, sid)) = self.graves.pop_first() else { break };
            if let Some(held) = self.records.remove(&sid) {
                forgotten.push((sid, held.identity));
            }
        }
        forgotten
    }

    fn put(&mut self, sid: Sid, held: Held) {
        self.take(&sid);
        match held.presence {
            Presence::Live(_) => self.live += 1,
            Presence::Removed | Presence::Lost => {
                self.graves.insert((held.seq, sid.clone()));
            }
        }
        self.records.insert(sid, held);
    }

    fn take(&mut self, sid: &str) -> Option<Held> {
        let held = self.records.remove(sid)?;
        match held.presence {
            Presence::Live(_) => self.live = self.live.saturating_sub(1),
            Presence::Removed | Presence::Lost => {
                self.graves.remove(&(held.seq, sid.to_owned()));
            }
        }
        Some(held)
    }
}
