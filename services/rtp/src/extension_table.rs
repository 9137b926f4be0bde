//! Header extension ids that the server offers to every subscriber (RFC 8285). One table for all
//! connections, so that a packet's header can be written without asking who it goes to; ids 1 to 5
//! equal those of links (`systir_rtp::packet::Extensions`).

/// Client-to-mixer audio level, RFC 6464.
pub const AUDIO_LEVEL: u8 = 1;
/// Absolute capture time.
pub const CAPTURE_TIME: u8 = 2;
/// Coordination of video orientation, 3GPP TS 26.114.
pub const ORIENTATION: u8 = 3;
/// AV1 dependency descriptor.
pub const DEPENDENCY: u8 = 4;
/// Playout delay.
pub const PLAYOUT_DELAY: u8 = 5;
/// Media identification, RFC 8843.
pub const MID: u8 = 6;
/// Transport-wide sequence number.
pub const TRANSPORT_CC: u8 = 7;

/// Every id with the URI that descriptions name it by.
pub const TABLE: [(u8, &str); 7] = [
    (AUDIO_LEVEL, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (CAPTURE_TIME, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (ORIENTATION, "urn:3gpp:video-orientation"),
    (DEPENDENCY, "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"),
    (PLAYOUT_DELAY, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
    (MID, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (TRANSPORT_CC, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_the_one_byte_form_and_are_used_once() {
        for (position, (id, uri)) in TABLE.iter().enumerate() {
            assert!((1..=14).contains(id), "{uri} needs the two-byte form");
            assert!(TABLE.iter().skip(position + 1).all(|(other, _)| other != id), "{id} is used twice");
        }
    }
}
