//! Key derivation (RFC 3711 section 4.3; RFC 6188 for 256-bit keys), with a derivation rate of 0:
//! a session key is the AES key stream for the master salt and a label.

use super::cm::CtrKey;

/// The use of a derived key (RFC 3711 section 4.3.1).
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Label {
    RtpKey = 0,
    RtpAuth = 1,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpAuth = 4,
    RtcpSalt = 5,
}

/// Derives `N` bytes. A 96-bit salt (AEAD profiles) is padded with zeros to 112 bits
/// (RFC 7714 section 11).
pub(crate) fn derive<const N: usize>(master_key: &[u8], master_salt: &[u8], label: Label) -> Option<[u8; N]> {
    let mut iv = [0; 16];
    for (byte, salt) in iv.iter_mut().zip(master_salt.iter().take(14)) {
        *byte = *salt;
    }
    // The label sits above a 48-bit index of zero, that is at byte 7 of the 14-byte salt.
    iv[7] ^= label as u8;
    let mut out = [0; N];
    CtrKey::new(master_key)?.apply(iv, &mut out)?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        crate::srtp::tests::hex(text)
    }

    /// RFC 3711 appendix B.3.
    #[test]
    fn rfc_3711_b3() {
        let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        let derived: [u8; 16] = derive(&key, &salt, Label::RtpKey).unwrap();
        assert_eq!(derived.to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        let derived: [u8; 14] = derive(&key, &salt, Label::RtpSalt).unwrap();
        assert_eq!(derived.to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
        let derived: [u8; 94] = derive(&key, &salt, Label::RtpAuth).unwrap();
        assert_eq!(
            derived.to_vec(),
            hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE\
                 E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25\
                 6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2")
        );
    }
}
