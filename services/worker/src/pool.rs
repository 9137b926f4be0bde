//! How rooms reach the node's workers.

use systir_media_control::RoomNumber;
use systir_media_control::ice::IceCandidate;
use tokio::sync::mpsc;

use crate::message::WorkerMessage;

/// Access to one worker.
#[derive(Debug, Clone)]
pub struct WorkerAccess {
    /// Its index on the node.
    pub index: u8,
    /// Its command queue.
    pub messages: mpsc::Sender<WorkerMessage>,
    /// Its ICE candidates, by preference.
    pub candidates: Vec<IceCandidate>,
}

/// The workers of a node, at least one.
#[derive(Debug, Clone)]
pub struct WorkerPool {
    first: WorkerAccess,
    rest: Vec<WorkerAccess>,
    fingerprint: [u8; 32],
}

impl WorkerPool {
    /// `fingerprint` is the SHA-256 of the DTLS certificate that the workers share. None without a worker.
    #[must_use]
    pub fn new(mut workers: Vec<WorkerAccess>, fingerprint: [u8; 32]) -> Option<Self> {
        if workers.is_empty() {
            return None;
        }
        let first = workers.remove(0);
        Some(Self { first, rest: workers, fingerprint })
    }

    /// The worker of a room; a room has one per node.
    #[must_use]
    pub fn for_room(&self, room: RoomNumber) -> &WorkerAccess {
        let index = room.0 as usize % (1 + self.rest.len());
        index.checked_sub(1).and_then(|index| self.rest.get(index)).unwrap_or(&self.first)
    }

    /// SHA-256 of the DTLS certificate.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}
