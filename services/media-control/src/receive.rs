//! The media that a client sends, from its session description.

use systir_rtp::packet::{Codec, Layer};

use crate::TrackKey;

/// Header extension ids that a client sends with (RFC 8285), 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveExtensions {
    /// Media identification (RFC 8843).
    pub mid: Option<u8>,
    /// RTP stream id (RFC 8852).
    pub rid: Option<u8>,
    /// Repaired RTP stream id (RFC 8852).
    pub repaired_rid: Option<u8>,
    /// Transport-wide congestion control sequence number.
    pub transport_cc: Option<u8>,
    /// Audio level (RFC 6464).
    pub audio_level: Option<u8>,
    /// abs-capture-time.
    pub capture_time: Option<u8>,
    /// 3GPP video orientation.
    pub orientation: Option<u8>,
    /// AV1 dependency descriptor.
    pub dependency: Option<u8>,
    /// Playout delay.
    pub playout_delay: Option<u8>,
}

/// One payload type of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveCodec {
    /// The client's payload type.
    pub pt: u8,
    /// Its codec.
    pub codec: Codec,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_pt: Option<u8>,
    /// Whether the client answers NACKs (`a=rtcp-fb nack`).
    pub nack: bool,
}

/// A stream that the description announces by SSRC rather than by rid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveSsrc {
    /// Media SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions (`a=ssrc-group:FID`).
    pub rtx_ssrc: Option<u32>,
    /// Its layer: the position in `a=ssrc-group:SIM`, otherwise 0.
    pub layer: Layer,
}

/// One m-line that a client sends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSection {
    /// `a=mid`.
    pub mid: String,
    /// The published track that it carries; packets of a section without a track are dropped.
    pub track: Option<TrackKey>,
    /// Payload types with their codecs.
    pub codecs: Vec<ReceiveCodec>,
    /// Extension ids.
    pub extensions: ReceiveExtensions,
    /// Send rids of `a=simulcast`, with the layer of each.
    pub rids: Vec<(String, Layer)>,
    /// Streams announced by SSRC.
    pub ssrcs: Vec<ReceiveSsrc>,
}
