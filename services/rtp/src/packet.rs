//! The normalised packet: an RTP packet (RFC 3550) without the fields that belong to one hop (payload
//! type, mid, rid, transport-wide sequence number, SSRC).

/// Kind of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// Codecs. The number is the canonical RTP payload type, used on links and offered to subscribers (the
/// same as LiveKit's, so that packet captures of both look alike).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Codec {
    /// RFC 7587.
    Opus = 111,
    /// Redundant audio, RFC 2198, of Opus.
    Red = 63,
    /// G.711 mu-law, RFC 3551.
    Pcmu = 0,
    /// G.711 A-law, RFC 3551.
    Pcma = 8,
    /// RFC 7741.
    Vp8 = 96,
    /// RFC 9628.
    Vp9 = 98,
    /// RFC 6184, packetization mode 1, constrained baseline.
    H264 = 125,
    /// AV1 RTP payload format 1.0.
    Av1 = 35,
}

impl Codec {
    /// All codecs that may be published.
    pub const ALL: [Self; 8] =
        [Self::Opus, Self::Red, Self::Pcmu, Self::Pcma, Self::Vp8, Self::Vp9, Self::H264, Self::Av1];

    /// The codec of a canonical payload type.
    #[must_use]
    pub fn from_payload_type(pt: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| *codec as u8 == pt)
    }

    /// Audio or video.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus | Self::Red | Self::Pcmu | Self::Pcma => Kind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => Kind::Video,
        }
    }

    /// Whether packets of both codecs may come on one stream: RED and the Opus that it contains.
    #[must_use]
    pub fn shares_stream_with(self, other: Self) -> bool {
        self == other || matches!((self, other), (Self::Red, Self::Opus) | (Self::Opus, Self::Red))
    }

    /// RTP clock rate in Hz.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Red => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }
}

/// A simulcast layer, lowest first: 0 is LiveKit's rid `q`, 1 is `h`, 2 is `f`. A track without
/// simulcast has layer 0 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Layer(pub u8);

impl Layer {
    /// Largest number of layers of a track.
    pub const MAX: usize = 3;
}

/// A set of layers as a bit mask: bit n is layer n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LayerSet(pub u8);

impl LayerSet {
    /// No layer.
    pub const NONE: Self = Self(0);

    /// The set with one more layer.
    #[must_use]
    pub fn with(self, layer: Layer) -> Self {
        Self(self.0 | 1u8.checked_shl(u32::from(layer.0)).unwrap_or(0))
    }

    /// Whether the layer is in the set.
    #[must_use]
    pub fn contains(self, layer: Layer) -> bool {
        self.0 & 1u8.checked_shl(u32::from(layer.0)).unwrap_or(0) != 0
    }

    /// The union of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set has no layer.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The layers of the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Layer> {
        (0..Layer::MAX as u8).map(Layer).filter(move |layer| self.contains(*layer))
    }
}

/// Audio level of a packet (RFC 6464).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// Level in -dBov: 0 is loudest, 127 is silence.
    pub level: u8,
    /// Whether the encoder detected voice activity.
    pub voice: bool,
}

/// The canonical header extensions: those that survive a hop, with the same ids on links and for
/// subscribers. Links exchange the version of the table ([`crate::extension_table::VERSION`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions<'a> {
    /// Canonical id 1.
    pub audio_level: Option<AudioLevel>,
    /// Canonical id 2: abs-capture-time, the raw 8 or 16 bytes.
    pub capture_time: Option<&'a [u8]>,
    /// Canonical id 3: video orientation (3GPP TS 26.114), the raw byte.
    pub orientation: Option<u8>,
    /// Canonical id 4: AV1 dependency descriptor, raw.
    pub dependency: Option<&'a [u8]>,
    /// Canonical id 5: playout delay, the raw 3 bytes.
    pub playout_delay: Option<[u8; 3]>,
}

impl Extensions<'_> {
    /// Bytes of all elements that are there, in the one-byte form (RFC 8285 section 4.2).
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        let lengths = [
            self.audio_level.map(|_| 1),
            self.capture_time.map(<[u8]>::len),
            self.orientation.map(|_| 1),
            self.dependency.map(<[u8]>::len),
            self.playout_delay.map(|_| 3),
        ];
        lengths.into_iter().flatten().map(|len| 1 + len).sum()
    }
}

/// One media packet of one layer of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The codec of the payload.
    pub codec: Codec,
    /// Extended sequence number of the publisher's stream; it never wraps.
    pub seq: u64,
    /// RTP timestamp in the codec's clock, as the publisher sent it.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// Header extensions that survive a hop.
    pub ext: Extensions<'a>,
    /// The payload, unchanged. With end-to-end encryption, only its descriptor is readable.
    pub payload: &'a [u8],
}

/// A publisher's sender report (RFC 3550 section 6.4.1) for one layer: the wall-clock time of an RTP
/// timestamp. It is forwarded unchanged to every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// NTP time of the publisher, 32.32 fixed point.
    pub ntp: u64,
    /// RTP timestamp of the same instant.
    pub timestamp: u32,
}
