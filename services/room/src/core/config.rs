//! The configuration of a room.

use std::sync::Arc;

use systir_assignment::Assignment;
use systir_media_control::ice::IceCandidate;
use systir_media_control::{KeyAllocator, RoomNumber};
use systir_policy::Authority;
use systir_rtp::packet::Layer;

use crate::{ReplicaTotals, RoomMetrics};

/// Allocates flow numbers for tracks that arrive over links. A number is unique on its link, across rooms.
pub trait FlowAllocator: Send + Sync + std::fmt::Debug {
    /// One flow number for each layer of a track that arrives from `node` for `worker`. None when the node is
    /// unknown or all numbers are used.
    fn flows(&self, node: &str, worker: u8) -> Option<[u32; Layer::MAX]>;
}

/// The configuration of a room.
#[derive(Debug, Clone)]
pub struct RoomConfig {
    /// This node's name.
    pub node: String,
    /// The room's key on this node.
    pub key: RoomNumber,
    /// Index of the worker that carries the room.
    pub worker_index: u8,
    /// ICE candidates of that worker, best first.
    pub candidates: Vec<IceCandidate>,
    /// SHA-256 fingerprint of the worker's DTLS certificate.
    pub fingerprint: [u8; 32],
    /// The room's assignment.
    pub assignment: Assignment,
    /// This node's view of policy.
    pub authority: Arc<Authority>,
    /// Makes the keys of tracks; shared by the node's rooms.
    pub keys: Arc<KeyAllocator>,
    /// Allocates flow numbers; shared by the node's rooms.
    pub flows: Arc<dyn FlowAllocator>,
    /// What the rooms store of other nodes; shared by the node's rooms.
    pub replicas: Arc<ReplicaTotals>,
    /// Shared by the node's rooms.
    pub metrics: Arc<RoomMetrics>,
}
