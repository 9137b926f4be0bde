//! The format of a link's QUIC datagrams: a flow identifier as a QUIC varint (RFC 9000, section 16)
//! and an RTP or RTCP packet, as in RTP over QUIC. Identifiers below 32 are reserved for the link:
//! heartbeats, halves of packets that are too large for one datagram, and participants' lossy data
//! messages.

use crate::flow::FlowId;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use std::collections::VecDeque;
use systir_proto::cluster::v1::RoomMessage;

const HEARTBEAT: u8 = 0;
const PART: u8 = 2;
const MESSAGE: u8 = 3;
const PART_HEADER: usize = 4;
/// Halves kept while their other half is missing, at most.
const MAX_WAITING: usize = 32;

/// One datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The sender is alive.
    Heartbeat,
    /// Half of another frame.
    Part {
        /// Equal in both halves.
        id: u16,
        /// Is this the second half?
        second: bool,
        /// Its bytes.
        body: &'a [u8],
    },
    /// An encoded `RoomMessage` that may be lost.
    Message(&'a [u8]),
    /// An RTP or RTCP packet of a flow.
    Packet {
        /// The flow.
        flow: FlowId,
        /// The packet.
        packet: &'a [u8],
    },
}

impl<'a> Frame<'a> {
    /// Parses a datagram. None when it is malformed.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (flow, rest) = varint(datagram)?;
        let flow = u32::try_from(flow).ok()?;
        if let Some(flow) = FlowId::from_raw(flow) {
            return (!rest.is_empty()).then_some(Self::Packet { flow, packet: rest });
        }
        if flow == u32::from(HEARTBEAT) {
            return rest.is_empty().then_some(Self::Heartbeat);
        }
        if flow == u32::from(MESSAGE) {
            return (!rest.is_empty()).then_some(Self::Message(rest));
        }
        if flow != u32::from(PART) {
            return None;
        }
        let (header, body) = rest.split_first_chunk::<3>()?;
        let [half, high, low] = *header;
        let second = match half {
            0 => false,
            1 => true,
            _ => return None,
        };
        (!body.is_empty()).then_some(Self::Part { id: u16::from_be_bytes([high, low]), second, body })
    }
}

/// The heartbeat frame.
#[must_use]
pub fn heartbeat() -> Bytes {
    Bytes::from_static(&[HEARTBEAT])
}

/// The frame of a room message.
#[must_use]
pub fn message(message: &RoomMessage) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + message.encoded_len());
    out.put_u8(MESSAGE);
    out.put_slice(&message.encode_to_vec());
    out.freeze()
}

/// Appends the frame of a packet to `out`.
pub fn write_packet(out: &mut BytesMut, flow: FlowId, packet: &[u8]) {
    let raw = flow.raw();
    // The two most significant bits of the first byte encode the length of the varint.
    match raw {
        0..=0x3f => out.put_u8(raw as u8),
        0x40..=0x3fff => out.put_u16(raw as u16 | 0x4000),
        0x4000..=0x3fff_ffff => out.put_u32(raw | 0x8000_0000),
        _ => out.put_u64(u64::from(raw) | 0xc000_0000_0000_0000),
    }
    out.put_slice(packet);
}

/// Bytes that [`write_packet`] adds to the packet, at most.
pub const PACKET_HEADER: usize = 8;

/// Splits a frame into two that each fit into `limit` bytes. None when two are not enough.
#[must_use]
pub fn split(frame: &[u8], id: u16, limit: usize) -> Option<[Bytes; 2]> {
    let (first, second) = frame.split_at_checked(frame.len().div_ceil(2))?;
    if second.is_empty() || first.len() + PART_HEADER > limit {
        return None;
    }
    let part = |half: u8, body: &[u8]| {
        let mut out = BytesMut::with_capacity(PART_HEADER + body.len());
        out.put_u8(PART);
        out.put_u8(half);
        out.put_u16(id);
        out.put_slice(body);
        out.freeze()
    };
    Some([part(0, first), part(1, second)])
}

/// Joins the halves of split frames. It keeps at most 32 halves and drops the oldest first.
#[derive(Debug, Default)]
pub struct Reassembly {
    waiting: VecDeque<(u16, bool, Vec<u8>)>,
}

impl Reassembly {
    /// Takes a half. Returns the whole frame once both halves have arrived, in either order.
    pub fn join(&mut self, id: u16, second: bool, body: &[u8]) -> Option<Vec<u8>> {
        let place = self.waiting.iter().position(|(waiting, other, _)| *waiting == id && *other != second);
        if let Some((_, _, other)) = place.and_then(|place| self.waiting.remove(place)) {
            let (first, last) = if second { (other.as_slice(), body) } else { (body, other.as_slice()) };
            return Some([first, last].concat());
        }
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((id, second, body.to_vec()));
        None
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    let value = number.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = u64::MAX >> (66 - 8 * length as u32).min(63);
    Some((value & mask, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Parity;
    use proptest::prelude::*;

    fn flow(counter: u32) -> FlowId {
        FlowId::new(Parity::Greater, 3, counter).unwrap()
    }

    #[test]
    fn varints_match_rfc_9000() {
        // RFC 9000, appendix A.1.
        let long = [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c];
        assert_eq!(varint(&long), Some((151_288_809_941_952_652, &[][..])));
        assert_eq!(varint(&[0x9d, 0x7f, 0x3e, 0x7d]), Some((494_878_333, &[][..])));
        assert_eq!(varint(&[0x7b, 0xbd]), Some((15_293, &[][..])));
        assert_eq!(varint(&[0x25, 1]), Some((37, &[1][..])));
        assert_eq!(varint(&[0x40, 0x25]), Some((37, &[][..])));
        assert_eq!(varint(&[0x40]), None);
        assert_eq!(varint(&[]), None);
    }

    #[test]
    fn malformed_frames_are_refused() {
        for bytes in
            [&[][..], &[0, 0], &[1], &[3], &[31, 1, 2, 3, 4], &[2, 2, 0, 0, 9], &[2, 0, 0, 0], &[0x40, 0x40]]
        {
            assert_eq!(Frame::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Frame::parse(&heartbeat()), Some(Frame::Heartbeat));
        let too_large = 0xc000_0001_0000_0000u64.to_be_bytes();
        assert_eq!(Frame::parse(&[&too_large[..], b"x"].concat()), None);
    }

    #[test]
    fn a_half_without_its_other_half_is_dropped() {
        let mut reassembly = Reassembly::default();
        for id in 0..1000 {
            assert_eq!(reassembly.join(id, false, b"x"), None);
        }
        assert_eq!(reassembly.waiting.len(), MAX_WAITING);
        assert_eq!(reassembly.join(0, true, b"y"), None);
        assert_eq!(reassembly.join(999, true, b"y"), Some(b"xy".to_vec()));
    }

    #[test]
    fn frames_too_large_for_two_datagrams_are_refused() {
        assert!(split(&[0; 2000], 1, 1000).is_none());
        assert!(split(&[0; 1992], 1, 1000).is_some());
        assert!(split(&[0; 1], 1, 1000).is_none());
        assert!(split(&[], 1, 1000).is_none());
    }

    proptest! {
        #[test]
        fn a_packet_survives_encoding(counter in 1u32..(1 << 27), packet in proptest::collection::vec(any::<u8>(), 1..64)) {
            let mut out = BytesMut::new();
            write_packet(&mut out, flow(counter), &packet);
            prop_assert!(out.len() <= PACKET_HEADER + packet.len());
            prop_assert_eq!(Frame::parse(&out), Some(Frame::Packet { flow: flow(counter), packet: &packet }));
        }

        #[test]
        fn a_split_packet_survives_reassembly(
            packet in proptest::collection::vec(any::<u8>(), 1..3000), id: u16, swapped: bool,
        ) {
            let mut out = BytesMut::new();
            write_packet(&mut out, flow(7), &packet);
            let mut halves = split(&out, id, 1600).unwrap();
            if swapped {
                halves.swap(0, 1);
            }
            let mut reassembly = Reassembly::default();
            let mut whole = None;
            for half in &halves {
                prop_assert!(half.len() <= 1600);
                let Some(Frame::Part { id, second, body }) = Frame::parse(half) else { panic!("no part") };
                prop_assert!(whole.is_none());
                whole = reassembly.join(id, second, body);
            }
            let whole = whole.unwrap();
            prop_assert_eq!(Frame::parse(&whole), Some(Frame::Packet { flow: flow(7), packet: &packet }));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reassembly = Reassembly::default();
            if let Some(Frame::Part { id, second, body }) = Frame::parse(&bytes) {
                reassembly.join(id, second, body);
            }
        }
    }
}
