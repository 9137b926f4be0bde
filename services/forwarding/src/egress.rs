//! The output of the core.

use crate::batch::Priority;
use crate::{SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Extensions, Layer, Packet, SenderReport};

/// One packet for one local subscriber, with the subscriber's own sequence numbers and timestamps. The
/// connection adds what belongs to its hop: payload type, SSRC, mid, transport-wide sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward<'a> {
    /// The codec of the payload.
    pub codec: Codec,
    /// RTP sequence number. Of a retransmission: the original sequence number (OSN, RFC 4588 section 4).
    pub seq: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// Header extensions that are forwarded end to end.
    pub ext: Extensions<'a>,
    /// The rewritten payload descriptor, sent before `payload`. Empty when nothing was rewritten.
    pub head: &'a [u8],
    /// The payload without the descriptor that `head` replaces. When `head` and `payload` are both empty,
    /// the packet is padding that only uses its sequence number.
    pub payload: &'a [u8],
    /// Is it sent again, in answer to a NACK?
    pub retransmission: bool,
    /// Of a layer that was sent before: a key frame of another one followed, from which the subscriber decodes.
    pub is_superseded: bool,
    /// Priority when not all packets can be sent.
    pub priority: Priority,
    /// Bytes of padding with which it is as long as the longest packet of its video frame: packets of one length leave
    /// in one message. At most [`crate::MAX_PADDING`].
    pub padding: u8,
}

/// Sends for the core. Each call is made within a call to [`crate::Core`], and must neither block nor fail:
/// the implementation drops and counts what it cannot send.
pub trait Egress {
    /// A packet is queued for a local subscriber that had none. [`crate::Core::pull`] sends it.
    fn queued(&mut self, sub: SubscriptionId);
    /// Sends a packet to one local subscriber.
    fn forward(&mut self, sub: SubscriptionId, out: &Forward<'_>);
    /// Sends a packet to a downstream, with the publisher's sequence number and timestamp.
    fn feed(&mut self, peer: u32, flow: u32, priority: Priority, packet: &Packet<'_>);
    /// Sends the publisher's sender report to a downstream, with its values kept.
    fn feed_report(&mut self, peer: u32, flow: u32, report: SenderReport);
    /// Requests a key frame of one layer from the source of the track.
    fn request_key_frame(&mut self, track: TrackId, layer: Layer);
    /// Requests missing packets from the source of the track, by the publisher's sequence numbers.
    fn request_retransmission(&mut self, track: TrackId, layer: Layer, seqs: &[u16]);
}
