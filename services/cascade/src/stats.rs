//! What a link has carried and lost.

use crate::queue::CLASSES;
use std::time::Duration;

/// One link at one moment, all numbers from the same moment, a tenth of a second old at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Media packets sent.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Media packets received.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets that did not get room in time, by priority: control, audio, messages, base layers, the
    /// rest.
    pub dropped: [u64; CLASSES],
    /// Packets sent in two halves.
    pub split: u64,
    /// Packets received in two halves.
    pub joined: u64,
    /// Packets that two datagrams could not hold.
    pub too_large: u64,
    /// Datagrams that were no frames.
    pub malformed: u64,
    /// Packets that this node asked the other for again.
    pub nacked_out: u64,
    /// Packets that the other node asked this one for again.
    pub nacked_in: u64,
    /// Lossy messages of people sent as datagrams.
    pub data_messages_out: u64,
    /// Received.
    pub data_messages_in: u64,
    /// Received, and lost because this node did not take them in time.
    pub data_messages_lost: u64,
    /// Feedback for flows that nobody here sends, and media for workers that do not exist.
    pub unroutable: u64,
    /// QUIC packets lost on the way out.
    pub lost: u64,
    /// QUIC packets sent.
    pub sent: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Bytes per second that the path is thought to carry.
    pub rate: u64,
    /// Largest UDP payload in use.
    pub mtu: u16,
    /// Control messages about rooms that were not open on the link; they went no further.
    pub closed_room_messages: u64,
    /// Control messages that might be lost and were, because the peer did not read.
    pub control_dropped: u64,
}
