//! The role of a node in etcd.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::Serialize;
use systir_assignment::StoreKeys;
use systir_policy::PolicyEngine;

/// What a node may do in etcd.
#[derive(Debug, Serialize)]
pub(crate) struct NodeRole {
    /// The node, which is also the name of its user.
    pub(crate) node: String,
    pub(crate) role: String,
    /// The institutions that approve it in some role.
    pub(crate) institutions: BTreeSet<String>,
    pub(crate) permissions: Vec<KeyPermission>,
}

/// A permission on a key, or on all keys that begin with it.
#[derive(Debug, Serialize)]
pub(crate) struct KeyPermission {
    pub(crate) access: Access,
    pub(crate) key: String,
    pub(crate) prefix: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

impl Access {
    /// The word of etcdctl.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "readwrite",
        }
    }
}

/// The beginning of the names of all roles of a cluster's nodes. Roles that others made have other names.
pub(crate) fn role_prefix(cluster: &str) -> String {
    format!("systir/{cluster}/")
}

impl NodeRole {
    /// The role that follows from the policies.
    pub(crate) fn new(engine: &PolicyEngine, cluster: &str, node: &str) -> Result<Self> {
        ensure!(
            node != "root" && !node.starts_with('-'),
            "the node {node} cannot have a user in etcd: choose another name"
        );
        let (keys, institutions) = (StoreKeys::new(cluster), engine.ever().approving(node));
        let permission = |access, key, prefix| KeyPermission { access, key, prefix };
        let mut permissions = vec![
            permission(Access::Read, keys.nodes(), true),
            permission(Access::ReadWrite, keys.node(node), false),
        ];
        let rooms = institutions.iter().map(|institution| keys.rooms(institution));
        permissions.extend(rooms.map(|rooms| permission(Access::ReadWrite, rooms, true)));
        Ok(Self {
            node: node.to_owned(),
            role: format!("{}{node}", role_prefix(cluster)),
            institutions,
            permissions,
        })
    }
}
