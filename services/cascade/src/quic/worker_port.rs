//! The rings between a media worker and the links.

use systir_forwarding::batch::{BatchReceiver, BatchSender};

/// One worker's rings, seen from the links.
pub struct WorkerPort {
    /// Packets that the worker sends.
    pub from: BatchReceiver,
    /// Packets for the worker.
    pub to: BatchSender,
}
