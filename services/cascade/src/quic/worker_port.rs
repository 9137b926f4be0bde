//! The rings between a media worker and the links.

use systir_forwarding::batch::{BatchReceiver, BatchSender};

/// The rings of one worker, as the QUIC thread uses them.
pub struct WorkerPort {
    /// Packets from the worker.
    pub from: BatchReceiver,
    /// Packets for the worker.
    pub to: BatchSender,
}
