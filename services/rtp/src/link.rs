//! Packets on links (RTP over QUIC): an RTP packet with the canonical payload type, the canonical
//! extension ids in the two-byte form, and the flow id as SSRC. The framing around it (the flow id as a
//! varint) is done by the link.

use super::header::{RtpError, RtpHeader};
use super::write::{ExtensionIds, HeaderFields, write};
use crate::packet::{AudioLevel, Codec, Extensions, Packet};

/// A packet from a link. Its sequence number has 16 bits; [`super::ExtendedSeq`] extends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPacket<'a> {
    /// Flow id on that link.
    pub flow: u32,
    /// The low 16 bits of the sequence number.
    pub seq: u16,
    /// The codec of the payload.
    pub codec: Codec,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// Header extensions.
    pub ext: Extensions<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> LinkPacket<'a> {
    /// The packet with its extended sequence number.
    #[must_use]
    pub fn packet(&self, seq: u64) -> Packet<'a> {
        Packet {
            codec: self.codec,
            seq,
            timestamp: self.timestamp,
            marker: self.marker,
            ext: self.ext,
            payload: self.payload,
        }
    }
}

/// Appends a packet in link format.
pub fn write_link_packet(packet: &Packet<'_>, flow: u32, out: &mut Vec<u8>) {
    let fields = HeaderFields {
        payload_type: packet.codec as u8,
        marker: packet.marker,
        seq: packet.seq as u16,
        timestamp: packet.timestamp,
        ssrc: flow,
    };
    write(out, &fields, &ExtensionIds::CANONICAL, &packet.ext, &[], true);
    out.extend_from_slice(packet.payload);
}

/// Parses a packet in link format. Extensions that are not canonical are skipped.
///
/// # Errors
/// [`RtpError`] when the bytes are not an RTP packet or its payload type is not canonical.
pub fn parse_link_packet(bytes: &[u8]) -> Result<LinkPacket<'_>, RtpError> {
    let header = RtpHeader::parse(bytes)?;
    let codec =
        Codec::from_payload_type(header.payload_type).ok_or(RtpError::PayloadType(header.payload_type))?;
    let mut ext = Extensions::default();
    for (id, value) in header.extensions() {
        match (id, value) {
            (1, [byte]) => ext.audio_level = Some(AudioLevel { level: byte & 0x7F, voice: byte & 0x80 != 0 }),
            (2, value) if value.len() == 8 || value.len() == 16 => ext.capture_time = Some(value),
            (3, [byte]) => ext.orientation = Some(*byte),
            (4, value) if !value.is_empty() => ext.dependency = Some(value),
            (5, [a, b, c]) => ext.playout_delay = Some([*a, *b, *c]),
            _ => {}
        }
    }
    Ok(LinkPacket {
        flow: header.ssrc,
        seq: header.seq,
        codec,
        timestamp: header.timestamp,
        marker: header.marker,
        ext,
        payload: header.payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn link_packet_survives_encoding(
            codec in proptest::sample::select(Codec::ALL.to_vec()), seq: u64, timestamp: u32, marker: bool, flow: u32,
            level in proptest::option::of((0..128u8, any::<bool>())),
            capture in proptest::option::of(prop_oneof![Just(8usize), Just(16)]),
            orientation: Option<u8>, playout_delay: Option<[u8; 3]>,
            dependency in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..256)),
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let packet = Packet {
                codec,
                seq,
                timestamp,
                marker,
                ext: Extensions {
                    audio_level: level.map(|(level, voice)| AudioLevel { level, voice }),
                    capture_time: capture.map(|len| &[9u8; 16][..len]),
                    orientation,
                    dependency: dependency.as_deref(),
                    playout_delay,
                },
                payload: &payload,
            };
            let mut bytes = vec![0xFF];
            write_link_packet(&packet, flow, &mut bytes);
            // Not mistaken for RTCP on the same flow (RFC 5761 section 4).
            prop_assert!(!(192..=223).contains(&bytes[2]));
            let read = parse_link_packet(&bytes[1..]).unwrap();
            prop_assert_eq!((read.flow, read.seq), (flow, seq as u16));
            prop_assert_eq!(read.packet(seq), packet);
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_link_packet(&bytes);
        }
    }

    #[test]
    fn unknown_payload_type_is_refused() {
        let bytes = [0x80, 97, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(parse_link_packet(&bytes), Err(RtpError::PayloadType(97)));
    }
}
