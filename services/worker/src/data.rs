//! LiveKit's data channels: the server opens `_reliable` and `_lossy` to a subscriber, a
//! publisher opens its own; labels tell which is which.

use std::collections::VecDeque;

use bytes::Bytes;
use systir_transport::{ChannelId, SendError, Transport};

use systir_media_control::DataChannel;

/// Messages that may wait for a channel to open or to drain.
const MAX_WAITING: usize = 64;

/// Which channel a label means. LiveKit's `_data_track` is neither.
pub(super) fn channel_of(label: &str) -> Option<DataChannel> {
    match label {
        "_reliable" => Some(DataChannel::Reliable),
        "_lossy" => Some(DataChannel::Lossy),
        _ => None,
    }
}

/// One of our channels to a subscriber.
#[derive(Debug)]
struct Own {
    id: ChannelId,
    open: bool,
    closed: bool,
    waiting: VecDeque<Bytes>,
}

impl Own {
    fn new(id: ChannelId) -> Self {
        Self { id, open: false, closed: false, waiting: VecDeque::new() }
    }

    /// Messages that were lost.
    fn drain(&mut self, transport: &mut Transport) -> u64 {
        let mut lost = 0;
        while let Some(data) = self.waiting.front() {
            match transport.send(self.id, data) {
                Ok(()) => {}
                Err(SendError::WouldBlock) => break,
                Err(SendError::TooLarge { .. } | SendError::Closed) => lost += 1,
            }
            self.waiting.pop_front();
        }
        lost
    }
}

/// The channels that we opened on a subscriber's connection.
#[derive(Debug)]
pub(super) struct Channels {
    reliable: Own,
    lossy: Own,
}

impl Channels {
    /// Opens both; they come up with the connection.
    pub(super) fn open(transport: &mut Transport) -> Self {
        let reliable = Own::new(transport.open_channel("_reliable", true, None));
        let lossy = Own::new(transport.open_channel("_lossy", false, Some(0)));
        Self { reliable, lossy }
    }

    fn by_id(&mut self, id: ChannelId) -> Option<&mut Own> {
        [&mut self.reliable, &mut self.lossy].into_iter().find(|own| own.id == id)
    }

    /// A channel is open: what waited goes out. Says how many messages were lost.
    pub(super) fn opened(&mut self, id: ChannelId, transport: &mut Transport) -> u64 {
        let Some(own) = self.by_id(id) else { return 0 };
        own.open = true;
        own.drain(transport)
    }

    /// A channel ended. Says how many messages were lost with it.
    pub(super) fn closed(&mut self, id: ChannelId) -> u64 {
        let Some(own) = self.by_id(id) else { return 0 };
        own.open = false;
        own.closed = true;
        std::mem::take(&mut own.waiting).len() as u64
    }

    /// Sends what waits, as far as the client takes it. Says how many messages were lost.
    pub(super) fn retry(&mut self, transport: &mut Transport) -> u64 {
        let all = [&mut self.reliable, &mut self.lossy];
        all.into_iter().filter(|own| own.open).map(|own| own.drain(transport)).sum()
    }

    /// Does a message wait on an open channel?
    pub(super) fn is_behind(&self) -> bool {
        [&self.reliable, &self.lossy].into_iter().any(|own| own.open && !own.waiting.is_empty())
    }

    /// Sends a message, or keeps it until the channel is open. False when it is lost. A reliable
    /// message waits for a client that takes data too slowly, a lossy one does not.
    pub(super) fn send(&mut self, transport: &mut Transport, channel: DataChannel, data: Bytes) -> bool {
        let own = match channel {
            DataChannel::Reliable => &mut self.reliable,
            DataChannel::Lossy => &mut self.lossy,
        };
        if own.closed {
            return false;
        }
        if own.open && own.waiting.is_empty() {
            match transport.send(own.id, &data) {
                Ok(()) => return true,
                Err(SendError::WouldBlock) if channel == DataChannel::Reliable => {}
                Err(_) => return false,
            }
        }
        if own.waiting.len() >= MAX_WAITING {
            return false;
        }
        own.waiting.push_back(data);
        true
    }
}
