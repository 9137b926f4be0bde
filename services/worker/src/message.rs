//! What rooms send to a worker: commands, and where a room's events go.

use systir_media_control::{Command, Event, RoomKey};
use tokio::sync::mpsc;

/// One message in a worker's queue.
#[derive(Debug)]
pub enum WorkerMessage {
    /// A room whose participants this worker may carry.
    OpenRoom {
        /// The room.
        room: RoomKey,
        /// Where its events go. While it is full, speakers and requests for key frames are dropped.
        events: mpsc::Sender<Event>,
    },
    /// A command about an open room.
    Command(Command),
}

impl From<Command> for WorkerMessage {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}
