//! Signing keys, in the text form of Go's note package: `PRIVATE+KEY+name+hash+base64`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use crate::key::{KeyError, PublicKey, ed25519_bytes, key_text, split_key};

const PREFIX: &str = "PRIVATE+KEY+";

/// An Ed25519 key that signs. Neither `Debug` nor an error ever shows it; only [`SigningKey::to_text`] does.
pub struct SigningKey {
    public: PublicKey,
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
}

impl SigningKey {
    /// The key of a seed (the private key of RFC 8032). The seed must come from a secure random generator.
    ///
    /// # Errors
    /// When the name has a forbidden form.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(seed);
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| KeyError::NotASigningKey)?;
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| KeyError::NotASigningKey)?;
        Ok(Self { public: PublicKey::new(name, bytes)?, pair, seed })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(message);
        let mut bytes = [0; 64];
        for (byte, signed) in bytes.iter_mut().zip(signature.as_ref()) {
            *byte = *signed;
        }
        bytes
    }

    /// The text of a key file. It is the secret itself.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(key_text(&self.public, &self.seed));
        Zeroizing::new(format!("{PREFIX}{}", *key))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PREFIX).ok_or(KeyError::NotASigningKey)?;
        let (name, id, key) = split_key(rest, KeyError::NotASigningKey)?;
        let key = Zeroizing::new(key);
        let signing = Self::from_seed(name, ed25519_bytes(name, &key)?)?;
        if signing.public.id() != id {
            return Err(KeyError::Hash(name.to_owned()));
        }
        Ok(signing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the documentation of golang.org/x/mod/sumdb/note.
    const PETER: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

    #[test]
    fn a_key_of_gos_documentation_signs_as_go_does() {
        let key: SigningKey = PETER.parse().unwrap();
        assert_eq!(
            key.public().to_string(),
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        );
        assert_eq!(key.to_text().as_str(), PETER);
        let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let note = crate::Note::sign(text, &key).unwrap().to_string();
        assert_eq!(
            note,
            format!(
                "{text}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
            )
        );
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_secret() {
        let key: SigningKey = PETER.parse().unwrap();
        let secret = PETER.rsplit('+').next().unwrap();
        assert!(!format!("{key:?}").contains(secret));
        assert!(format!("{key:?}").contains("PeterNeumann+c74f20a3+ARpc2"));
        for wrong in [
            PETER.replace("Neumann", "Newman"),
            PETER.replace("c74f20a3", "c74f20a4"),
            PETER.replace("AYEK", "BYEK"),
            PETER.replace("PRIVATE+KEY+", ""),
            format!("{PETER}\n"),
            format!("{PETER}A"),
            PETER[..70].to_owned(),
        ] {
            let error = wrong.parse::<SigningKey>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("ALVFGyNhPJEMzD1"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_written_and_signs(seed: [u8; 32], message in proptest::collection::vec(any::<u8>(), 0..200), flip: (usize, u8)) {
            let key = SigningKey::from_seed("ku.dk/2026", seed).unwrap();
            let read: SigningKey = key.to_text().parse().unwrap();
            prop_assert_eq!(read.public(), key.public());
            let signature = key.sign(&message);
            prop_assert!(read.public().verify(&message, &signature));
            let mut forged = signature;
            forged[flip.0 % 64] ^= flip.1.max(1);
            prop_assert!(!read.public().verify(&message, &forged));
            prop_assert!(!read.public().verify(&[&message[..], b"x"].concat(), &signature));
            prop_assert!(!read.public().verify(&message, &signature[..63]));
        }
    }
}
