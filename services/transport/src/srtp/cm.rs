//! AES in counter mode with HMAC-SHA1 (RFC 3711 sections 4.1.1 and 4.2.1): the profile that every
//! WebRTC peer supports.

use aws_lc_rs::{
    cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    constant_time, hmac,
    iv::FixedLength,
};

use super::kdf::{self, Label};

/// Length of the truncated tag in bytes.
pub(crate) const TAG: usize = 10;

/// AES in counter mode; encryption and decryption are the same operation.
pub(crate) struct CtrKey(EncryptingKey);

impl CtrKey {
    /// A key of 16 or 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
        let key = UnboundCipherKey::new(algorithm, key).ok()?;
        EncryptingKey::ctr(key).ok().map(Self)
    }

    /// XORs `data` with the key stream that begins at `iv`.
    pub(crate) fn apply(&self, iv: [u8; 16], data: &mut [u8]) -> Option<()> {
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        self.0.less_safe_encrypt(data, context).ok().map(|_| ())
    }
}

/// Session keys of one direction for either RTP or RTCP.
pub(crate) struct CmKey {
    cipher: CtrKey,
    salt: [u8; 14],
    auth: hmac::Key,
}

impl CmKey {
    pub(crate) fn derive(master_key: &[u8], master_salt: &[u8], labels: [Label; 3]) -> Option<Self> {
        let [key, auth, salt] = labels;
        let session: [u8; 16] = kdf::derive(master_key, master_salt, key)?;
        let auth: [u8; 20] = kdf::derive(master_key, master_salt, auth)?;
        Some(Self {
            cipher: CtrKey::new(&session)?,
            salt: kdf::derive(master_key, master_salt, salt)?,
            auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth),
        })
    }

    /// Encrypts or decrypts in place; `index` is the 48-bit packet index (RTP) or the 31-bit one (RTCP).
    pub(crate) fn apply(&self, ssrc: u32, index: u64, data: &mut [u8]) -> Option<()> {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..14].iter_mut().zip(index.to_be_bytes()).for_each(|(byte, index)| *byte ^= index);
        iv.iter_mut().zip(self.salt).for_each(|(byte, salt)| *byte ^= salt);
        self.cipher.apply(iv, data)
    }

    /// The tag over the packet and, for RTP, the rollover counter.
    pub(crate) fn tag(&self, packet: &[u8], roc: Option<u32>) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(packet);
        if let Some(roc) = roc {
            context.update(&roc.to_be_bytes());
        }
        let mut tag = [0; TAG];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        tag
    }

    /// Verifies the tag, in constant time.
    pub(crate) fn verify(&self, packet: &[u8], roc: Option<u32>, tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.tag(packet, roc), tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    /// RFC 3711 appendix B.2: the first blocks of the key stream and block 0xFEFF.
    #[test]
    fn rfc_3711_b2() {
        let key = CtrKey::new(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
        let mut iv = [0; 16];
        iv.copy_from_slice(&hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000"));
        let mut stream = vec![0; 48];
        key.apply(iv, &mut stream).unwrap();
        assert_eq!(
            stream,
            hex(
                "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB41E95B3BB0A2E8DD477901E4FCA894C0"
            )
        );
        iv.copy_from_slice(&hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF"));
        let mut block = vec![0; 16];
        key.apply(iv, &mut block).unwrap();
        assert_eq!(block, hex("EC8CDF7398607CB0F2D21675EA9EA1E4"));
    }
}
