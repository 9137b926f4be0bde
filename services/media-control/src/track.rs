//! Tracks as a worker knows them: what a track is, where its packets come from, and how a subscriber
//! receives it.

use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

use crate::{ParticipantKey, TrackKey};

/// What a track is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackSpec {
    /// Sound or pictures.
    pub kind: Kind,
    /// Its codec.
    pub codec: Codec,
    /// Layers it may have.
    pub layers: LayerSet,
}

/// Where a track's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackSource {
    /// A participant on this node.
    Participant(ParticipantKey),
    /// A link: which one, and the flow of each layer.
    Link {
        /// Link id.
        peer: u32,
        /// Flow identifier by layer.
        flows: [u32; Layer::MAX],
    },
}

/// How a subscriber receives a track: what the server offered for that m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downtrack {
    /// The track.
    pub track: TrackKey,
    /// `a=mid` of the m-line.
    pub mid: String,
    /// SSRC.
    pub ssrc: u32,
    /// SSRC of retransmissions; none for sound.
    pub rtx_ssrc: Option<u32>,
    /// Payload type.
    pub pt: u8,
    /// Payload type of retransmissions.
    pub rtx_pt: Option<u8>,
}
