//! The node's workers as rooms use them.

use systir_media_control::RoomKey;
use systir_media_control::ice::Candidate;
use tokio::sync::mpsc;

use crate::message::WorkerMessage;

/// How one worker is reached.
#[derive(Debug, Clone)]
pub struct WorkerAccess {
    /// Its index on the node.
    pub index: u8,
    /// Its queue.
    pub messages: mpsc::Sender<WorkerMessage>,
    /// Where clients send media for it, best first.
    pub candidates: Vec<Candidate>,
}

/// All workers of a node; at least one.
#[derive(Debug, Clone)]
pub struct WorkerPool {
    first: WorkerAccess,
    rest: Vec<WorkerAccess>,
    fingerprint: [u8; 32],
}

impl WorkerPool {
    /// The workers, and the SHA-256 of the DTLS certificate that they share. None without a worker.
    #[must_use]
    pub fn new(mut workers: Vec<WorkerAccess>, fingerprint: [u8; 32]) -> Option<Self> {
        if workers.is_empty() {
            return None;
        }
        let first = workers.remove(0);
        Some(Self { first, rest: workers, fingerprint })
    }

    /// The worker that carries a room; a room is on one.
    #[must_use]
    pub fn for_room(&self, room: RoomKey) -> &WorkerAccess {
        let index = room.0 as usize % (1 + self.rest.len());
        index.checked_sub(1).and_then(|index| self.rest.get(index)).unwrap_or(&self.first)
    }

    /// SHA-256 of the DTLS certificate.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}
