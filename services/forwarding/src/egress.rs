//! What comes out of the core.

use crate::batch::Priority;
use crate::{SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Extensions, Layer, Packet, SenderReport};

/// One packet for one local subscriber, in that subscriber's own numbering. The connection adds
/// what belongs to its hop: payload type, SSRC, mid, transport-wide number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward<'a> {
    /// The codec of the payload.
    pub codec: Codec,
    /// RTP sequence number. For a retransmission: the original one (RFC 4588 OSN).
    pub seq: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// Header extensions that survive hops.
    pub ext: Extensions<'a>,
    /// The rewritten payload descriptor, empty when nothing was rewritten. Goes before `payload`.
    pub head: &'a [u8],
    /// The payload behind the descriptor that `head` replaces. `head` and `payload` both empty: a
    /// packet that only fills its number.
    pub payload: &'a [u8],
    /// Answer to a NACK, not a first sending.
    pub retransmission: bool,
    /// What the packet is worth when not all can be sent.
    pub priority: Priority,
}

/// Takes what the core sends. Every call is made from within a call to [`crate::Core`] and must
/// neither block nor fail; what cannot be sent is dropped and counted by the implementation.
pub trait Egress {
    /// A packet to one local subscriber.
    fn forward(&mut self, sub: SubscriptionId, out: &Forward<'_>);
    /// A packet to a downstream, as it came.
    fn feed(&mut self, peer: u32, flow: u32, priority: Priority, packet: &Packet<'_>);
    /// A publisher's sender report to a downstream, as it came.
    fn feed_report(&mut self, peer: u32, flow: u32, report: SenderReport);
    /// Asks the source of the track for a key frame of one layer.
    fn request_key_frame(&mut self, track: TrackId, layer: Layer);
    /// Asks the source of the track for packets that did not arrive (in the publisher's numbering).
    fn request_retransmission(&mut self, track: TrackId, layer: Layer, seqs: &[u16]);
}
