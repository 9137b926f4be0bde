//! Counts the entries of an encoded signalling message before it is decoded. An entry of two bytes takes up to 300 in
//! memory, so the length of a message does not bound what it takes.

use bytes::Buf as _;
use prost::encoding::decode_varint;

/// Entries of a client's request, at most: more than the 10,000 sids that a request may have.
pub const MAX_REQUEST_ENTRIES: usize = 1 << 14;
/// Entries of a message to a client, at most: a join to a room of 1,000 participants with two tracks each has about half.
pub const MAX_RESPONSE_ENTRIES: usize = 1 << 17;
/// The deepest messages within messages that are looked into; LiveKit's are less deep.
const MAX_DEPTH: u32 = 12;

/// Has this protobuf message at most so many texts and messages, those of the messages in it included? Numbers are not
/// counted: they take little more in memory. A text is looked into as if it were a message; few have anything that counts.
#[must_use]
pub fn has_few_entries(message: &[u8], most: usize) -> bool {
    count(message, MAX_DEPTH, most).is_some()
}

/// How many entries may follow; none when there are too many. Ends where decoding would end with an error.
fn count(mut rest: &[u8], depth: u32, mut left: usize) -> Option<usize> {
    let mut groups = 0_usize;
    while !rest.is_empty() {
        let Ok(key) = decode_varint(&mut rest) else { break };
        let length = match key & 7 {
            0 if decode_varint(&mut rest).is_ok() => 0,
            1 => 8,
            2 => {
                left = left.checked_sub(1)?;
                let length = decode_varint(&mut rest).ok().and_then(|length| usize::try_from(length).ok());
                length.unwrap_or(usize::MAX)
            }
            // What is in a group follows.
            3 => {
                groups += 1;
                0
            }
            4 if groups > 0 => {
                groups -= 1;
                0
            }
            5 => 4,
            _ => break,
        };
        let Some(content) = rest.get(..length) else { break };
        rest.advance(length);
        if key & 7 == 2 && depth > 0 {
            left = count(content, depth - 1, left)?;
        }
    }
    Some(left)
}

/// Has this JSON text at most so many values?
#[must_use]
pub fn json_has_few_entries(text: &str, most: usize) -> bool {
    let (mut in_string, mut escaped, mut entries) = (false, false, 0);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'{' | b'[' if !in_string => entries += 1,
            _ => {}
        }
    }
    entries <= most
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{self as proto, signal_request::Message as Request};
    use prost::Message as _;

    use super::*;

    fn request(message: Request) -> proto::SignalRequest {
        proto::SignalRequest { message: Some(message) }
    }

    fn few(request: &proto::SignalRequest) -> [bool; 2] {
        [
            has_few_entries(&request.encode_to_vec(), MAX_REQUEST_ENTRIES),
            json_has_few_entries(&serde_json::to_string(request).unwrap(), MAX_REQUEST_ENTRIES),
        ]
    }

    fn many<T: Clone + Default>(entries: usize) -> Vec<T> {
        vec![T::default(); entries]
    }

    /// A request with each of the lists.
    #[allow(deprecated)]
    fn lists(entries: usize) -> Vec<proto::SignalRequest> {
        let layers = proto::SimulcastCodec { layers: many(entries), ..Default::default() };
        let info = proto::TrackInfo { layers: many(entries), ..Default::default() };
        let published = proto::TrackPublishedResponse { track: Some(info), ..Default::default() };
        vec![
            request(Request::SyncState(proto::SyncState {
                publish_tracks: many(entries),
                ..Default::default()
            })),
            request(Request::SyncState(proto::SyncState {
                publish_tracks: vec![published],
                ..Default::default()
            })),
            request(Request::AddTrack(proto::AddTrackRequest {
                layers: many(entries),
                ..Default::default()
            })),
            request(Request::AddTrack(proto::AddTrackRequest {
                simulcast_codecs: vec![layers],
                ..Default::default()
            })),
            request(Request::Subscription(proto::UpdateSubscription {
                participant_tracks: many(entries),
                ..Default::default()
            })),
            request(Request::TrackSetting(proto::UpdateTrackSettings {
                track_sids: many(entries),
                ..Default::default()
            })),
        ]
    }

    #[test]
    fn a_request_of_very_many_entries_is_not_decoded_whatever_its_list() {
        for request in lists(100_000) {
            assert_eq!(few(&request), [false; 2], "{:.100}", format!("{request:?}"));
        }
        for request in lists(1_000) {
            assert_eq!(few(&request), [true; 2]);
        }
    }

    #[test]
    fn entries_after_a_group_are_counted() {
        let mut bytes = vec![0x0b, 0x0c];
        bytes.extend(lists(100_000)[0].encode_to_vec());
        assert!(!has_few_entries(&bytes, MAX_REQUEST_ENTRIES));
    }

    #[test]
    fn what_a_client_needs_has_few_entries() {
        let text = |length: usize| {
            "{\"a\": [1, 2, {}], \"b\": \"\\\"\"},\n".chars().cycle().take(length).collect::<String>()
        };
        let sids = (0..10_000).map(|number| format!("TR_VC{number:08}")).collect();
        let attributes = (0..2_000).map(|number| (format!("attribute {number}"), text(16))).collect();
        for request in [
            request(Request::Subscription(proto::UpdateSubscription {
                track_sids: sids,
                ..Default::default()
            })),
            request(Request::UpdateMetadata(proto::UpdateParticipantMetadata {
                metadata: text(64 * 1024),
                attributes,
                ..Default::default()
            })),
            request(Request::Offer(proto::SessionDescription {
                sdp: "a=rtcp-fb:96 nack pli\r\n".repeat(20_000) + &"x".repeat(500_000),
                ..Default::default()
            })),
        ] {
            assert_eq!(few(&request), [true; 2], "{:.100}", format!("{request:?}"));
        }
    }

    #[test]
    #[allow(deprecated)]
    fn a_join_to_a_room_of_1000_has_few_entries() {
        let layer = || proto::VideoLayer {
            width: 1280,
            height: 720,
            bitrate: 1_000_000,
            ssrc: 7,
            rid: "h".into(),
            ..Default::default()
        };
        let track = |sid: &str| proto::TrackInfo {
            sid: sid.into(),
            name: "camera".into(),
            width: 1280,
            height: 720,
            layers: vec![layer(), layer(), layer()],
            mime_type: "video/VP8".into(),
            codecs: vec![proto::SimulcastCodecInfo {
                layers: vec![layer(), layer(), layer()],
                ..Default::default()
            }],
            version: Some(proto::TimedVersion { unix_micro: 1, ticks: 2 }),
            ..Default::default()
        };
        let participant = proto::ParticipantInfo {
            sid: "PA_bob".into(),
            identity: "bob".into(),
            tracks: vec![track("TR_VCbob"), track("TR_AMbob")],
            permission: Some(proto::ParticipantPermission { can_publish: true, ..Default::default() }),
            attributes: [("systir.node".to_owned(), "cph-1".to_owned())].into(),
            ..Default::default()
        };
        let join = proto::JoinResponse { other_participants: vec![participant; 1_000], ..Default::default() };
        let message = Some(proto::signal_response::Message::Join(join));
        let bytes = proto::SignalResponse { message }.encode_to_vec();
        assert!(has_few_entries(&bytes, MAX_RESPONSE_ENTRIES / 2));
    }
}
