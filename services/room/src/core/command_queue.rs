//! What a room still has to tell its worker. All rooms of a worker share one short queue; while it
//! is full each room keeps its own commands, in order, and takes its turn like the others.

use std::collections::VecDeque;
use std::time::Duration;

use systir_media_control::{Command, DataChannel};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Commands that may wait, data messages included.
const MAX_WAITING: usize = 8192;
/// From here on lossy messages are dropped, and the room takes no more from its worker.
const LONG: usize = 1024;
/// How long the end of a room waits for a worker that takes nothing.
const FLUSH: Duration = Duration::from_secs(30);

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// The worker has it, or will get it.
    Kept,
    /// A lossy message was dropped.
    Dropped,
    /// Nothing more can wait: all that waited is gone and the room must begin again.
    Overflow,
}

/// One room's commands.
#[derive(Debug)]
pub(super) struct Orders {
    commands: mpsc::Sender<Command>,
    waiting: VecDeque<Command>,
    overflowed: bool,
}

impl Orders {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands, waiting: VecDeque::new(), overflowed: false }
    }

    /// Tells the worker, now or in its turn. After an overflow everything is refused until
    /// [`Orders::begin_again`].
    pub(super) fn give(&mut self, command: Command) -> Given {
        if self.overflowed {
            return Given::Overflow;
        }
        let command = if self.waiting.is_empty() {
            match self.commands.try_send(command) {
                // Without its worker the node stops; nobody is left to obey.
                Ok(()) | Err(TrySendError::Closed(_)) => return Given::Kept,
                Err(TrySendError::Full(command)) => command,
            }
        } else {
            command
        };
        let lossy = matches!(&command, Command::SendData { channel: DataChannel::Lossy, .. });
        if lossy && self.is_long() {
            return Given::Dropped;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
            self.overflowed = true;
            return Given::Overflow;
        }
        self.waiting.push_back(command);
        Given::Kept
    }

    /// Has the worker so much to catch up with that the room should not give it more than it must?
    pub(super) fn is_long(&self) -> bool {
        self.waiting.len() >= LONG
    }

    /// Has the worker caught up?
    pub(super) fn is_short(&self) -> bool {
        self.waiting.len() < LONG / 2
    }

    /// Must the room begin again?
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// The room is told to the worker afresh.
    pub(super) fn begin_again(&mut self) {
        self.waiting.clear();
        self.overflowed = false;
    }

    /// Hands over one waiting command as soon as the worker has room, and then all it takes.
    /// Pending while nothing waits. Nothing is lost when it is not awaited to its end.
    pub(super) async fn hand_over(&mut self) {
        if self.waiting.is_empty() {
            return std::future::pending().await;
        }
        match self.commands.reserve().await {
            Ok(place) => {
                if let Some(command) = self.waiting.pop_front() {
                    place.send(command);
                }
            }
            Err(_) => return self.waiting.clear(),
        }
        while let Ok(place) = self.commands.try_reserve() {
            let Some(command) = self.waiting.pop_front() else { return };
            place.send(command);
        }
    }

    /// The room ends: what waits is handed over. False when the worker took nothing for 30 s.
    pub(super) async fn flush(mut self) -> bool {
        while !self.waiting.is_empty() {
            if tokio::time::timeout(FLUSH, self.hand_over()).await.is_err() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use systir_media_control::{ParticipantKey, TrackKey};

    use super::*;

    fn remove(number: u64) -> Command {
        Command::RemoveTrack { track: TrackKey(number) }
    }

    fn data(channel: DataChannel) -> Command {
        Command::SendData { participant: ParticipantKey(1), channel, data: Bytes::from_static(b"hello") }
    }

    fn number(command: Command) -> u64 {
        match command {
            Command::RemoveTrack { track } => track.0,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_worker_that_stalls_loses_no_command_and_no_order() {
        let (sender, mut worker) = mpsc::channel(4);
        let mut orders = Orders::new(sender);
        for command in 0..500 {
            assert_eq!(orders.give(remove(command)), Given::Kept);
        }
        let all = tokio::spawn(orders.flush());
        for expected in 0..500 {
            assert_eq!(worker.recv().await.map(number), Some(expected));
        }
        assert!(all.await.unwrap());
        assert!(worker.recv().await.is_none(), "each command came once");
    }

    #[tokio::test]
    async fn one_rooms_backlog_leaves_the_others_their_turn() {
        let (sender, mut worker) = mpsc::channel(1);
        let mut busy = Orders::new(sender.clone());
        for command in 0..2000 {
            busy.give(remove(command));
        }
        let busy = tokio::spawn(busy.flush());
        let mut quiet = Orders::new(sender);
        quiet.give(remove(9999));
        let quiet = tokio::spawn(quiet.flush());
        let mut before = 0;
        while worker.recv().await.map(number) != Some(9999) {
            before += 1;
        }
        assert!(before < 1000, "the quiet room waited for {before} commands of the busy one");
        drop(worker);
        assert!(busy.await.unwrap() && quiet.await.unwrap());
    }

    #[test]
    fn lossy_messages_give_way_and_an_overflow_is_told() {
        let (sender, _worker) = mpsc::channel(1);
        let mut orders = Orders::new(sender);
        orders.give(remove(0));
        while !orders.is_long() {
            assert_eq!(orders.give(data(DataChannel::Lossy)), Given::Kept);
        }
        assert_eq!(orders.give(data(DataChannel::Lossy)), Given::Dropped);
        assert_eq!(orders.give(data(DataChannel::Reliable)), Given::Kept);
        let mut given = Given::Kept;
        for command in 0..=MAX_WAITING as u64 {
            given = orders.give(remove(command));
        }
        assert_eq!(given, Given::Overflow);
        assert!(orders.has_overflowed());
        orders.begin_again();
        assert_eq!(orders.give(remove(1)), Given::Kept);
    }
}
