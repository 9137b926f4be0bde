//! VP8 packets as the tests, the benchmark and the simulated meeting send them.

/// A packet (RFC 7741) with a 15-bit picture id. The bytes after its header are all `fill`.
pub(crate) fn vp8(picture: u16, first: bool, key: bool, bytes: usize, fill: u8) -> Vec<u8> {
    let [high, low] = (picture | 0x8000).to_be_bytes();
    let mut payload = vec![if first { 0x90 } else { 0x80 }, 0x80, high, low];
    if first {
        payload.extend_from_slice(&[if key { 0x10 } else { 0x11 }, 0, 0]);
        if key {
            payload.extend_from_slice(&[0x9D, 0x01, 0x2A, 0x40, 0x01, 0xF0, 0x00]);
        }
    }
    payload.resize(bytes, fill);
    payload
}
