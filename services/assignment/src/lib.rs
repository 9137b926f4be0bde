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
//! let room = RoomId::new("ku.dk", "qYwJq-J5E9Hz");
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

/// Identifies a room in etcd and on links: the institution and the room's tag, which only nodes with a room key of the
/// institution can read or make (`systir-room-tag`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoomId {
    /// Owner of the room, such as `ku.dk`.
    pub institution: String,
    /// Its name, sealed: letters, digits, `-` and `_`.
    pub tag: String,
}

impl RoomId {
    /// The id of the institution's room with this tag.
    #[must_use]
    pub fn new(institution: &str, tag: &str) -> Self {
        Self { institution: institution.to_owned(), tag: tag.to_owned() }
    }

    /// The room as a key for etcd and messages: `<institution>/<tag>`, the institution in URL-safe base64 without
    /// padding (RFC 4648 section 5), so that a `/` in its name cannot change the key's structure.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", URL_SAFE_NO_PAD.encode(&self.institution), self.tag)
    }

    /// The room of a [`RoomId::key`]; `None` when the text is not such a key.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let (institution, tag) = key.split_once('/')?;
        let institution = String::from_utf8(URL_SAFE_NO_PAD.decode(institution).ok()?).ok()?;
        let in_tag = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_tag = (1..=MAX_TAG_BYTES).contains(&tag.len()) && tag.bytes().all(in_tag);
        is_tag.then(|| Self { institution, tag: tag.to_owned() })
    }
}

/// Longest tag, bytes.
const MAX_TAG_BYTES: usize = 768;

/// The highest epoch. No room has so many homes, so a record with a higher epoch is forged, and the registry does
/// not read it.
pub const LAST_EPOCH: u64 = 1 << 48;

/// Most takeovers of one room that a node can have missed.
pub const MAX_MISSED_EPOCHS: u64 = 1024;

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
    /// Increases with each home.
    pub epoch: u64,
    /// Version of the institution's policy when the home was chosen.
    pub policy_version: String,
    /// When the assignment was created, Unix milliseconds.
    pub created_ms: u64,
    /// Since when each node carries the room, Unix milliseconds. For display only.
    #[serde(default)]
    pub since_ms: BTreeMap<NodeId, u64>,
    /// The signed grant that names the home and the epoch, as a note. Empty in a record that rests on none; no node
    /// follows such a record.
    #[serde(default)]
    pub grant: String,
}

impl Assignment {
    /// A new assignment: only the home, in epoch 1.
    #[must_use]
    pub fn new(room: RoomId, sid: String, home: NodeId, policy_version: String, now_ms: u64) -> Self {
        let since_ms = BTreeMap::from([(home.clone(), now_ms)]);
        Self {
            room,
            sid,
            home,
            spill: Vec::new(),
            epoch: 1,
            policy_version,
            created_ms: now_ms,
            since_ms,
            grant: String::new(),
        }
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

    use super::{Assignment, MediaRole, RoomId};

    #[test]
    fn a_node_carries_a_room_in_one_role() {
        let room = RoomId::new("ku.dk", "lecture");
        let mut assignment = Assignment::new(room, "RM_x".to_owned(), "cph-1".into(), "7-abc".to_owned(), 1);
        assignment.add_spill("sto-1".into(), 2);
        assignment.add_spill("cph-1".into(), 3);
        let roles = ["cph-1", "sto-1", "aws-sto-1"].map(|node| assignment.role_of(node));
        assert_eq!(roles, [Some(MediaRole::Home), Some(MediaRole::Spill), None]);
        assignment.remove_spill("sto-1");
        assignment.remove_spill("cph-1");
        assert_eq!(assignment.nodes().map(AsRef::as_ref).collect::<Vec<&str>>(), ["cph-1"]);
        assert_eq!((assignment.since_ms.len(), assignment.policy_number()), (1, 7));
    }

    proptest! {
        #[test]
        fn every_room_has_its_own_key(institution in ".{0,20}", tag in "[A-Za-z0-9_-]{1,40}") {
            let room = RoomId::new(&institution, &tag);
            prop_assert_eq!(RoomId::from_key(&room.key()), Some(room));
        }

        #[test]
        fn a_tag_of_other_characters_is_no_key(tag in "[a-z]{0,5}[^A-Za-z0-9_-][a-z]{0,5}") {
            prop_assert_eq!(RoomId::from_key(&RoomId::new("ku.dk", &tag).key()), None);
        }

        #[test]
        fn no_text_makes_key_parsing_panic(text in ".{0,60}") {
            let _ = RoomId::from_key(&text);
        }
    }
}
