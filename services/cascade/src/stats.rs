//! Counters and measurements of a link.

use crate::queue::CLASSES;
use std::time::Duration;

/// One link, a consistent snapshot that is at most 0.1 s old. Counters start at zero with the link.
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
    /// Packets dropped from the send queue, by priority: control, audio, data messages, base layers,
    /// other layers.
    pub dropped: [u64; CLASSES],
    /// Packets sent as two datagrams.
    pub split: u64,
    /// Packets received as two datagrams.
    pub joined: u64,
    /// Packets dropped because two datagrams cannot hold them.
    pub too_large: u64,
    /// Malformed datagrams received.
    pub malformed: u64,
    /// Packets that this node requested again by NACK (RFC 4585).
    pub nacked_out: u64,
    /// Packets that the other node requested again by NACK.
    pub nacked_in: u64,
    /// Lossy data messages of participants sent as datagrams.
    pub data_messages_out: u64,
    /// Lossy data messages received as datagrams.
    pub data_messages_in: u64,
    /// Lossy data messages dropped on arrival because the session's queue was full.
    pub data_messages_lost: u64,
    /// Packets dropped on arrival: feedback for flows that no worker sends, media that nobody here subscribed to or for unknown
    /// workers.
    pub unroutable: u64,
    /// Packets dropped on arrival because the link had no more room in the ring to a worker.
    pub over_share: u64,
    /// QUIC packets sent and declared lost (first connection).
    pub lost: u64,
    /// QUIC packets sent (first connection).
    pub sent: u64,
    /// Smoothed round-trip time (first connection).
    pub rtt: Duration,
    /// Estimated rate in bytes per second: congestion window by round-trip time, times connections.
    pub rate: u64,
    /// Path MTU: largest UDP payload in bytes (first connection).
    pub mtu: u16,
    /// Media packets of workers for flows of no room that is open on the link: they were not sent.
    pub closed_flow_packets: u64,
    /// Messages received about rooms that were not open on the link, and dropped.
    pub closed_room_messages: u64,
    /// Room messages dropped because a queue was full; without those handed back to the caller.
    pub control_dropped: u64,
}
