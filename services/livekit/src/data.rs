//! Data messages. The server stamps who sent them, so that nobody can speak as somebody else,
//! and passes on all the rest as it is: newer clients put things in that we do not know. So the
//! message is not decoded into a structure and written anew; its fields are copied.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::token::Grants;

/// Longest message that is passed on. Clients cut at 64 000 bytes.
pub const MAX_DATA_BYTES: usize = 64 * 1024;

/// Most destinations of one message.
const MAX_DESTINATIONS: usize = 1000;

/// Fields of `DataPacket`.
mod packet {
    pub(super) const USER: u32 = 2;
    pub(super) const SPEAKER: u32 = 3;
    pub(super) const IDENTITY: u32 = 4;
    pub(super) const DESTINATIONS: u32 = 5;
    pub(super) const SID: u32 = 17;
}

/// Fields of `UserPacket`; older clients look here.
mod user {
    pub(super) const SID: u32 = 1;
    pub(super) const IDENTITY: u32 = 5;
    pub(super) const DESTINATIONS: u32 = 6;
}

/// Why a data message goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The participant may not send data.
    #[error("the participant may not send data: its token lacks canPublishData")]
    NotAllowed,
    /// Longer than [`MAX_DATA_BYTES`].
    #[error("the data message is longer than {MAX_DATA_BYTES} bytes")]
    TooLong,
    /// Not a `DataPacket`.
    #[error("the data message is not a DataPacket")]
    Garbled,
    /// Speakers are told by the server.
    #[error("the data message claims who speaks")]
    Speakers,
    /// More destinations than anybody needs.
    #[error("the data message names more than {MAX_DESTINATIONS} destinations")]
    TooManyDestinations,
}

/// A message to pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedData {
    /// The stamped message.
    pub packet: Bytes,
    /// Identities of those who get it; empty is everybody else.
    pub destinations: Vec<String>,
}

/// Checks and stamps a client's message.
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
    let mut legacy = Vec::new();
    let mut rest = message;
    while rest.has_remaining() {
        let field = Field::take(&mut rest)?;
        match (field.tag, field.wire) {
            (packet::IDENTITY | packet::SID, _) => {}
            (packet::SPEAKER, _) => return Err(DataError::Speakers),
            (packet::DESTINATIONS, WireType::LengthDelimited) => {
                destinations.push(field.text()?);
                out.put_slice(field.raw);
            }
            (packet::USER, WireType::LengthDelimited) => {
                let stamped = stamp_user(field.body, sid, &grants.identity, &mut legacy)?;
                put_bytes(&mut out, packet::USER, &stamped);
            }
            _ => out.put_slice(field.raw),
        }
        if destinations.len().max(legacy.len()) > MAX_DESTINATIONS {
            return Err(DataError::TooManyDestinations);
        }
    }
    put_bytes(&mut out, packet::IDENTITY, grants.identity.as_bytes());
    put_bytes(&mut out, packet::SID, sid.as_bytes());
    if destinations.is_empty() {
        destinations = legacy;
    }
    Ok(RoutedData { packet: out.freeze(), destinations })
}

fn stamp_user(
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

/// One field as it stands in the message.
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
        let garbled = |_| DataError::Garbled;
        let (tag, wire) = decode_key(rest).map_err(garbled)?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(rest).map_err(garbled)?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                usize::try_from(decode_varint(rest).map_err(garbled)?).map_err(|_| DataError::Garbled)?
            }
            // Groups are of the protocol's past; none of its messages has any.
            WireType::StartGroup | WireType::EndGroup => return Err(DataError::Garbled),
        };
        let body = rest.get(..length).ok_or(DataError::Garbled)?;
        rest.advance(length);
        let raw = start.get(..start.len() - rest.len()).ok_or(DataError::Garbled)?;
        Ok(Self { tag, wire, raw, body })
    }

    fn text(&self) -> Result<String, DataError> {
        std::str::from_utf8(self.body).map(str::to_owned).map_err(|_| DataError::Garbled)
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
            participant_identity: "somebody-else".into(),
            participant_sid: "PA_else".into(),
            destination_identities: destinations.iter().map(ToString::to_string).collect(),
            sequence: 7,
            value: Some(Value::User(proto::UserPacket {
                participant_sid: "PA_else".into(),
                participant_identity: "somebody-else".into(),
                payload: b"hello".to_vec(),
                topic: Some("chat".into()),
                ..Default::default()
            })),
        }
    }

    #[test]
    fn sender_is_stamped_whatever_the_client_claims() {
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
    fn fields_that_we_do_not_know_pass() {
        let mut bytes = BytesMut::new();
        put_bytes(&mut bytes, 99, b"from the future");
        encode_key(98, WireType::Varint, &mut bytes);
        encode_varint(300, &mut bytes);
        let routed = route_data(&grants("ada"), "PA_ada", &bytes).unwrap();
        assert!(routed.packet.starts_with(&bytes) && routed.destinations.is_empty());
    }

    #[test]
    fn destinations_of_older_clients_count() {
        let mut packet = user_packet(&[]);
        if let Some(Value::User(user)) = &mut packet.value {
            user.destination_identities = vec!["bob".into()];
        }
        let routed = route_data(&grants("ada"), "PA_ada", &packet.encode_to_vec()).unwrap();
        assert_eq!(routed.destinations, ["bob"]);
    }

    #[test]
    fn what_must_not_pass_does_not() {
        let mut mute = grants("ada");
        mute.can_publish_data = false;
        let good = user_packet(&[]).encode_to_vec();
        assert_eq!(route_data(&mute, "PA_ada", &good), Err(DataError::NotAllowed));
        assert_eq!(
            route_data(&grants("ada"), "PA_ada", &vec![0; MAX_DATA_BYTES + 1]),
            Err(DataError::TooLong)
        );
        assert_eq!(route_data(&grants("ada"), "PA_ada", &good[..good.len() - 1]), Err(DataError::Garbled));
        let speaker = proto::DataPacket {
            value: Some(Value::Speaker(proto::ActiveSpeakerUpdate::default())),
            ..Default::default()
        };
        assert_eq!(route_data(&grants("ada"), "PA_ada", &speaker.encode_to_vec()), Err(DataError::Speakers));
        let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
        let many = user_packet(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let routed = route_data(&grants("ada"), "PA_ada", &many.encode_to_vec());
        assert_eq!(routed, Err(DataError::TooManyDestinations));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_passes_speaks_for_another(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(routed) = route_data(&grants("ada"), "PA_ada", &bytes)
                && let Ok(packet) = proto::DataPacket::decode(routed.packet)
            {
                prop_assert_eq!(packet.participant_identity, "ada");
                prop_assert_eq!(packet.participant_sid, "PA_ada");
            }
        }
    }
}
