//! The canonical RTP header extensions on links (RFC 8285, two-byte header form, profile 0x1000).
//! Ingress maps each client's ids to these; egress maps them to what the server offered.

/// Version of this table (`Hello.extension_table`).
pub const TABLE_VERSION: u32 = 1;

/// RFC 6464 audio level, 1 byte.
pub const AUDIO_LEVEL: u8 = 1;
/// abs-capture-time, 8 or 16 bytes.
pub const CAPTURE_TIME: u8 = 2;
/// 3GPP TS 26.114 video orientation, 1 byte.
pub const ORIENTATION: u8 = 3;
/// AV1 dependency descriptor, 1 to 255 bytes.
pub const DEPENDENCY: u8 = 4;
/// Playout delay, 3 bytes.
pub const PLAYOUT_DELAY: u8 = 5;

/// Each canonical id with the URI that SDP gives it.
pub const TABLE: [(u8, &str); 5] = [
    (AUDIO_LEVEL, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (CAPTURE_TIME, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (ORIENTATION, "urn:3gpp:video-orientation"),
    (DEPENDENCY, "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"),
    (PLAYOUT_DELAY, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_places_in_the_table() {
        for (place, (id, _)) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(*id), place + 1);
        }
    }
}
