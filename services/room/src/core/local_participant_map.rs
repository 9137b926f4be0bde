//! The local participants by key. It remembers when each session is due next, so that a tick visits those that are due, and
//! an input only the sessions that it changed.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};
use systir_media_control::ParticipantKey;

use super::local_participant::LocalParticipant;

/// All local participants of a room.
#[derive(Debug, Default)]
pub(super) struct LocalParticipantMap {
    participants: FxHashMap<ParticipantKey, LocalParticipant>,
    /// Whose timeouts may have changed since the last look at them.
    changed: FxHashSet<ParticipantKey>,
    timeouts: FxHashMap<ParticipantKey, Instant>,
    due: BTreeSet<(Instant, ParticipantKey)>,
}

impl LocalParticipantMap {
    /// Adds a participant.
    pub(super) fn insert(&mut self, key: ParticipantKey, local: LocalParticipant) {
        self.changed.insert(key);
        self.participants.insert(key, local);
    }

    /// Removes a participant.
    pub(super) fn remove(&mut self, key: &ParticipantKey) -> Option<LocalParticipant> {
        self.changed.insert(*key);
        self.participants.remove(key)
    }

    /// A participant, whose timeout may change.
    pub(super) fn get_mut(&mut self, key: &ParticipantKey) -> Option<&mut LocalParticipant> {
        let found = self.participants.get_mut(key);
        if found.is_some() {
            self.changed.insert(*key);
        }
        found
    }

    /// When the first session is due.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        self.update();
        self.due.first().map(|(due, _)| *due)
    }

    /// The participants whose sessions are due.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ParticipantKey> {
        self.update();
        self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, key)| *key).collect()
    }

    fn update(&mut self) {
        for key in self.changed.drain() {
            let timeout = self.participants.get(&key).and_then(LocalParticipant::poll_timeout);
            let before = self.timeouts.get(&key).copied();
            if timeout == before {
                continue;
            }
            if let Some(before) = before {
                self.due.remove(&(before, key));
            }
            match timeout {
                Some(timeout) => {
                    self.due.insert((timeout, key));
                    self.timeouts.insert(key, timeout);
                }
                None => {
                    self.timeouts.remove(&key);
                }
            }
        }
    }
}

impl Deref for LocalParticipantMap {
    type Target = FxHashMap<ParticipantKey, LocalParticipant>;

    fn deref(&self) -> &Self::Target {
        &self.participants
    }
}
