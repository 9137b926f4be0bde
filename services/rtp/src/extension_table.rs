//! The server's header extension ids (RFC 8285). All clients and links use the same table, so that a packet's
//! header does not depend on its receiver. Ids 1 to 5 are also used on links (two-byte form, profile 0x1000);
//! the others belong to one hop. Ingress maps each client's ids to these.

/// Version of the table on links (`Hello.extension_table`).
pub const VERSION: u32 = 1;

/// The highest id that is used on links.
pub const LAST_ON_LINKS: u8 = PLAYOUT_DELAY;

/// Client-to-mixer audio level, RFC 6464; 1 byte.
pub const AUDIO_LEVEL: u8 = 1;
/// abs-capture-time, 8 or 16 bytes.
pub const CAPTURE_TIME: u8 = 2;
/// Coordination of video orientation, 3GPP TS 26.114; 1 byte.
pub const ORIENTATION: u8 = 3;
/// AV1 dependency descriptor, 1 to 255 bytes.
pub const DEPENDENCY: u8 = 4;
/// Playout delay, 3 bytes.
pub const PLAYOUT_DELAY: u8 = 5;
/// Media identification, RFC 8843.
pub const MID: u8 = 6;
/// Transport-wide sequence number, 2 bytes.
pub const TRANSPORT_CC: u8 = 7;

/// URIs of the extensions in session descriptions.
pub mod uri {
    /// Client-to-mixer audio level, RFC 6464; 1 byte.
    pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    /// abs-capture-time, 8 or 16 bytes.
    pub const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    /// Coordination of video orientation, 3GPP TS 26.114; 1 byte.
    pub const ORIENTATION: &str = "urn:3gpp:video-orientation";
    /// AV1 dependency descriptor, 1 to 255 bytes.
    pub const DEPENDENCY: &str =
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
    /// Playout delay, 3 bytes.
    pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    /// Media identification, RFC 8843.
    pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    /// Transport-wide sequence number.
    pub const TRANSPORT_CC: &str =
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    /// Stream id, RFC 8852; only clients send it.
    pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    /// Repaired stream id, RFC 8852; only clients send it.
    pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
}

/// All ids with their URIs.
pub const TABLE: [(u8, &str); 7] = [
    (AUDIO_LEVEL, uri::AUDIO_LEVEL),
    (CAPTURE_TIME, uri::CAPTURE_TIME),
    (ORIENTATION, uri::ORIENTATION),
    (DEPENDENCY, uri::DEPENDENCY),
    (PLAYOUT_DELAY, uri::PLAYOUT_DELAY),
    (MID, uri::MID),
    (TRANSPORT_CC, uri::TRANSPORT_CC),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_the_one_byte_form_and_are_unique() {
        for (position, (id, uri)) in TABLE.iter().enumerate() {
            assert!((1..=14).contains(id), "{uri} needs the two-byte form");
            assert!(TABLE.iter().skip(position + 1).all(|(other, _)| other != id), "{id} is used twice");
        }
    }

    #[test]
    fn ids_are_the_positions_in_the_table_and_links_use_the_first() {
        for (position, (id, _)) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(*id), position + 1);
        }
        assert!(
            [AUDIO_LEVEL, CAPTURE_TIME, ORIENTATION, DEPENDENCY, PLAYOUT_DELAY]
                .iter()
                .all(|id| *id <= LAST_ON_LINKS)
        );
        assert!([MID, TRANSPORT_CC].iter().all(|id| *id > LAST_ON_LINKS));
    }
}
