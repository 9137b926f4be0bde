//! Header extensions in session descriptions (RFC 8285).

use systir_media_control::ReceiveExtensions;
use systir_rtp::extension_table::{
    AUDIO_LEVEL, CAPTURE_TIME, DEPENDENCY, MID, ORIENTATION, PLAYOUT_DELAY, TRANSPORT_CC, uri,
};

/// The extensions of a subscriber's audio m-lines.
pub(super) const AUDIO: &[(u8, &str)] = &[
    (AUDIO_LEVEL, uri::AUDIO_LEVEL),
    (CAPTURE_TIME, uri::CAPTURE_TIME),
    (MID, uri::MID),
    (TRANSPORT_CC, uri::TRANSPORT_CC),
];

/// The extensions of a subscriber's video m-lines.
pub(super) const VIDEO: &[(u8, &str)] = &[
    (CAPTURE_TIME, uri::CAPTURE_TIME),
    (ORIENTATION, uri::ORIENTATION),
    (DEPENDENCY, uri::DEPENDENCY),
    (PLAYOUT_DELAY, uri::PLAYOUT_DELAY),
    (MID, uri::MID),
    (TRANSPORT_CC, uri::TRANSPORT_CC),
];

/// Stores a client's id of an extension. False when the extension is not supported or already has an id.
pub(super) fn store_id(into: &mut ReceiveExtensions, id: u8, name: &str) -> bool {
    let field = match name {
        uri::MID => &mut into.mid,
        uri::RID => &mut into.rid,
        uri::REPAIRED_RID => &mut into.repaired_rid,
        uri::TRANSPORT_CC => &mut into.transport_cc,
        uri::AUDIO_LEVEL => &mut into.audio_level,
        uri::CAPTURE_TIME => &mut into.capture_time,
        uri::ORIENTATION => &mut into.orientation,
        uri::DEPENDENCY => &mut into.dependency,
        uri::PLAYOUT_DELAY => &mut into.playout_delay,
        _ => return false,
    };
    if field.is_some() || id == 0 {
        return false;
    }
    *field = Some(id);
    true
}
