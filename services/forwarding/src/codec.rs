//! What the core reads of payloads: where key frames start, and VP8's picture numbers. It reads only
//! descriptors and NAL unit headers, because the rest may be end-to-end encrypted.

pub mod av1;
pub mod h264;
mod key_frame;
pub mod vp8;
pub mod vp9;

pub use key_frame::KeyFrameStart;

use systir_rtp::packet::{Codec, Packet};
use vp8::Descriptor;

/// What the core read of one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadInfo {
    /// Does a key frame start?
    pub key_frame_start: KeyFrameStart,
    /// VP8 payload descriptor; none for other codecs.
    pub vp8: Option<Descriptor>,
}

/// Reads what the core needs of a payload. None when the payload descriptor is malformed.
#[must_use]
pub fn inspect(packet: &Packet<'_>) -> Option<PayloadInfo> {
    let start = |yes: bool| if yes { KeyFrameStart::Yes } else { KeyFrameStart::No };
    Some(match packet.codec {
        Codec::Opus | Codec::Red | Codec::Pcmu | Codec::Pcma => PayloadInfo::default(),
        Codec::Vp8 => {
            let descriptor = Descriptor::parse(packet.payload)?;
            let key = descriptor.begins_key_frame(packet.payload);
            PayloadInfo { key_frame_start: start(key), vp8: Some(descriptor) }
        }
        Codec::Vp9 => {
            PayloadInfo { key_frame_start: start(vp9::begins_key_frame(packet.payload)?), vp8: None }
        }
        Codec::H264 => PayloadInfo { key_frame_start: h264::key_frame_start(packet.payload), vp8: None },
        Codec::Av1 => PayloadInfo {
            key_frame_start: start(av1::begins_key_frame(packet.ext.dependency, packet.payload)),
            vp8: None,
        },
    })
}
