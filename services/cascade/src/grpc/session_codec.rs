//! Reads and writes the messages of sessions. What the state of a whole room needs may be long, so the entries of a message are
//! counted before it is decoded: an entry of two bytes takes up to a hundred in memory.

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::{Malformed, fields};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Fields of one message, at most: more than a room of 1,000 needs in its longest list.
const MAX_FIELDS: usize = 1 << 14;
/// `SessionMessage.room`.
const ROOM: u32 = 6;
/// The fields of `RoomMessage` that are messages, and not texts or bytes.
const ROOM_BODIES: [u32; 11] = [2, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15];

/// The codec of sessions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SessionCodec;

impl Codec for SessionCodec {
    type Encode = SessionMessage;
    type Decode = SessionMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SessionCodec {
    type Item = SessionMessage;
    type Error = Status;

    fn encode(&mut self, message: SessionMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for SessionCodec {
    type Item = SessionMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<SessionMessage>, Status> {
        decode(&from.copy_to_bytes(from.remaining())).map(Some)
    }
}

fn decode(message: &Bytes) -> Result<SessionMessage, Status> {
    match has_few_fields(message) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Status::out_of_range(format!("a message has more than {MAX_FIELDS} entries")));
        }
        Err(Malformed) => return Err(Status::internal("a message is malformed")),
    }
    // A copy: a part of `Bytes` would hold the whole message as long as it is kept.
    SessionMessage::decode(&message[..]).map_err(|error| Status::internal(error.to_string()))
}

/// Entry point for the fuzz target: a message that is read has few entries, and is read as it is written.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) -> Option<SessionMessage> {
    let message = decode(&Bytes::copy_from_slice(bytes)).ok()?;
    assert!(entries(&message) <= MAX_FIELDS);
    // As bytes: a level that is no number equals nothing.
    let written = message.encode_to_vec();
    let again = decode(&written.clone().into()).ok().map(|again| again.encode_to_vec());
    assert_eq!(again, Some(written));
    Some(message)
}

/// The length of the message's list.
#[cfg(feature = "fuzzing")]
fn entries(message: &SessionMessage) -> usize {
    use systir_proto::cluster::v1::room_message::Body as RoomBody;
    use systir_proto::cluster::v1::session_message::Body;
    match &message.body {
        Some(Body::RoomRefused(refused)) => refused.rules.len(),
        Some(Body::Documents(list)) => list.documents.len(),
        Some(Body::Room(room)) => match &room.body {
            Some(RoomBody::StateUpdate(update)) => update.updates.len(),
            Some(RoomBody::Speakers(speakers)) => speakers.speakers.len(),
            Some(RoomBody::Links(links)) => links.links.len(),
            Some(RoomBody::Qualities(qualities)) => qualities.qualities.len(),
            Some(RoomBody::Assignment(assignment)) => assignment.spill.len(),
            Some(RoomBody::ReliableData(data)) => data.destination_identities.len(),
            Some(RoomBody::LossyData(data)) => data.destination_identities.len(),
            _ => 0,
        },
        _ => 0,
    }
}

/// Counts the fields of an encoded message down to the lists of room messages; no list is deeper.
fn has_few_fields(message: &[u8]) -> Result<bool, Malformed> {
    let mut count = 0;
    for field in fields(message) {
        let (kind, body) = field?;
        count += 1;
        for field in fields(body) {
            let (part, content) = field?;
            count += 1;
            if kind == ROOM && ROOM_BODIES.contains(&part) {
                for field in fields(content) {
                    field?;
                    count += 1;
                    if count > MAX_FIELDS {
                        return Ok(false);
                    }
                }
            }
            if count > MAX_FIELDS {
                return Ok(false);
            }
        }
        if count > MAX_FIELDS {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use systir_proto::cluster::v1::room_message::Body as RoomBody;
    use systir_proto::cluster::v1::session_message::Body;
    use systir_proto::cluster::v1::{
        DocumentList, LossyData, OpenRoom, Qualities, ReliableData, RoomAssignment, RoomLinks, RoomMessage,
        RoomRefused, Speakers, StateUpdate,
    };

    fn few(body: Body) -> Result<bool, Malformed> {
        has_few_fields(&SessionMessage { body: Some(body) }.encode_to_vec())
    }

    fn in_room(body: RoomBody) -> Body {
        Body::Room(RoomMessage { room: "ku.dk/x".to_owned(), body: Some(body) })
    }

    /// Each message that has a list, with so many entries.
    fn lists(entries: usize) -> Vec<Body> {
        fn many<T: Clone + Default>(entries: usize) -> Vec<T> {
            vec![T::default(); entries]
        }
        let destination_identities = many(entries);
        vec![
            in_room(RoomBody::StateUpdate(StateUpdate { updates: many(entries), snapshot: true })),
            in_room(RoomBody::Speakers(Speakers { speakers: many(entries) })),
            in_room(RoomBody::Links(RoomLinks { links: many(entries) })),
            in_room(RoomBody::Qualities(Qualities { qualities: many(entries) })),
            in_room(RoomBody::Assignment(RoomAssignment { spill: many(entries), ..Default::default() })),
            in_room(RoomBody::ReliableData(ReliableData {
                destination_identities: destination_identities.clone(),
                ..Default::default()
            })),
            in_room(RoomBody::LossyData(LossyData { destination_identities, ..Default::default() })),
            Body::RoomRefused(RoomRefused { rules: many(entries), ..Default::default() }),
            Body::Documents(DocumentList { documents: many(entries) }),
        ]
    }

    #[test]
    fn a_message_with_very_many_entries_is_refused_before_it_is_decoded_whatever_its_list() {
        for body in lists(8_000) {
            assert_eq!(few(body), Ok(true));
        }
        for body in lists(1_000_000) {
            assert_eq!(few(body), Ok(false));
        }
        // One message may repeat its body, which adds the entries.
        for body in lists(MAX_FIELDS - 100) {
            let message = SessionMessage { body: Some(body) }.encode_to_vec();
            assert_eq!(has_few_fields(&message), Ok(true));
            assert_eq!(has_few_fields(&message.repeat(2)), Ok(false));
        }
    }

    #[test]
    fn what_is_kept_of_a_message_does_not_hold_the_rest_of_it() {
        let ticket = || Bytes::from_static(b"a ticket");
        let packet = ticket();
        for body in [
            RoomBody::Ticket(ticket()),
            RoomBody::ReliableData(ReliableData { packet, ..Default::default() }),
            RoomBody::StateUpdate(StateUpdate { updates: vec![ticket()], snapshot: false }),
        ] {
            let mut room =
                RoomMessage { room: "ku.dk/x".to_owned(), body: Some(body.clone()) }.encode_to_vec();
            // A field of a newer version.
            prost::encoding::bytes::encode(100, &vec![7; 1 << 20], &mut room);
            let mut message = Vec::new();
            prost::encoding::bytes::encode(ROOM, &room, &mut message);
            let message = Bytes::from(message);
            let decoded = decode(&message).unwrap();
            assert_eq!(decoded.body, Some(in_room(body)));
            assert!(message.is_unique(), "{decoded:?}");
        }
    }

    #[test]
    fn contents_that_are_no_messages_are_not_counted() {
        let bytes = || vec![0x0a; 1 << 20];
        assert_eq!(few(in_room(RoomBody::Ticket(bytes().into()))), Ok(true));
        let packet = bytes().into();
        assert_eq!(
            few(in_room(RoomBody::ReliableData(ReliableData { packet, ..Default::default() }))),
            Ok(true)
        );
        let updates = vec![bytes().into(); 10];
        assert_eq!(few(in_room(RoomBody::StateUpdate(StateUpdate { updates, snapshot: true }))), Ok(true));
        let grant = String::from_utf8(bytes()).unwrap();
        assert_eq!(few(Body::OpenRoom(OpenRoom { grant, ..Default::default() })), Ok(true));
    }
}
