//! The assignment of a room as plain data: home node, spill nodes and epoch, with the changes it allows.
//! It contains no storage (`systir-registry` stores assignments in etcd), no policy and no participants.
//!
//! [`Assignment`] is the record, [`RoomId`] identifies its room, [`NodeId`] a node, and [`MediaRole`] is what
//! a node is in it. [`StoreKeys`] are the keys under which a store holds the records.
//!
//! # Example
//!
//! ```
//! use systir_assignment::{Assignment, RoomId};
//!
//! let room = RoomId::new("ku.dk", "lecture");
//! assert_eq!(RoomId::from_key(&room.key()), Some(room.clone()));
//! let assignment = Assignment::new(room, "RM_1".to_owned(), "cph-1".into(), "3".to_owned(), 0);
//! assert!(assignment.has("cph-1") && !assignment.has("sto-1"));
//! assert_eq!(assignment.epoch, 1);
//! ```

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

mod store_keys;

pub use store_keys::StoreKeys;

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

/// Identifies a room: the institution and the room's name there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoomId {
    /// Owner of the room, such as `ku.dk`.
    pub institution: String,
    /// Its name, any UTF-8.
    pub name: String,
}

impl RoomId {
    /// The id of the institution's room with this name.
    #[must_use]
    pub fn new(institution: &str, name: &str) -> Self {
        Self { institution: institution.to_owned(), name: name.to_owned() }
    }

    /// The room as a key for etcd and messages: `<institution>/<name>`, each part in URL-safe base64
    /// without padding (RFC 4648 section 5), so that a `/` in a name cannot change the key's structure.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", URL_SAFE_NO_PAD.encode(&self.institution), URL_SAFE_NO_PAD.encode(&self.name))
    }

    /// The room of a [`RoomId::key`]; `None` when the text is not such a key.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let (institution, name) = key.split_once('/')?;
        let text = |part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self { institution: text(institution)?, name: text(name)? })
    }
}

/// The highest epoch; the one after it is 1. No room has so many takeovers, so a record with a higher epoch
/// is forged, and the registry does not read it.
pub const LAST_EPOCH: u64 = 1 << 48;

/// Most takeovers of one room that a node can have missed.
pub const MAX_MISSED_EPOCHS: u64 = 1024;

/// Is `epoch` newer than `known`, another epoch of the same room? The greater one is, unless they are further
/// apart than [`MAX_MISSED_EPOCHS`]: then someone forged the greater one, and the smaller one counts as the
/// newer. So a forged epoch, however high, never stays.
#[must_use]
pub fn is_newer_epoch(epoch: u64, known: u64) -> bool {
    if epoch.abs_diff(known) > MAX_MISSED_EPOCHS { epoch < known } else { epoch > known }
}

/// The role in which a node carries a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaRole {
    /// The room's home node.
    Home,
    /// A spill node of the room.
    Spill,
}

impl MediaRole {
    /// `home` or `spill`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Spill => "spill",
        }
    }
}

impl fmt::Display for MediaRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which nodes carry a room. It contains nothing about participants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The room.
    pub room: RoomId,
    /// Its `RM_` id.
    pub sid: String,
    /// The home node: it orders identities, metadata and membership.
    pub home: NodeId,
    /// The spill nodes, in the order in which they were added.
    pub spill: Vec<NodeId>,
    /// Increases with each takeover ([`is_newer_epoch`]); an update with an older epoch is refused.
    pub epoch: u64,
    /// Version of the institution's policy when the home was chosen.
    pub policy_version: String,
    /// When the assignment was created, Unix milliseconds.
    pub created_ms: u64,
    /// Since when each node carries the room, Unix milliseconds. For display only.
    #[serde(default)]
    pub since_ms: BTreeMap<NodeId, u64>,
}

impl Assignment {
    /// A new assignment: only the home, in epoch 1.
    #[must_use]
    pub fn new(room: RoomId, sid: String, home: NodeId, policy_version: String, now_ms: u64) -> Self {
        let since_ms = BTreeMap::from([(home.clone(), now_ms)]);
        Self { room, sid, home, spill: Vec::new(), epoch: 1, policy_version, created_ms: now_ms, since_ms }
    }

    /// The leading number of `policy_version`; 0 when it has none.
    #[must_use]
    pub fn policy_number(&self) -> u64 {
        let number = self.policy_version.split('-').next();
        number.and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// All nodes, home first.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        std::iter::once(&self.home).chain(&self.spill)
    }

    /// The role of that node; none when it does not carry the room.
    #[must_use]
    pub fn role_of(&self, node: &str) -> Option<MediaRole> {
        if self.home == *node {
            Some(MediaRole::Home)
        } else {
            self.spill.iter().any(|known| known == node).then_some(MediaRole::Spill)
        }
    }

    /// Does that node carry the room?
    #[must_use]
    pub fn has(&self, node: &str) -> bool {
        self.nodes().any(|known| known == node)
    }

    /// Adds a spill node, unless the node is already in the assignment.
    pub fn add_spill(&mut self, node: NodeId, now_ms: u64) {
        if !self.has(node.as_str()) {
            self.since_ms.insert(node.clone(), now_ms);
            self.spill.push(node);
        }
    }

    /// Makes another node home and removes the old home. The epoch increases, so later writes of the old
    /// home are refused.
    pub fn take_over(&mut self, home: NodeId, now_ms: u64) {
        let old = std::mem::replace(&mut self.home, home);
        self.spill.retain(|known| *known != self.home && *known != old);
        self.since_ms.remove(&old);
        self.since_ms.entry(self.home.clone()).or_insert(now_ms);
        self.epoch = self.next_epoch();
    }

    /// The epoch after this one.
    #[must_use]
    pub fn next_epoch(&self) -> u64 {
        if self.epoch < LAST_EPOCH { self.epoch + 1 } else { 1 }
    }

    /// Removes a spill node. The home cannot be removed.
    pub fn remove_spill(&mut self, node: &str) {
        self.spill.retain(|known| known != node);
        let home = &self.home;
        self.since_ms.retain(|known, _| known == home || known != node);
    }
}

/// A record and its revision. An update names the revision that it read (compare-and-swap).
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

    use super::{Assignment, LAST_EPOCH, MAX_MISSED_EPOCHS, RoomId, is_newer_epoch};

    #[test]
    fn takeover_makes_a_node_home_in_a_newer_epoch_and_removes_the_old_home() {
        let room = RoomId::new("ku.dk", "lecture");
        let mut assignment = Assignment::new(room, "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
        assignment.add_spill("sto-1".into(), 2);
        assignment.add_spill("cph-2".into(), 3);
        assignment.take_over("cph-2".into(), 9);
        let nodes: Vec<&str> = assignment.nodes().map(AsRef::as_ref).collect();
        assert_eq!((nodes, assignment.epoch), (vec!["cph-2", "sto-1"], 2));
        assert!(!assignment.has("cph-1") && !assignment.since_ms.contains_key(&"cph-1".into()));
        assert_eq!(assignment.since_ms.get(&"cph-2".into()), Some(&3), "it already carried the room");
    }

    #[test]
    fn a_forged_epoch_is_older_than_the_true_one_and_no_epoch_prevents_a_takeover() {
        assert!(is_newer_epoch(8, 7) && !is_newer_epoch(7, 8) && !is_newer_epoch(7, 7));
        assert!(is_newer_epoch(7 + MAX_MISSED_EPOCHS, 7), "takeovers that a node missed");
        for forged in [8 + MAX_MISSED_EPOCHS, LAST_EPOCH, u64::MAX] {
            assert!(is_newer_epoch(7, forged) && !is_newer_epoch(forged, 7));
        }
        let room = RoomId::new("ku.dk", "lecture");
        let mut assignment = Assignment::new(room, "RM_x".to_owned(), "cph-1".into(), "7-abc".to_owned(), 1);
        assert_eq!(assignment.policy_number(), 7);
        for forged in [LAST_EPOCH - 1, LAST_EPOCH, u64::MAX] {
            assignment.epoch = forged;
            assignment.take_over("cph-2".into(), 9);
            assert!(is_newer_epoch(assignment.epoch, forged) && assignment.epoch <= LAST_EPOCH);
            assignment.take_over("cph-1".into(), 9);
        }
    }

    proptest! {
        #[test]
        fn of_two_epochs_one_is_newer(a in 0..=LAST_EPOCH, distance in 1..4 * MAX_MISSED_EPOCHS) {
            let b = a.saturating_add(distance);
            prop_assert_ne!(is_newer_epoch(a, b), is_newer_epoch(b, a));
        }

        #[test]
        fn every_room_has_its_own_key(institution in ".{0,20}", name in ".{0,40}") {
            let room = RoomId::new(&institution, &name);
            prop_assert_eq!(RoomId::from_key(&room.key()), Some(room));
        }

        #[test]
        fn no_text_makes_key_parsing_panic(text in ".{0,60}") {
            let _ = RoomId::from_key(&text);
        }
    }
}
