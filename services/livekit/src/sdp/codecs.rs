//! The canonical codecs, which the server offers to subscribers, and how a client's payload types map to
//! them. The canonical payload type is the number of [`Codec`]; its retransmissions (RFC 4588) have the next
//! number.

use systir_rtp::packet::{Codec, Kind};

/// Canonical payload type of a codec's retransmissions; audio has none.
#[must_use]
pub fn rtx_payload_type(codec: Codec) -> Option<u8> {
    (codec.kind() == Kind::Video).then_some(codec as u8 + 1)
}

/// `encoding/clock[/channels]` of `a=rtpmap`.
#[must_use]
pub fn rtpmap(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus/48000/2",
        Codec::Red => "red/48000/2",
        Codec::Pcmu => "PCMU/8000",
        Codec::Pcma => "PCMA/8000",
        Codec::Vp8 => "VP8/90000",
        Codec::Vp9 => "VP9/90000",
        Codec::H264 => "H264/90000",
        Codec::Av1 => "AV1/90000",
    }
}

/// `a=fmtp` as the server offers it.
#[must_use]
pub fn fmtp(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::Opus => Some("minptime=10;useinbandfec=1"),
        Codec::Red => Some("111/111"),
        Codec::Vp9 => Some("profile-id=0"),
        Codec::H264 => Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        Codec::Pcmu | Codec::Pcma | Codec::Vp8 | Codec::Av1 => None,
    }
}

/// `a=rtcp-fb` values that the server supports, in the order in which they are written.
#[must_use]
pub fn feedback(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Audio => &["transport-cc", "nack"],
        Kind::Video => &["transport-cc", "ccm fir", "nack", "nack pli"],
    }
}

/// The MIME type in LiveKit's `TrackInfo`.
#[must_use]
pub fn mime(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "audio/opus",
        Codec::Red => "audio/red",
        Codec::Pcmu => "audio/PCMU",
        Codec::Pcma => "audio/PCMA",
        Codec::Vp8 => "video/VP8",
        Codec::Vp9 => "video/VP9",
        Codec::H264 => "video/H264",
        Codec::Av1 => "video/AV1",
    }
}

/// The codec of a MIME type or of its subtype alone, case-insensitive: clients send both.
#[must_use]
pub fn from_mime(text: &str) -> Option<Codec> {
    let name = text.rsplit('/').next().unwrap_or_default();
    Codec::ALL
        .into_iter()
        .find(|codec| mime(*codec).rsplit('/').next().is_some_and(|own| own.eq_ignore_ascii_case(name)))
}

/// One payload type of an m-line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfferedCodec {
    /// Payload type.
    pub pt: u8,
    /// Encoding name, as written.
    pub name: String,
    /// Clock rate in Hz.
    pub clock: u32,
    /// Channels; 1 when not given.
    pub channels: u8,
    /// `a=fmtp` without the payload type.
    pub fmtp: String,
    /// `apt` of `a=fmtp`, if this is `rtx`: the payload type whose packets are sent again (RFC 4588).
    pub repairs: Option<u8>,
    /// `a=rtcp-fb` values that the server supports, each once.
    pub feedback: Vec<&'static str>,
}

impl OfferedCodec {
    pub(super) fn add_feedback(&mut self, value: &'static str) {
        if !self.feedback.contains(&value) {
            self.feedback.push(value);
        }
    }

    /// A parameter of `a=fmtp`; its name is case-insensitive.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.split(';').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The canonical codec and a rank: of several payload types of one codec the lowest rank is used.
    #[must_use]
    pub fn canonical(&self) -> Option<(Codec, u8)> {
        let codec = from_mime(&self.name)?;
        if self.clock != codec.clock_rate() {
            return None;
        }
        match codec {
            Codec::Opus | Codec::Red => (self.channels == 2).then_some((codec, 0)),
            Codec::Pcmu | Codec::Pcma => (self.channels == 1).then_some((codec, 0)),
            Codec::Vp8 => Some((codec, 0)),
            Codec::Vp9 => matches!(self.parameter("profile-id"), None | Some("0")).then_some((codec, 0)),
            Codec::Av1 => matches!(self.parameter("profile"), None | Some("0")).then_some((codec, 0)),
            Codec::H264 => self.h264_rank().map(|rank| (codec, rank)),
        }
    }

    /// The server offers constrained baseline in packetization mode 1 to subscribers (RFC 6184 section 8.1).
    /// Baseline is accepted with a higher rank, because its encoders usually write streams that a constrained
    /// baseline decoder can decode.
    fn h264_rank(&self) -> Option<u8> {
        if self.parameter("packetization-mode") != Some("1") {
            return None;
        }
        let profile = self.parameter("profile-level-id").unwrap_or("420010");
        let value = u32::from_str_radix(profile, 16).ok().filter(|_| profile.len() == 6)?;
        let (profile_idc, constraints) = (value >> 16, (value >> 8) & 0xff);
        match (profile_idc, constraints & 0x40 != 0) {
            (0x42, true) => Some(0),
            (0x42, false) => Some(1),
            _ => None,
        }
    }
}
