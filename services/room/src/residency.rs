//! Residency, the answer to "where is my data": the nodes that relay a room, their location, operator and
//! host, the policy rule that allows each, and what each statement rests on.

use serde::{Deserialize, Serialize};

/// The data topic on which participants receive each change.
pub const RESIDENCY_TOPIC: &str = "systir.where";

/// The residency of one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    /// The room's name, from the gateway that answers. Absent in what participants are sent: the node that carries them
    /// may not know it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// The institution that owns the room.
    pub institution: String,
    /// Version of the institution's policy that the decisions are from, for display: `7-3f2a90c1d4e5`.
    pub policy_version: String,
    /// What that policy is; absent when the institution has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ResidencyPolicy>,
    /// Epoch of the assignment.
    pub epoch: u64,
    /// The grant that binds the room to its nodes; absent when the node holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<ResidencyGrant>,
    /// The node that makes the statement.
    pub reported_by: String,
    /// Does that node carry the room? If not, the statement is made from the room's record alone and omits
    /// gateways and links.
    pub complete: bool,
    /// The room's nodes, home first.
    pub nodes: Vec<ResidencyNode>,
    /// The links between them.
    pub links: Vec<ResidencyLink>,
}

/// The policy that the decisions are from, and who signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyPolicy {
    /// Version of the institution's bundle.
    pub version: u64,
    /// SHA-256 of all that decides: schema, floor, bundle and directories, in 64 hexadecimal digits.
    pub hash: String,
    /// Fingerprints of the institution's keys that signed the bundle.
    pub signers: Vec<String>,
    /// The operator whose floor applies too.
    pub floor_operator: String,
    /// Version of that floor.
    pub floor_version: u64,
    /// Fingerprints of the operator's keys that signed the floor.
    pub floor_signers: Vec<String>,
    /// The room's class by its name: `standard`, `confidential`.
    pub room_class: String,
    /// Must the room's media be end-to-end encrypted?
    pub e2ee_required: bool,
}

/// The grant of the room: its home signed which nodes the room may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyGrant {
    /// The home that signed it.
    pub home: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its number in that epoch; it increases with each renewal.
    pub serial: u64,
    /// When it was signed, Unix milliseconds.
    pub issued_ms: u64,
    /// When it ends unless it is renewed, Unix milliseconds.
    pub not_after_ms: u64,
    /// SHA-256 of its text, in 64 hexadecimal digits.
    pub hash: String,
}

/// One node of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyNode {
    /// The node's name.
    pub node: String,
    /// `home`, `spill`, `gateway`.
    pub roles: Vec<String>,
    /// City or campus.
    pub site: String,
    /// The operator's name for its part of the network, such as `dk-copenhagen`.
    pub region: String,
    /// ISO 3166 code of the country of the site.
    pub country: String,
    /// The operator that runs the node.
    pub operator: String,
    /// Country from which the operator is controlled.
    pub operator_controlled_from: String,
    /// The owner of the machine.
    pub host: String,
    /// Country from which the host is controlled.
    pub host_controlled_from: String,
    /// Does the operator own the machine?
    pub own_machine: bool,
    /// What the statement rests on: `declared`.
    pub statement: String,
    /// The operator whose directory declares it.
    pub declared_by: String,
    /// Version of that directory; absent for a node that no directory lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_version: Option<u64>,
    /// Fingerprints of the operator's keys that signed the directory.
    #[serde(default)]
    pub directory_signers: Vec<String>,
    /// The policy rules that allowed or denied the node.
    pub rule: String,
    /// The decision in words.
    pub why: String,
    /// Unix milliseconds since when: the node was assigned to the room or, for a node that is only a gateway,
    /// its first participant joined. Absent when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// One link between nodes of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyLink {
    /// The node at one end.
    pub a: String,
    /// The node at the other end.
    pub b: String,
    /// `up` when all nodes of `seen_by` report that the room is open on the link, else `down`.
    pub state: String,
    /// The ends that report this link.
    pub seen_by: Vec<String>,
}
