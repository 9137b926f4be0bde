//! What a client's description says about the media that the client sends.

use systir_rtp::packet::{Codec, Layer};

use crate::TrackKey;

/// Header extension ids that a client uses when it sends (RFC 8285), 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveExtensions {
    /// RFC 8843 mid.
    pub mid: Option<u8>,
    /// RFC 8852 rid.
    pub rid: Option<u8>,
    /// RFC 8852 repaired rid.
    pub repaired_rid: Option<u8>,
    /// Transport-wide congestion control sequence number.
    pub transport_cc: Option<u8>,
    /// RFC 6464.
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
    /// What it means.
    pub codec: Codec,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_pt: Option<u8>,
    /// May we ask for packets again (`a=rtcp-fb nack`)?
    pub nack: bool,
}

/// One stream that a section announced by SSRC rather than by rid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveSsrc {
    /// Media SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions (`a=ssrc-group:FID`).
    pub rtx_ssrc: Option<u32>,
    /// Which layer (order in `a=ssrc-group:SIM`, else 0).
    pub layer: Layer,
}

/// One m-line that a client sends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSection {
    /// `a=mid`.
    pub mid: String,
    /// The published track it carries; packets of a section without a track are dropped.
    pub track: Option<TrackKey>,
    /// Payload types, canonical meaning.
    pub codecs: Vec<ReceiveCodec>,
    /// Extension ids.
    pub extensions: ReceiveExtensions,
    /// `a=simulcast` send rids, with the layer that each means.
    pub rids: Vec<(String, Layer)>,
    /// Streams announced by SSRC.
    pub ssrcs: Vec<ReceiveSsrc>,
}
