//! The stamp in a packet, by which its receiver finds its age and what is missing. It stands where
//! decoders do not look: at the end of a VP8 frame, behind its last partition, or in the padding of an
//! Opus packet (RFC 6716 section 3.2.5). Servers forward both as they are.

use std::time::{SystemTime, UNIX_EPOCH};

/// To a decoder that reads Opus padding as extensions (draft-ietf-mlcodec-opus-extension), the first
/// byte says: extension 120, up to the end.
const MAGIC: [u8; 4] = *b"\xF0SyL";
/// Bytes of a stamp.
pub(crate) const STAMP_BYTES: usize = 19;

/// What the last packet of each frame carries. An audio packet is a frame by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When the frame was made, microseconds of Unix time.
    pub(crate) sent_us: u64,
    /// Number of this packet within its layer.
    pub(crate) count: u32,
    /// Layer, 0 the smallest.
    pub(crate) layer: u8,
    /// Packets of the frame.
    pub(crate) packets: u16,
}

impl Stamp {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.sent_us.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.push(self.layer);
        out.extend_from_slice(&self.packets.to_be_bytes());
    }

    /// Reads the stamp at the end of a payload; none in a packet that `systir-load` did not send.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (_, stamp) = payload.split_last_chunk::<STAMP_BYTES>()?;
        let (magic, rest) = stamp.split_first_chunk::<4>()?;
        let (sent, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (layer, packets) = rest.split_first()?;
        (*magic == MAGIC).then_some(Self {
            sent_us: u64::from_be_bytes(*sent),
            count: u32::from_be_bytes(*count),
            layer: *layer,
            packets: u16::from_be_bytes(*packets.first_chunk()?),
        })
    }
}

/// Unix time in microseconds.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_is_read_back_from_the_end_of_any_payload() {
        let stamp = Stamp { sent_us: 5, count: 6, layer: 1, packets: 7 };
        for before in [vec![], vec![0], vec![0xF0; 100]] {
            let mut payload = before;
            stamp.write(&mut payload);
            assert_eq!(Stamp::read(&payload), Some(stamp));
            for cut in 0..payload.len() {
                assert_eq!(Stamp::read(&payload[..cut]), None);
            }
        }
        assert_eq!(Stamp::read(&[0x78; 80]), None);
    }
}
