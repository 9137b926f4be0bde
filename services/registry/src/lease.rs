//! Node leases: a node says that it lives, where it is reached, and how loaded it believes to be.
//! All of it is a claim; what a node *is* stands in the operator's own file.

use serde::{Deserialize, Serialize};

use systir_assignment::NodeId;

/// How loaded a node says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Participants whose media it carries.
    pub participants: u32,
    /// Participants that it has room for.
    pub capacity: u32,
    /// CPU, thousandths of what it has.
    pub cpu_permille: u32,
    /// Bits per second that it sends to clients.
    pub egress_bps: u64,
    /// Datagrams per second that it sends to clients.
    pub packets: u64,
    /// When it said so, Unix milliseconds.
    pub at_ms: u64,
}

/// What a node announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub node: NodeId,
    /// Host and port of its gRPC.
    pub grpc: String,
    /// Host and port of its QUIC.
    pub quic: String,
    /// Its load.
    #[serde(default)]
    pub load: Load,
    /// Does it send people away?
    #[serde(default)]
    pub draining: bool,
    /// Version of its software.
    #[serde(default)]
    pub version: String,
}
