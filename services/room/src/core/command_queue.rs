//! The command queue: commands of one room that wait for its worker. All rooms of a worker share the worker's
//! short queue. While that is full, each room keeps its own commands, in order.

use std::collections::VecDeque;

use systir_media_control::{DataChannel, WorkerCommand};

use super::pushed::Pushed;

/// Most waiting commands, including data messages.
const MAX_WAITING: usize = 9216;
/// From this length on lossy data is dropped while the worker is blocked, and the room stops accepting worker
/// events and client requests.
const LONG: usize = 1024;

/// What a room sends to its worker.
#[derive(Debug)]
pub enum WorkerRequest {
    /// Opens the room at the worker. The driver adds the channel for the room's events.
    OpenRoom,
    /// A command for the open room.
    Command(WorkerCommand),
}

/// The commands of one room.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    waiting: VecDeque<WorkerRequest>,
    /// The worker did not accept the first waiting command.
    blocked: bool,
    overflowed: bool,
}

impl CommandQueue {
    /// Queues a command. After an overflow every command is refused until [`CommandQueue::restart`].
    pub(super) fn push(&mut self, request: WorkerRequest) -> Pushed {
        if self.overflowed {
            return Pushed::Overflowed;
        }
        let lossy = matches!(
            &request,
            WorkerRequest::Command(WorkerCommand::SendData { channel: DataChannel::Lossy, .. })
        );
        if lossy && self.blocked && self.is_long() {
            return Pushed::Dropped;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
            self.overflowed = true;
            return Pushed::Overflowed;
        }
        self.waiting.push_back(request);
        Pushed::Kept
    }

    /// The next command, in order.
    pub(super) fn pop(&mut self) -> Option<WorkerRequest> {
        self.waiting.pop_front()
    }

    /// Sends commands until the worker accepts no more. `send` returns a command that it does not accept now.
    pub(super) fn flush(&mut self, mut send: impl FnMut(WorkerRequest) -> Result<(), WorkerRequest>) {
        self.blocked = false;
        while let Some(request) = self.waiting.pop_front() {
            if let Err(back) = send(request) {
                self.waiting.push_front(back);
                self.blocked = true;
                return;
            }
        }
    }

    /// Are there waiting commands?
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Is the queue so long that the room should stop accepting events?
    pub(super) fn is_long(&self) -> bool {
        self.waiting.len() >= LONG
    }

    /// Is the queue short enough that the room may accept events again?
    pub(super) fn is_short(&self) -> bool {
        self.waiting.len() < LONG / 2
    }

    /// Must the room restart at its worker?
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Empties the queue: the room restarts at its worker, or the worker has ended.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use systir_media_control::{ParticipantKey, TrackKey};

    use super::*;

    fn remove(number: u64) -> WorkerRequest {
        WorkerRequest::Command(WorkerCommand::RemoveTrack { track: TrackKey(number) })
    }

    fn data(channel: DataChannel) -> WorkerRequest {
        WorkerRequest::Command(WorkerCommand::SendData {
            participant: ParticipantKey(1),
            channel,
            data: Bytes::from_static(b"hello"),
        })
    }

    #[test]
    fn commands_keep_their_order() {
        let mut queue = CommandQueue::default();
        for command in 0..500 {
            assert_eq!(queue.push(remove(command)), Pushed::Kept);
        }
        // A worker that accepts one command in three attempts.
        let (mut numbers, mut attempts) = (Vec::new(), 0);
        while queue.is_waiting() {
            queue.flush(|request| {
                attempts += 1;
                match request {
                    WorkerRequest::Command(WorkerCommand::RemoveTrack { track }) if attempts % 3 == 0 => {
                        numbers.push(track.0);
                        Ok(())
                    }
                    other => Err(other),
                }
            });
        }
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        assert!(!queue.is_waiting());
    }

    #[test]
    fn lossy_data_is_dropped_first_and_an_overflow_is_reported() {
        let mut queue = CommandQueue::default();
        while !queue.is_long() {
            assert_eq!(queue.push(data(DataChannel::Lossy)), Pushed::Kept);
        }
        assert_eq!(
            queue.push(data(DataChannel::Lossy)),
            Pushed::Kept,
            "dropped before the worker was blocked"
        );
        queue.flush(Err);
        assert_eq!(queue.push(data(DataChannel::Lossy)), Pushed::Dropped);
        assert_eq!(queue.push(data(DataChannel::Reliable)), Pushed::Kept);
        let mut pushed = Pushed::Kept;
        for command in 0..=MAX_WAITING as u64 {
            pushed = queue.push(remove(command));
        }
        assert_eq!(pushed, Pushed::Overflowed);
        assert!(queue.has_overflowed() && !queue.is_waiting());
        queue.restart();
        assert_eq!(queue.push(remove(1)), Pushed::Kept);
    }
}
