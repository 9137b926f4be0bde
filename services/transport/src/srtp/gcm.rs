//! AES-GCM for SRTP and SRTCP (RFC 7714); it costs a quarter of the SHA-1 profile.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::kdf::{self, Label};

/// Length of the tag in bytes.
pub(crate) const TAG: usize = 16;

/// Session key of one direction for either RTP or RTCP.
pub(crate) struct GcmKey {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl GcmKey {
    pub(crate) fn derive(master_key: &[u8], master_salt: &[u8], key: Label, salt: Label) -> Option<Self> {
        let salt = kdf::derive(master_key, master_salt, salt)?;
        if master_key.len() == 32 {
            Self::new(&kdf::derive::<32>(master_key, master_salt, key)?, salt)
        } else {
            Self::new(&kdf::derive::<16>(master_key, master_salt, key)?, salt)
        }
    }

    pub(crate) fn new(key: &[u8], salt: [u8; 12]) -> Option<Self> {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        Some(Self { key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?), salt })
    }

    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        // Two zero bytes, SSRC, 48-bit index (RFC 7714 sections 8.1 and 9.1; an SRTCP index has
        // 31 bits, so its upper bytes are the zeros that section 9.1 wants).
        let mut nonce = [0; 12];
        nonce[4..12].copy_from_slice(&index.to_be_bytes());
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce.iter_mut().zip(self.salt).for_each(|(byte, salt)| *byte ^= salt);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts in place and returns the tag.
    pub(crate) fn seal(&self, ssrc: u32, index: u64, aad: &[u8], data: &mut [u8]) -> Option<[u8; TAG]> {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(aad), data).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts in place; the tag follows the ciphertext.
    pub(crate) fn open(&self, ssrc: u32, index: u64, aad: &[u8], data: &mut [u8]) -> Option<()> {
        self.key.open_in_place(self.nonce(ssrc, index), Aad::from(aad), data).ok().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    const HEADER: &str = "8040f17b8041f8d35501a0b2";
    const PLAIN: &str = "47616c6c696120657374206f6d6e697320646976697361\
                         20696e207061727465732074726573";

    fn seals_to(key: &str, expected: &str) {
        let mut salt = [0; 12];
        salt.copy_from_slice(&hex("517569642070726f2071756f"));
        let key = GcmKey::new(&hex(key), salt).unwrap();
        let (header, mut data) = (hex(HEADER), hex(PLAIN));
        let tag = key.seal(0x5501_a0b2, 0xf17b, &header, &mut data).unwrap();
        data.extend_from_slice(&tag);
        assert_eq!(data, hex(expected));
        key.open(0x5501_a0b2, 0xf17b, &header, &mut data).unwrap();
        assert_eq!(data[..data.len() - TAG], hex(PLAIN));
    }

    /// RFC 7714 section 16.1.1.
    #[test]
    fn rfc_7714_aes_128() {
        seals_to(
            "000102030405060708090a0b0c0d0e0f",
            "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf883389\
             9d7f27beb16a9152cf765ee4390cce",
        );
    }

    /// RFC 7714 section 16.2.1.
    #[test]
    fn rfc_7714_aes_256() {
        seals_to(
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfff\
             d6b0f9bb7878d7a76c13",
        );
    }
}
