//! Data messages. The server sets the sender's identity and sid, so that no client can send in the name of
//! another participant. All other fields are copied without decoding, so that fields of newer clients are
//! kept.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::token::Grants;

/// Longest message that is forwarded, bytes. Clients split messages at 64 000 bytes.
pub const MAX_DATA_BYTES: usize = 64 * 1024;

/// Most destinations of one message.
const MAX_DESTINATIONS: usize = 1000;

/// Field numbers of `DataPacket`.
mod packet {
    pub(super) const USER: u32 = 2;
    pub(super) const SPEAKER: u32 = 3;
    pub(super) const IDENTITY: u32 = 4;
    pub(super) const DESTINATIONS: u32 = 5;
    pub(super) const SID: u32 = 17;
}

/// Field numbers of `UserPacket`, which older clients read.
mod user {
    pub(super) const SID: u32 = 1;
    pub(super) const IDENTITY: u32 = 5;
    pub(super) const DESTINATIONS: u32 = 6;
}

/// Why a data message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The participant may not send data.
    #[error("the participant may not send data: its token lacks canPublishData")]
    NotAllowed,
    /// Longer than [`MAX_DATA_BYTES`].
    #[error("the data message is longer than {MAX_DATA_BYTES} bytes")]
    TooLong,
    /// Not a `DataPacket`, or one with several user packets.
    #[error("the data message is not a DataPacket")]
    Malformed,
    /// It contains a speaker update, which only the server sends.
    #[error("the data message contains a speaker update")]
    SpeakerUpdate,
    /// Too many destinations.
    #[error("the data message names more than {MAX_DESTINATIONS} destinations")]
    TooManyDestinations,
}

/// A message to forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedData {
    /// The message with the sender's identity and sid.
    pub packet: Bytes,
    /// Identities of the receivers; empty for all other participants.
    pub destinations: Vec<String>,
}

/// Checks a client's message and sets its sender.
///
/// # Errors
/// The message must be dropped and counted.
pub fn route_data(grants: &Grants, sid: &str, message: &[u8]) -> Result<RoutedData, DataError> {
    if !grants.can_publish_data {
        return Err(DataError::NotAllowed);
    }
    if message.len() > MAX_DATA_BYTES {
        return Err(DataError::TooLong);
    }
    let mut out = BytesMut::with_capacity(message.len() + sid.len() + grants.identity.len() + 16);
    let mut destinations = Vec::new();
    let mut user_destinations = Vec::new();
    let mut has_user = false;
    let mut rest = message;
    while rest.has_remaining() {
        let field = Field::take(&mut rest)?;
        match (field.tag, field.wire) {
            (packet::IDENTITY | packet::SID, _) => {}
            (packet::SPEAKER, _) => return Err(DataError::SpeakerUpdate),
            (packet::DESTINATIONS, WireType::LengthDelimited) => {
                destinations.push(field.text()?);
                out.put_slice(field.raw);
            }
            // A sender is written into each, so many empty ones would make a message many times as long.
            (packet::USER, _) if std::mem::replace(&mut has_user, true) => return Err(DataError::Malformed),
            (packet::USER, WireType::LengthDelimited) => {
                let user = set_user_sender(field.body, sid, &grants.identity, &mut user_destinations)?;
                put_bytes(&mut out, packet::USER, &user);
            }
            _ => out.put_slice(field.raw),
        }
        if destinations.len().max(user_destinations.len()) > MAX_DESTINATIONS {
            return Err(DataError::TooManyDestinations);
        }
    }
    put_bytes(&mut out, packet::IDENTITY, grants.identity.as_bytes());
    put_bytes(&mut out, packet::SID, sid.as_bytes());
    if destinations.is_empty() {
        destinations = user_destinations;
    }
    Ok(RoutedData { packet: out.freeze(), destinations })
}

fn set_user_sender(
    mut rest: &[u8],
    sid: &str,
    identity: &str,
    destinations: &mut Vec<String>,
) -> Result<BytesMut, DataError> {
    let mut out = BytesMut::with_capacity(rest.len() + sid.len() + identity.len() + 8);
    while rest.has_remaining() {
        let field = Field::take(&mut rest)?;
        match (field.tag, field.wire) {
            (user::IDENTITY | user::SID, _) => continue,
            (user::DESTINATIONS, WireType::LengthDelimited) => destinations.push(field.text()?),
            _ => {}
        }
        out.put_slice(field.raw);
    }
    put_bytes(&mut out, user::SID, sid.as_bytes());
    put_bytes(&mut out, user::IDENTITY, identity.as_bytes());
    Ok(out)
}

fn put_bytes(out: &mut BytesMut, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// One encoded field of a message.
struct Field<'a> {
    tag: u32,
    wire: WireType,
    /// Key and value.
    raw: &'a [u8],
    /// The value of a length-delimited field.
    body: &'a [u8],
}

impl<'a> Field<'a> {
    fn take(rest: &mut &'a [u8]) -> Result<Self, DataError> {
        let start = *rest;
        let malformed = |_| DataError::Malformed;
        let (tag, wire) = decode_key(rest).map_err(malformed)?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(rest).map_err(malformed)?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                usize::try_from(decode_varint(rest).map_err(malformed)?).map_err(|_| DataError::Malformed)?
            }
            // LiveKit's messages have no groups.
            WireType::StartGroup | WireType::EndGroup => return Err(DataError::Malformed),
        };
        let body = rest.get(..length).ok_or(DataError::Malformed)?;
        rest.advance(length);
        let raw = start.get(..start.len() - rest.len()).ok_or(DataError::Malformed)?;
        Ok(Self { tag, wire, raw, body })
    }

    fn text(&self) -> Result<String, DataError> {
        std::str::from_utf8(self.body).map(str::to_owned).map_err(|_| DataError::Malformed)
    }
}

#[cfg(test)]
#[allow(deprecated)]
mod tests {
    use livekit_protocol::{self as proto, data_packet::Value};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::tests::grants;
    use super::*;

    fn user_packet(destinations: &[&str]) -> proto::DataPacket {
        proto::DataPacket {
            kind: 1,
            participant_identity: "mallory".into(),
            participant_sid: "PA_mallory".into(),
            destination_identities: destinations.iter().map(ToString::to_string).collect(),
            sequence: 7,
            value: Some(Value::User(proto::UserPacket {
                participant_sid: "PA_mallory".into(),
                participant_identity: "mallory".into(),
                payload: b"hello".to_vec(),
                topic: Some("chat".into()),
                ..Default::default()
            })),
        }
    }

    #[test]
    fn sender_is_set_whatever_the_client_claims() {
        let routed = route_data(&grants("ada"), "PA_ada", &user_packet(&["bob"]).encode_to_vec()).unwrap();
        assert_eq!(routed.destinations, ["bob"]);
        let packet = proto::DataPacket::decode(routed.packet).unwrap();
        assert_eq!(
            (packet.participant_identity.as_str(), packet.participant_sid.as_str()),
            ("ada", "PA_ada")
        );
        assert_eq!((packet.sequence, packet.kind), (7, 1));
        let Some(Value::User(user)) = packet.value else { panic!("not a user packet") };
        assert_eq!((user.participant_identity.as_str(), user.participant_sid.as_str()), ("ada", "PA_ada"));
        assert_eq!((user.payload.as_slice(), user.topic.as_deref()), (&b"hello"[..], Some("chat")));
    }

    #[test]
    fn a_message_with_several_user_packets_is_malformed() {
        let mut bytes = BytesMut::new();
        put_bytes(&mut bytes, packet::USER, b"");
        assert!(route_data(&grants("ada"), "PA_ada", &bytes).is_ok());
        for _ in 0..9 {
            put_bytes(&mut bytes, packet::USER, b"");
        }
        assert_eq!(route_data(&grants("ada"), "PA_ada", &bytes), Err(DataError::Malformed));
    }

    #[test]
    fn unknown_fields_are_kept() {
        let mut bytes = BytesMut::new();
        put_bytes(&mut bytes, 99, b"a newer field");
        encode_key(98, WireType::Varint, &mut bytes);
        encode_varint(300, &mut bytes);
        let routed = route_data(&grants("ada"), "PA_ada", &bytes).unwrap();
        assert!(routed.packet.starts_with(&bytes) && routed.destinations.is_empty());
    }

    #[test]
    fn destinations_in_the_user_packet_of_older_clients_are_used() {
        let mut packet = user_packet(&[]);
        if let Some(Value::User(user)) = &mut packet.value {
            user.destination_identities = vec!["bob".into()];
        }
        let routed = route_data(&grants("ada"), "PA_ada", &packet.encode_to_vec()).unwrap();
        assert_eq!(routed.destinations, ["bob"]);
    }

    #[test]
    fn forbidden_and_malformed_messages_are_refused() {
        let mut denied = grants("ada");
        denied.can_publish_data = false;
        let good = user_packet(&[]).encode_to_vec();
        assert_eq!(route_data(&denied, "PA_ada", &good), Err(DataError::NotAllowed));
        assert_eq!(
            route_data(&grants("ada"), "PA_ada", &vec![0; MAX_DATA_BYTES + 1]),
            Err(DataError::TooLong)
        );
        assert_eq!(route_data(&grants("ada"), "PA_ada", &good[..good.len() - 1]), Err(DataError::Malformed));
        let speaker = proto::DataPacket {
            value: Some(Value::Speaker(proto::ActiveSpeakerUpdate::default())),
            ..Default::default()
        };
        assert_eq!(
            route_data(&grants("ada"), "PA_ada", &speaker.encode_to_vec()),
            Err(DataError::SpeakerUpdate)
        );
        let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
        let many = user_packet(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let routed = route_data(&grants("ada"), "PA_ada", &many.encode_to_vec());
        assert_eq!(routed, Err(DataError::TooManyDestinations));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_message_has_its_true_sender(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(routed) = route_data(&grants("ada"), "PA_ada", &bytes)
                && let Ok(packet) = proto::DataPacket::decode(routed.packet)
            {
                prop_assert_eq!(packet.participant_identity, "ada");
                prop_assert_eq!(packet.participant_sid, "PA_ada");
            }
        }
    }
}
