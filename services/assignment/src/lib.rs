//! The record of a room, as plain data: its home node, its spill nodes, its epoch, and the changes
//! that a record allows. It knows no store (`systir-registry` keeps records in etcd), no policy and no
//! participant.
//!
//! [`Assignment`] is the record, [`RoomId`] names its room, [`NodeId`] its nodes.

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A node's name in its cluster, such as `cph-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(String);

impl NodeId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl AsRef<str> for NodeId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for NodeId {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A room: its institution, and its name there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoomId {
    /// Owner of the room, such as `ku.dk`.
    pub institution: String,
    /// Its name, any UTF-8.
    pub name: String,
}

impl RoomId {
    /// The room of that name.
    #[must_use]
    pub fn new(institution: &str, name: &str) -> Self {
        Self { institution: institution.to_owned(), name: name.to_owned() }
    }

    /// The room in one word that is safe in keys and messages: `<institution>/<name>`, each part in
    /// URL-safe base64 (RFC 4648 section 5), so that no name can reach out of its place.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", URL_SAFE_NO_PAD.encode(&self.institution), URL_SAFE_NO_PAD.encode(&self.name))
    }

    /// The room of a key; none when it is not one.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let (institution, name) = key.split_once('/')?;
        let text = |part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self { institution: text(institution)?, name: text(name)? })
    }
}

/// The last epoch there can be. No room sees so many changes of home: whoever writes more than this
/// wants the next takeover to fail, so that such a record cannot be read.
pub const LAST_EPOCH: u64 = 1 << 48;

/// A room in its last epoch gets no other home; its record was forged, or is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room is in its last epoch, which nobody but a forger reaches; delete its record")]
pub struct LastEpoch;

/// Who carries a room. Nothing about people is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The room.
    pub room: RoomId,
    /// Its `RM_` id.
    pub sid: String,
    /// The node that orders identities, metadata and the spill set.
    pub home: NodeId,
    /// Every other node that carries the room, in the order in which they came.
    pub spill: Vec<NodeId>,
    /// Grows with each change of home; an update with an older one is refused.
    pub epoch: u64,
    /// Version of the institution's policy that the home was chosen by.
    pub policy_version: String,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// Since when each node carries the room, Unix milliseconds. For people: nothing is decided by it.
    #[serde(default)]
    pub since_ms: BTreeMap<NodeId, u64>,
}

impl Assignment {
    /// A room that begins at its home.
    #[must_use]
    pub fn new(room: RoomId, sid: String, home: NodeId, policy_version: String, now_ms: u64) -> Self {
        let since_ms = BTreeMap::from([(home.clone(), now_ms)]);
        Self { room, sid, home, spill: Vec::new(), epoch: 1, policy_version, created_ms: now_ms, since_ms }
    }

    /// The number of the policy's version that the home was chosen by; 0 when it has none.
    #[must_use]
    pub fn policy_number(&self) -> u64 {
        let number = self.policy_version.split('-').next();
        number.and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// All nodes, home first.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        std::iter::once(&self.home).chain(&self.spill)
    }

    /// Does that node carry the room?
    #[must_use]
    pub fn has(&self, node: &str) -> bool {
        self.nodes().any(|known| known == node)
    }

    /// Adds a spill node; nothing changes when it is in the assignment already.
    pub fn add_spill(&mut self, node: NodeId, now_ms: u64) {
        if !self.has(node.as_str()) {
            self.since_ms.insert(node.clone(), now_ms);
            self.spill.push(node);
        }
    }

    /// Another node leads the room from now on. The one that led it is out, and the newer epoch
    /// refuses what it may still write.
    ///
    /// # Errors
    /// In the last epoch; nothing is changed then.
    pub fn take_over(&mut self, home: NodeId, now_ms: u64) -> Result<(), LastEpoch> {
        let next = self.epoch.checked_add(1).filter(|next| *next <= LAST_EPOCH).ok_or(LastEpoch)?;
        let old = std::mem::replace(&mut self.home, home);
        self.spill.retain(|known| *known != self.home && *known != old);
        self.since_ms.remove(&old);
        self.since_ms.entry(self.home.clone()).or_insert(now_ms);
        self.epoch = next;
        Ok(())
    }

    /// Takes a spill node out; home stays.
    pub fn remove_spill(&mut self, node: &str) {
        self.spill.retain(|known| known != node);
        let home = &self.home;
        self.since_ms.retain(|known, _| known == home || known != node);
    }
}

/// A record and the revision at which it was read; an update names the revision it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// The store's revision of its last change.
    pub revision: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Assignment, LAST_EPOCH, LastEpoch, RoomId};

    #[test]
    fn who_takes_over_is_home_in_a_newer_epoch_and_the_old_home_is_out() {
        let room = RoomId::new("ku.dk", "lecture");
        let mut assignment = Assignment::new(room, "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
        assignment.add_spill("sto-1".into(), 2);
        assignment.add_spill("cph-2".into(), 3);
        assignment.take_over("cph-2".into(), 9).unwrap();
        let nodes: Vec<&str> = assignment.nodes().map(AsRef::as_ref).collect();
        assert_eq!((nodes, assignment.epoch), (vec!["cph-2", "sto-1"], 2));
        assert!(!assignment.has("cph-1") && !assignment.since_ms.contains_key(&"cph-1".into()));
        assert_eq!(assignment.since_ms.get(&"cph-2".into()), Some(&3), "it carried the room before");
    }

    #[test]
    fn after_the_last_epoch_nobody_takes_over_and_nothing_is_changed() {
        let room = RoomId::new("ku.dk", "lecture");
        let mut assignment = Assignment::new(room, "RM_x".to_owned(), "cph-1".into(), "7-abc".to_owned(), 1);
        for epoch in [LAST_EPOCH, u64::MAX] {
            assignment.epoch = epoch;
            let before = assignment.clone();
            assert_eq!(assignment.take_over("cph-2".into(), 9), Err(LastEpoch));
            assert_eq!(assignment, before);
        }
        assert_eq!(assignment.policy_number(), 7);
    }

    proptest! {
        #[test]
        fn any_room_has_a_key_of_its_own(institution in ".{0,20}", name in ".{0,40}") {
            let room = RoomId::new(&institution, &name);
            prop_assert_eq!(RoomId::from_key(&room.key()), Some(room));
        }

        #[test]
        fn no_text_breaks_the_reading_of_keys(text in ".{0,60}") {
            let _ = RoomId::from_key(&text);
        }
    }
}
