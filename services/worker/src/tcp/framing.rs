//! RFC 4571: each packet on a stream stands behind its length in two bytes.

use bytes::{Buf as _, BytesMut};

/// Longest frame that is read. Packets of a client are below its path MTU; this leaves room for
/// jumbo frames and keeps what one stream may hold small.
pub(crate) const MAX_FRAME: usize = 9_216;
const HEADER: usize = 2;

/// What was read of a stream and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Frames(BytesMut);

/// The peer announced a frame that nobody sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes, {MAX_FRAME} at most are read")]
pub(crate) struct TooLong(usize);

impl Frames {
    /// Where new bytes are appended. There is always room for some.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.0.reserve(2 * MAX_FRAME);
        &mut self.0
    }

    /// The first frame, when it is whole; it stays.
    pub(crate) fn peek(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let Some(length) = self.length()? else { return Ok(None) };
        Ok(self.0.get(HEADER..HEADER + length))
    }

    /// Takes the first frame, when it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<BytesMut>, TooLong> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.0.len() < HEADER + length {
            return Ok(None);
        }
        self.0.advance(HEADER);
        Ok(Some(self.0.split_to(length)))
    }

    /// Length of the first frame; empty ones, which some send to keep a path open, are passed over.
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

/// Appends a frame. False, and nothing is appended, for a packet that no frame can hold.
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
    fn a_frame_is_read_only_when_it_is_whole() {
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
    fn a_frame_that_nobody_sends_is_refused_before_it_is_waited_for() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(&[0xff, 0xff]);
        assert_eq!(frames.next(), Err(TooLong(65_535)));
    }

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in_however_the_stream_is_cut(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            cut in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            for packet in &packets {
                prop_assert!(write_frame(&mut stream, packet));
            }
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for piece in stream.chunks(cut) {
                frames.buffer().extend_from_slice(piece);
                while let Some(packet) = frames.next().unwrap() {
                    read.push(packet.to_vec());
                }
            }
            prop_assert_eq!(read, packets);
        }

        #[test]
        fn any_stream_is_read_or_refused(stream in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut frames = Frames::default();
            frames.buffer().extend_from_slice(&stream);
            while let Ok(Some(packet)) = frames.next() {
                prop_assert!(!packet.is_empty() && packet.len() <= MAX_FRAME);
            }
        }
    }
}
