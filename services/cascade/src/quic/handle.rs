//! The control half's way to the thread.

use super::command::Command;
use crate::event::LinkNumber;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// The control half's grip on the thread.
#[derive(Clone)]
pub(crate) struct QuicHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) messages: mpsc::Sender<(LinkNumber, Bytes)>,
    pub(super) lost: Arc<LostPackets>,
}

/// Packets lost between the threads.
#[derive(Debug, Default)]
pub(super) struct LostPackets {
    pub(super) to_workers: AtomicU64,
    pub(super) unknown_link: AtomicU64,
}

impl QuicHandle {
    /// Asks; false when the thread is gone or does not keep up.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Sends a frame that may be lost; false when it is.
    pub(crate) fn send_data_message(&self, link: LinkNumber, frame: Bytes) -> bool {
        self.messages.try_send((link, frame)).is_ok()
    }

    /// Packets lost to full rings, and packets of workers for links that are gone.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.lost.to_workers.load(Ordering::Relaxed), self.lost.unknown_link.load(Ordering::Relaxed))
    }
}
