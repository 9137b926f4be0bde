//! What a room starts with.

use std::sync::Arc;

use systir_assignment::Assignment;
use systir_media_control::ice::Candidate;
use systir_media_control::{KeyMint, RoomKey};
use systir_policy::Authority;
use systir_rtp::packet::Layer;

use crate::RoomMetrics;

/// Flow numbers of tracks that arrive over links: unique on a link, whichever room uses it.
pub trait FlowAllocator: Send + Sync + std::fmt::Debug {
    /// A flow for each layer of a track that arrives from `node` for that worker; none when the node is
    /// not known or the numbers are used up.
    fn flows(&self, node: &str, worker: u8) -> Option<[u32; Layer::MAX]>;
}

/// What a room starts with.
#[derive(Debug, Clone)]
pub struct RoomConfig {
    /// This node's name.
    pub node: String,
    /// The room's key on this node.
    pub key: RoomKey,
    /// The worker that carries it.
    pub worker_index: u8,
    /// Where clients send media for that worker, best first.
    pub candidates: Vec<Candidate>,
    /// SHA-256 of the worker's DTLS certificate.
    pub fingerprint: [u8; 32],
    /// The room's assignment.
    pub assignment: Assignment,
    /// Policy.
    pub authority: Arc<Authority>,
    /// Keys of tracks, shared by the node's rooms.
    pub keys: Arc<KeyMint>,
    /// Flow numbers, shared by the node's rooms.
    pub flows: Arc<dyn FlowAllocator>,
    /// What is counted, shared by the node's rooms.
    pub metrics: Arc<RoomMetrics>,
}
