//! The handle of the QUIC thread.

use super::command::QuicCommand;
use crate::event::LinkNumber;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Sends commands and data messages to the QUIC thread.
#[derive(Clone)]
pub(crate) struct QuicHandle {
    pub(super) commands: mpsc::Sender<QuicCommand>,
    pub(super) messages: mpsc::Sender<(LinkNumber, Bytes)>,
    pub(super) lost: Arc<LostPackets>,
}

/// Packets lost between the workers' threads and this one.
#[derive(Debug, Default)]
pub(super) struct LostPackets {
    /// Dropped by full rings to workers.
    pub(super) to_workers: AtomicU64,
    /// Sent by workers to links that are down.
    pub(super) unknown_link: AtomicU64,
}

impl QuicHandle {
    /// Sends a command. False when the thread has ended or its queue is full.
    pub(crate) fn send(&self, command: QuicCommand) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Sends the frame of a lossy data message. False when it is dropped.
    pub(crate) fn send_data_message(&self, link: LinkNumber, frame: Bytes) -> bool {
        self.messages.try_send((link, frame)).is_ok()
    }

    /// Packets dropped by full rings to workers, and packets of workers for links that are down.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.lost.to_workers.load(Ordering::Relaxed), self.lost.unknown_link.load(Ordering::Relaxed))
    }
}
