//! Header extensions (RFC 8285). The ids are those that the server offers on every subscriber's
//! connection: 1 to 5 are the canonical ids of links, the rest belongs to one hop.

use systir_media_control::ReceiveExtensions;

/// RFC 6464.
pub const AUDIO_LEVEL: u8 = 1;
/// abs-capture-time.
pub const CAPTURE_TIME: u8 = 2;
/// 3GPP video orientation.
pub const ORIENTATION: u8 = 3;
/// AV1 dependency descriptor.
pub const DEPENDENCY: u8 = 4;
/// Playout delay.
pub const PLAYOUT_DELAY: u8 = 5;
/// RFC 8843 mid.
pub const MID: u8 = 6;
/// Transport-wide congestion control.
pub const TRANSPORT_CC: u8 = 7;

pub(super) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const AUDIO_LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const CAPTURE_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
const ORIENTATION_URI: &str = "urn:3gpp:video-orientation";
const DEPENDENCY_URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// The table of a subscriber's audio m-lines.
pub(super) const AUDIO: &[(u8, &str)] = &[
    (AUDIO_LEVEL, AUDIO_LEVEL_URI),
    (CAPTURE_TIME, CAPTURE_TIME_URI),
    (MID, MID_URI),
    (TRANSPORT_CC, TRANSPORT_CC_URI),
];

/// The table of a subscriber's video m-lines.
pub(super) const VIDEO: &[(u8, &str)] = &[
    (CAPTURE_TIME, CAPTURE_TIME_URI),
    (ORIENTATION, ORIENTATION_URI),
    (DEPENDENCY, DEPENDENCY_URI),
    (PLAYOUT_DELAY, PLAYOUT_DELAY_URI),
    (MID, MID_URI),
    (TRANSPORT_CC, TRANSPORT_CC_URI),
];

/// Notes a client's id when the extension is one that we understand; the first of two ids counts.
pub(super) fn note(into: &mut ReceiveExtensions, id: u8, uri: &str) -> bool {
    let field = match uri {
        MID_URI => &mut into.mid,
        RID_URI => &mut into.rid,
        REPAIRED_RID_URI => &mut into.repaired_rid,
        TRANSPORT_CC_URI => &mut into.transport_cc,
        AUDIO_LEVEL_URI => &mut into.audio_level,
        CAPTURE_TIME_URI => &mut into.capture_time,
        ORIENTATION_URI => &mut into.orientation,
        DEPENDENCY_URI => &mut into.dependency,
        PLAYOUT_DELAY_URI => &mut into.playout_delay,
        _ => return false,
    };
    if field.is_some() || id == 0 {
        return false;
    }
    *field = Some(id);
    true
}
