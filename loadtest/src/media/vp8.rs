//! The VP8 payload descriptor (RFC 7741 section 4.2).

/// Bytes of the descriptor that `descriptor` writes.
pub(super) const DESCRIPTOR_BYTES: usize = 6;

/// Running numbers of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    /// 15 bits.
    pub(super) picture_id: u16,
    pub(super) tl0_picture_index: u8,
    /// 5 bits.
    pub(super) key_index: u8,
}

impl Numbers {
    /// The numbers of the next frame. There is one temporal layer, so each frame is of layer 0.
    pub(super) fn advance(&mut self, key_frame: bool) {
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
        self.key_index = (self.key_index + u8::from(key_frame)) & 0x1F;
    }

    /// The descriptor of one packet of the frame, with all optional fields.
    pub(super) fn descriptor(self, first: bool) -> [u8; DESCRIPTOR_BYTES] {
        let [high, low] = self.picture_id.to_be_bytes();
        let start = if first { 0x10 } else { 0 };
        [0x80 | start, 0xF0, 0x80 | high, low, self.tl0_picture_index, self.key_index]
    }
}

/// Is this frame a key frame (RFC 6386 section 9.1)?
pub(crate) fn is_key_frame(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}

/// Whether the frame that begins in this payload is a key frame; none when no frame begins here.
pub(crate) fn frame_start(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let frame = payload.get(descriptor_len(payload)?..).filter(|frame| !frame.is_empty())?;
    (first & 0x17 == 0x10).then_some(is_key_frame(frame))
}

fn descriptor_len(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    let mut len = 1;
    if first & 0x80 != 0 {
        let present = *payload.get(1)?;
        len += 1;
        if present & 0x80 != 0 {
            len += if payload.get(len)? & 0x80 != 0 { 2 } else { 1 };
        }
        len += usize::from(present & 0x40 != 0) + usize::from(present & 0x30 != 0);
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_start_is_found_behind_any_descriptor() {
        for descriptor in
            [vec![0x10], vec![0x90, 0x80, 0x05], vec![0x90, 0x80, 0x85, 0x01], vec![0x90, 0x40, 9]]
        {
            let with = |byte: u8| [descriptor.as_slice(), &[byte]].concat();
            assert_eq!(frame_start(&with(0x10)), Some(true), "{descriptor:?}");
            assert_eq!(frame_start(&with(0x11)), Some(false), "{descriptor:?}");
            assert_eq!(frame_start(&descriptor), None, "{descriptor:?}");
        }
        assert_eq!(frame_start(&[]), None);
        assert_eq!(frame_start(&[0x00, 0x10]), None, "not the first packet of a frame");
        assert_eq!(frame_start(&[0x11, 0x10]), None, "not the first partition");
    }

    #[test]
    fn numbers_wrap_at_their_size() {
        let mut numbers = Numbers { picture_id: 0x7FFF, tl0_picture_index: 255, key_index: 31 };
        numbers.advance(true);
        assert_eq!(numbers.descriptor(true), [0x90, 0xF0, 0x80, 0, 0, 0]);
        numbers.advance(false);
        assert_eq!(numbers.descriptor(false), [0x80, 0xF0, 0x80, 1, 1, 0]);
        assert_eq!(numbers.descriptor(true).len(), descriptor_len(&numbers.descriptor(true)).unwrap());
    }
}
