//! Parameters of tracks: media kind and codec, the source of the packets, and how a subscriber receives
//! them.

use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

use crate::{ParticipantKey, TrackKey};

/// Media parameters of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackSpec {
    /// Audio or video.
    pub kind: Kind,
    /// Its codec.
    pub codec: Codec,
    /// Layers that it may have.
    pub layers: LayerSet,
}

/// Where a track's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackSource {
    /// A participant on this node.
    Participant(ParticipantKey),
    /// A link, with one flow per layer.
    Link {
        /// Link id.
        peer: u32,
        /// Flow id by layer.
        flows: [u32; Layer::MAX],
    },
}

/// What a track captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CaptureSource {
    /// A microphone, or other audio.
    Microphone,
    /// A camera, or other video.
    Camera,
    /// A screen.
    ScreenShare,
    /// The audio of a shared screen.
    ScreenShareAudio,
}

/// How a subscriber receives a track: the parameters of the m-line that the server offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downtrack {
    /// The track.
    pub track: TrackKey,
    /// What it captures.
    pub source: CaptureSource,
    /// `a=mid` of the m-line.
    pub mid: String,
    /// Media SSRC.
    pub ssrc: u32,
    /// SSRC of retransmissions (RTX); none for audio.
    pub rtx_ssrc: Option<u32>,
    /// Payload type.
    pub pt: u8,
    /// Payload type of retransmissions.
    pub rtx_pt: Option<u8>,
    /// Does the client report when packets of this m-line arrive (transport-wide congestion control)?
    pub transport_cc: bool,
    /// Payload type of plain Opus on a RED track, whose publisher may send both; none on other tracks.
    pub opus_pt: Option<u8>,
}
