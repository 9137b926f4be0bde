//! LiveKit's data channels: the server opens `_reliable` and `_lossy` to a subscriber; a publisher opens its
//! own with the same labels.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use systir_transport::{ChannelId, SendError, Transport};

use super::reader_queue::{ReaderQueue, Stalled};
use systir_media_control::DataChannel;

/// Lossy messages that may wait until their channel is open.
const MAX_WAITING_LOSSY: usize = 64;

/// The channel with this label; none for other labels, such as LiveKit's `_data_track`.
pub(super) fn channel_of(label: &str) -> Option<DataChannel> {
    match label {
        "_reliable" => Some(DataChannel::Reliable),
        "_lossy" => Some(DataChannel::Lossy),
        _ => None,
    }
}

/// State of a channel that we opened to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelState {
    Opening,
    Open,
    Closed,
}

/// The channels that we opened on a subscriber's connection.
#[derive(Debug)]
pub(super) struct Channels {
    reliable: (ChannelId, ChannelState),
    /// Reliable messages that wait until the channel is open, or until its send buffer has room.
    unread: ReaderQueue,
    /// Reliable messages that were sent before the channel was open, and are lost because too many waited.
    lost_early: u64,
    lossy: (ChannelId, ChannelState),
    /// Lossy messages that wait until the channel is open.
    early: VecDeque<Bytes>,
}

impl Channels {
    /// Opens both; they are open once the connection is up.
    pub(super) fn open(transport: &mut Transport) -> Self {
        Self {
            reliable: (transport.open_channel("_reliable", true, None), ChannelState::Opening),
            unread: ReaderQueue::default(),
            lost_early: 0,
            lossy: (transport.open_channel("_lossy", false, Some(0)), ChannelState::Opening),
            early: VecDeque::new(),
        }
    }

    /// A channel is open: sends waiting messages. Returns how many were lost.
    pub(super) fn opened(&mut self, id: ChannelId, transport: &mut Transport) -> u64 {
        if id == self.lossy.0 {
            self.lossy.1 = ChannelState::Open;
            let sent = self.early.drain(..).map(|data| transport.send(id, &data));
            return sent.filter(Result::is_err).count() as u64;
        }
        let mut lost = 0;
        if id == self.reliable.0 {
            self.reliable.1 = ChannelState::Open;
            lost = std::mem::take(&mut self.lost_early);
        }
        lost + self.retry(transport)
    }

    /// A channel closed. Returns how many waiting messages were lost.
    pub(super) fn closed(&mut self, id: ChannelId) -> u64 {
        if id == self.lossy.0 {
            self.lossy.1 = ChannelState::Closed;
            return self.early.drain(..).count() as u64;
        }
        if id == self.reliable.0 {
            return self.end();
        }
        0
    }

    /// Sends no reliable messages any more. Returns how many waited.
    pub(super) fn end(&mut self) -> u64 {
        self.reliable.1 = ChannelState::Closed;
        self.unread.clear()
    }

    /// Sends waiting messages while the send buffer has room. Returns how many were lost.
    pub(super) fn retry(&mut self, transport: &mut Transport) -> u64 {
        match self.reliable {
            (id, ChannelState::Open) => self.unread.flush(|data| transport.send(id, data)),
            _ => 0,
        }
    }

    /// Whether a message waits on an open channel.
    pub(super) fn is_behind(&self) -> bool {
        self.reliable.1 == ChannelState::Open && !self.unread.is_empty()
    }

    /// Do those who send have to wait for this reader? Not while its channel is not open yet.
    pub(super) fn is_slow(&self) -> bool {
        self.reliable.1 == ChannelState::Open && self.unread.is_slow()
    }

    /// Does the reader still take enough? It can take nothing before its channel is open.
    ///
    /// # Errors
    /// It does not, and is to be ended.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Stalled> {
        if self.reliable.1 == ChannelState::Open { self.unread.check(now) } else { Ok(()) }
    }

    /// Sends a reliable message after those that wait. False when it is dropped because the channel is closed.
    ///
    /// # Errors
    /// Too much waits already. The reader is to be ended.
    pub(super) fn send_reliable(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        data: Bytes,
    ) -> Result<bool, Stalled> {
        if self.reliable.1 == ChannelState::Closed {
            return Ok(false);
        }
        if self.reliable.1 == ChannelState::Opening {
            if self.unread.push(now, data.clone()).is_err() {
                // It gets what is sent from now on, without a gap.
                self.lost_early += self.unread.clear();
                self.unread.push(now, data)?;
            }
            return Ok(true);
        }
        if self.is_behind() {
            self.unread.push(now, data)?;
            return Ok(true);
        }
        match transport.send(self.reliable.0, &data) {
            Ok(()) => Ok(true),
            Err(SendError::WouldBlock) => self.unread.push(now, data).map(|()| true),
            Err(SendError::TooLarge { .. } | SendError::Closed) => Ok(false),
        }
    }

    /// Sends a lossy message. False when it is dropped.
    pub(super) fn send_lossy(&mut self, transport: &mut Transport, data: Bytes) -> bool {
        match self.lossy {
            (id, ChannelState::Open) => transport.send(id, &data).is_ok(),
            (_, ChannelState::Opening) if self.early.len() < MAX_WAITING_LOSSY => {
                self.early.push_back(data);
                true
            }
            _ => false,
        }
    }

    /// Sends a message, or queues it. False when it is dropped.
    ///
    /// # Errors
    /// Too much waits already. The reader is to be ended.
    pub(super) fn send(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        channel: DataChannel,
        data: Bytes,
    ) -> Result<bool, Stalled> {
        match channel {
            DataChannel::Reliable => self.send_reliable(now, transport, data),
            DataChannel::Lossy => Ok(self.send_lossy(transport, data)),
        }
    }
}
