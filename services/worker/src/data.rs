//! LiveKit's data channels: the server opens `_reliable` and `_lossy` to a subscriber; a publisher opens its
//! own with the same labels.

use std::collections::VecDeque;

use bytes::Bytes;
use systir_transport::{ChannelId, SendError, Transport};

use systir_media_control::DataChannel;

/// Messages that may wait until a channel is open, or until its send buffer has room.
const MAX_WAITING: usize = 64;

/// The channel with this label; none for other labels, such as LiveKit's `_data_track`.
pub(super) fn channel_of(label: &str) -> Option<DataChannel> {
    match label {
        "_reliable" => Some(DataChannel::Reliable),
        "_lossy" => Some(DataChannel::Lossy),
        _ => None,
    }
}

/// A channel that we opened to a subscriber.
#[derive(Debug)]
struct OwnChannel {
    id: ChannelId,
    open: bool,
    closed: bool,
    waiting: VecDeque<Bytes>,
}

impl OwnChannel {
    fn new(id: ChannelId) -> Self {
        Self { id, open: false, closed: false, waiting: VecDeque::new() }
    }

    /// Sends waiting messages. Returns how many were lost.
    fn send_waiting(&mut self, transport: &mut Transport) -> u64 {
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
    reliable: OwnChannel,
    lossy: OwnChannel,
}

impl Channels {
    /// Opens both; they are open once the connection is up.
    pub(super) fn open(transport: &mut Transport) -> Self {
        let reliable = OwnChannel::new(transport.open_channel("_reliable", true, None));
        let lossy = OwnChannel::new(transport.open_channel("_lossy", false, Some(0)));
        Self { reliable, lossy }
    }

    fn by_id(&mut self, id: ChannelId) -> Option<&mut OwnChannel> {
        [&mut self.reliable, &mut self.lossy].into_iter().find(|own| own.id == id)
    }

    /// A channel is open: sends waiting messages. Returns how many were lost.
    pub(super) fn opened(&mut self, id: ChannelId, transport: &mut Transport) -> u64 {
        let Some(own) = self.by_id(id) else { return 0 };
        own.open = true;
        own.send_waiting(transport)
    }

    /// A channel closed. Returns how many waiting messages were lost.
    pub(super) fn closed(&mut self, id: ChannelId) -> u64 {
        let Some(own) = self.by_id(id) else { return 0 };
        own.open = false;
        own.closed = true;
        std::mem::take(&mut own.waiting).len() as u64
    }

    /// Sends waiting messages while the send buffer has room. Returns how many were lost.
    pub(super) fn retry(&mut self, transport: &mut Transport) -> u64 {
        let all = [&mut self.reliable, &mut self.lossy];
        all.into_iter().filter(|own| own.open).map(|own| own.send_waiting(transport)).sum()
    }

    /// Whether a message waits on an open channel.
    pub(super) fn is_behind(&self) -> bool {
        [&self.reliable, &self.lossy].into_iter().any(|own| own.open && !own.waiting.is_empty())
    }

    /// Sends a message, or queues it until the channel is open. False when it is dropped. While the send
    /// buffer is full, a reliable message waits and a lossy one is dropped.
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
