//! Node leases: a node announces that it is running, its addresses and its load. All of these are claims;
//! policy reads a node's attributes from the operator's nodes file.

use serde::{Deserialize, Serialize};

use systir_assignment::NodeId;
use systir_version::VersionRange;

/// Load that a node reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeLoad {
    /// Participants whose media it carries.
    pub participants: u32,
    /// Participants that it admits at most.
    pub capacity: u32,
    /// CPU use, thousandths of what it may use.
    pub cpu_permille: u32,
    /// Bits per second that it sends to clients.
    pub egress_bps: u64,
    /// Datagrams per second that it sends to clients.
    pub packets: u64,
    /// Time of the report, Unix milliseconds.
    pub at_ms: u64,
}

/// What a node announces about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub node: NodeId,
    /// Host and port of its gRPC server.
    pub grpc: String,
    /// Host and port of its QUIC socket.
    pub quic: String,
    /// Its load.
    #[serde(default)]
    pub load: NodeLoad,
    /// Is it draining?
    #[serde(default)]
    pub draining: bool,
    /// Version of its software.
    #[serde(default)]
    pub version: String,
    /// The versions of formats that it works with.
    #[serde(default)]
    pub versions: VersionRange,
}

/// The lease of a node that has no version in common with this one. Nothing else of it is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UnsupportedLease {
    /// Version of its software.
    #[serde(default)]
    pub version: String,
    /// The versions of formats that it works with.
    #[serde(default)]
    pub versions: VersionRange,
}

impl Lease {
    /// Is the node at the same address in another lease of it?
    pub(crate) fn same_address(&self, other: &Self) -> bool {
        (&self.grpc, &self.quic) == (&other.grpc, &other.quic)
    }
}
