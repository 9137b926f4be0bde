//! Receiver Estimated Maximum Bitrate (draft-alvestrand-rmcat-remb-03 section 2.2).

/// Bits per second, from the FCI.
pub(super) fn parse(fci: &[u8]) -> Option<u64> {
    let [b'R', b'E', b'M', b'B', _ssrcs, high, middle, low, ..] = *fci else { return None };
    let mantissa = u64::from(u32::from_be_bytes([0, high & 0x03, middle, low]));
    let exponent = u32::from(high >> 2);
    Some(mantissa.checked_shl(exponent).filter(|rate| rate >> exponent == mantissa).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_exponent_saturates() {
        assert_eq!(parse(&[b'R', b'E', b'M', b'B', 0, 0xff, 0xff, 0xff]), Some(u64::MAX));
        assert_eq!(parse(&[b'R', b'E', b'M', b'B', 0, 0, 0, 5]), Some(5));
        assert_eq!(parse(b"REMB"), None);
    }
}
