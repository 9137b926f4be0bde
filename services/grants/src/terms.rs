//! What a home signs: the terms of a room by its own policy, and the time.

use std::collections::BTreeSet;
use std::time::Instant;

use systir_documents::{DocumentHash, Grant};

/// What this node's policy says of a room: the nodes that it approves in each role, and by which documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTerms {
    /// Trust domain of the cluster.
    pub trust_domain: String,
    /// Nodes that may be home.
    pub homes: BTreeSet<String>,
    /// Nodes that may be spill nodes.
    pub spill: BTreeSet<String>,
    /// Nodes that may be gateways.
    pub gateways: BTreeSet<String>,
    /// The room's class.
    pub class: String,
    /// Must tracks be end-to-end encrypted?
    pub e2ee: bool,
    /// Version of the institution's policy.
    pub policy_version: u64,
    /// SHA-256 over all that the policy decides by.
    pub policy_hash: DocumentHash,
    /// Version of the operator's directory.
    pub directory_version: u64,
    /// SHA-256 of the directory.
    pub directory_hash: DocumentHash,
}

impl GrantTerms {
    /// Are these the terms of that grant?
    pub(crate) fn are_of(&self, grant: &Grant) -> bool {
        *self == Self::of(grant)
    }

    /// The terms of a grant.
    pub(crate) fn of(grant: &Grant) -> Self {
        Self {
            trust_domain: grant.trust_domain.clone(),
            homes: grant.homes.clone(),
            spill: grant.spill.clone(),
            gateways: grant.gateways.clone(),
            class: grant.class.clone(),
            e2ee: grant.e2ee,
            policy_version: grant.policy_version,
            policy_hash: grant.policy_hash,
            directory_version: grant.directory_version,
            directory_hash: grant.directory_hash,
        }
    }

    /// The grant with these terms.
    pub(crate) fn grant(self, order: GrantOrder<'_>, now: GrantTime) -> Grant {
        let GrantOrder { institution, room, sid, epoch, serial, home, successor_of, life_ms } = order;
        Grant {
            trust_domain: self.trust_domain,
            institution: institution.to_owned(),
            room,
            sid,
            epoch,
            serial,
            home: home.to_owned(),
            successor_of,
            homes: self.homes,
            spill: self.spill,
            gateways: self.gateways,
            class: self.class,
            e2ee: self.e2ee,
            policy_version: self.policy_version,
            policy_hash: self.policy_hash,
            directory_version: self.directory_version,
            directory_hash: self.directory_hash,
            issued_ms: now.unix_ms,
            not_after_ms: now.unix_ms.saturating_add(life_ms),
        }
    }
}

/// What orders a grant among those of its room, and its life.
pub(crate) struct GrantOrder<'a> {
    pub(crate) institution: &'a str,
    pub(crate) room: String,
    pub(crate) sid: String,
    pub(crate) epoch: u64,
    pub(crate) serial: u64,
    pub(crate) home: &'a str,
    pub(crate) successor_of: Option<String>,
    pub(crate) life_ms: u64,
}

/// The time of a call, because a core has no clock.
#[derive(Debug, Clone, Copy)]
pub struct GrantTime {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall clock time, Unix milliseconds.
    pub unix_ms: u64,
}
