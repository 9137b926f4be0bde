//! The secret of an institution under which names of its rooms are sealed.

use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::seal;

/// A room key. Cheap to clone; it is never printed.
#[derive(Clone)]
pub struct RoomKey {
    secret: Arc<Zeroizing<[u8; 32]>>,
    cipher: Arc<LessSafeKey>,
}

/// The text is no room key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room key is 32 random bytes in base64; make one with: systirctl key room")]
pub struct NotARoomKey;

impl RoomKey {
    /// The key with these bytes, which must be random.
    #[must_use]
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        let unbound = UnboundKey::new(&AES_256_GCM_SIV, &secret);
        #[allow(clippy::expect_used, reason = "AES-256 takes every key of 32 bytes")]
        let cipher = LessSafeKey::new(unbound.expect("32 bytes"));
        Self { secret: Arc::new(Zeroizing::new(secret)), cipher: Arc::new(cipher) }
    }

    /// Its text: base64 (RFC 4648 section 4) of its 32 bytes.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.secret.as_slice()))
    }

    /// Are all its bytes equal? Then nobody made it at random.
    #[must_use]
    pub fn has_equal_bytes(&self) -> bool {
        let [first, rest @ ..] = &**self.secret;
        rest.iter().all(|byte| byte == first)
    }

    pub(crate) fn seal(&self, institution: &str, name: &str) -> Option<String> {
        seal::seal(&self.cipher, institution, name)
    }

    pub(crate) fn open(&self, institution: &str, tag: &str) -> Option<String> {
        seal::open(&self.cipher, institution, tag)
    }
}

impl FromStr for RoomKey {
    type Err = NotARoomKey;

    fn from_str(text: &str) -> Result<Self, NotARoomKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| NotARoomKey)?);
        let secret: [u8; 32] = bytes.as_slice().try_into().map_err(|_| NotARoomKey)?;
        Ok(Self::from_bytes(secret))
    }
}

impl PartialEq for RoomKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.secret.as_slice(), other.secret.as_slice())
            .is_ok()
    }
}

impl Eq for RoomKey {}

impl std::fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoomKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_key_is_read_back() {
        let key = RoomKey::from_bytes([3; 32]);
        assert_eq!(format!("{}\n", *key.to_text()).parse::<RoomKey>(), Ok(key.clone()));
        assert_ne!(RoomKey::from_bytes([4; 32]), key);
        assert_eq!(format!("{key:?}"), "RoomKey(secret)");
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in ["", "secret", "AAAA", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])] {
            assert_eq!(text.parse::<RoomKey>(), Err(NotARoomKey), "{text}");
        }
    }
}
