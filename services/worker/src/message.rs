//! Messages from rooms to a worker: commands, and the event channel of a room.

use systir_media_control::{RoomNumber, WorkerCommand, WorkerEvent};
use tokio::sync::mpsc;

/// One message in a worker's queue.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Opens a room on this worker.
    OpenRoom {
        /// The room.
        room: RoomNumber,
        /// Receives its events. While it is full, events that are repeated later are dropped (speakers, key
        /// frame requests, codecs) and the others wait, at most 1024 data messages.
        events: mpsc::Sender<WorkerEvent>,
    },
    /// A command about an open room.
    Command(WorkerCommand),
}

impl From<WorkerCommand> for WorkerMessage {
    fn from(command: WorkerCommand) -> Self {
        Self::Command(command)
    }
}
