//! Framing of packets on a TCP stream (RFC 4571): each follows its length in two bytes.

use bytes::{Buf as _, BytesMut};

/// Longest frame that is accepted, in bytes. Packets of a client are below its path MTU; this allows jumbo
/// frames and limits the memory of one stream.
pub(crate) const MAX_FRAME: usize = 9_216;
const HEADER: usize = 2;

/// Bytes read from a stream that are not yet taken as frames.
#[derive(Debug, Default)]
pub(crate) struct Frames(BytesMut);

/// The peer announced a frame over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
pub(crate) struct TooLong(usize);

impl Frames {
    /// The buffer to append read bytes to; it has free capacity.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.0.reserve(2 * MAX_FRAME);
        &mut self.0
    }

    /// The first frame if it is complete, without taking it.
    pub(crate) fn peek(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let Some(length) = self.length()? else { return Ok(None) };
        Ok(self.0.get(HEADER..HEADER + length))
    }

    /// Takes the first frame if it is complete.
    pub(crate) fn next(&mut self) -> Result<Option<BytesMut>, TooLong> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.0.len() < HEADER + length {
            return Ok(None);
        }
        self.0.advance(HEADER);
        Ok(Some(self.0.split_to(length)))
    }

    /// Length of the first frame. Skips empty frames, which some clients send to keep a path open.
    fn length(&mut self) -> Result<Option<usize>, TooLong> {
        while let Some([high, low]) = self.0.first_chunk::<HEADER>().copied() {
            match usize::from(u16::from_be_bytes([high, low])) {
                0 => self.0.advance(HEADER),
                length if length > MAX_FRAME => return Err(TooLong(length)),
                length => return Ok(Some(length)),
            }
        }
        Ok(None)
    }
}

/// Appends a frame. False, and nothing is appended, for a packet over 65535 bytes.
pub(crate) fn write_frame(out: &mut Vec<u8>, packet: &[u8]) -> bool {
    let Ok(length) = u16::try_from(packet.len()) else { return false };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(packet);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frame_is_taken_only_when_complete() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(&[0, 0, 0, 3, 7, 8]);
        assert_eq!(frames.peek(), Ok(None));
        assert_eq!(frames.next(), Ok(None));
        frames.buffer().extend_from_slice(&[9]);
        assert_eq!(frames.peek(), Ok(Some(&[7, 8, 9][..])));
        assert_eq!(frames.next().unwrap().unwrap(), [7, 8, 9][..]);
        assert_eq!(frames.next(), Ok(None));
    }

    #[test]
    fn frame_over_the_limit_is_refused_at_its_length() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(&[0xff, 0xff]);
        assert_eq!(frames.next(), Err(TooLong(65_535)));
    }

    proptest! {
        #[test]
        fn packets_are_read_back_however_the_stream_is_split(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            chunk_size in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            for packet in &packets {
                prop_assert!(write_frame(&mut stream, packet));
            }
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for piece in stream.chunks(chunk_size) {
                frames.buffer().extend_from_slice(piece);
                while let Some(packet) = frames.next().unwrap() {
                    read.push(packet.to_vec());
                }
            }
            prop_assert_eq!(read, packets);
        }

        #[test]
        fn arbitrary_streams_are_read_or_refused(stream in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut frames = Frames::default();
            frames.buffer().extend_from_slice(&stream);
            while let Ok(Some(packet)) = frames.next() {
                prop_assert!(!packet.is_empty() && packet.len() <= MAX_FRAME);
            }
        }
    }
}
