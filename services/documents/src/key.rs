//! Public keys, in the text form of Go's note package: `name+hash+base64`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::characters::{escaped, is_deceptive};
use crate::hash::{from_hex, hex, sha256};

/// Signature type of C2SP signed-note: Ed25519.
pub(crate) const ED25519_TYPE: u8 = 0x01;
/// Longest name of a key, bytes.
const MAX_NAME_BYTES: usize = 255;

/// Points whose order is small, without their sign bit. A signature by such a "key" can be made without a private key.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Why a text is no key. Never contains the text of a signing key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name of the key has a forbidden form.
    #[error(
        "\"{0}\" cannot be the name of a key: use 1 to {MAX_NAME_BYTES} bytes without spaces, '+' and control \
         characters, such as ku.dk/2026"
    )]
    Name(String),
    /// The text has another form than that of a public key.
    #[error(
        "it is not a public key; write it as in the .pub file: name+hash+base64, such as ku.dk/2026+c74f20a3+AR..."
    )]
    NotAPublicKey,
    /// The text has another form than that of a signing key.
    #[error("it is not a signing key; it has the form PRIVATE+KEY+name+hash+base64")]
    NotASigningKey,
    /// A signing key where a public key is wanted.
    #[error(
        "it is a signing key (PRIVATE+KEY), and a public key is wanted: use the text of the .pub file, and keep the signing key secret"
    )]
    IsASigningKey,
    /// Name, hash and key do not belong together.
    #[error(
        "the hash of the key {0} is wrong: a character of its name or key was changed; copy the key again"
    )]
    Hash(String),
    /// The key is not an Ed25519 key.
    #[error("the key {0} is not an Ed25519 key (type 01, 32 bytes)")]
    Type(String),
    /// The key has a value that protects nothing.
    #[error(
        "the key {0} is a weak value (a point of small order), under which anyone can sign; create another key"
    )]
    Weak(String),
}

/// An Ed25519 public key and its name. Written `name+hash+base64`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    name: Arc<str>,
    bytes: [u8; 32],
}

impl PublicKey {
    /// A key from its 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// When the name has a forbidden form, or the key is weak.
    pub fn new(name: &str, bytes: [u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let mut unsigned = bytes;
        if let Some(last) = unsigned.last_mut() {
            *last &= 0x7f;
        }
        if SMALL_ORDER.contains(&hex(&unsigned).as_str()) {
            return Err(KeyError::Weak(name.to_owned()));
        }
        Ok(Self { name: name.into(), bytes })
    }

    /// The name that its owner gave it, such as `ku.dk/2026`. Anyone can give a key any name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The key id of C2SP signed-note: the first 4 bytes of SHA-256 over name, newline, type and key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let message = [self.name.as_bytes(), b"\n", &[ED25519_TYPE], &self.bytes].concat();
        let [a, b, c, d, ..] = sha256(&message);
        [a, b, c, d]
    }

    /// Whether this key signed the message.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }

    /// SHA-256 of the key's bytes, written as OpenSSH writes fingerprints. Two names of one key have the same one.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(sha256(&self.bytes)))
    }
}

/// Refuses what C2SP signed-note refuses as a name, and names that look different from what they are.
fn check_name(name: &str) -> Result<(), KeyError> {
    let forbidden = |c: char| c == '+' || c.is_whitespace() || is_deceptive(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(forbidden) {
        return Err(KeyError::Name(escaped(name)));
    }
    Ok(())
}

/// Whether a signature line may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    check_name(name).is_ok()
}

/// `name`, key id and key bytes of `name+hash+base64`; `otherwise` for any other form.
pub(crate) fn split_key(text: &str, otherwise: KeyError) -> Result<(&str, [u8; 4], Vec<u8>), KeyError> {
    let parts = text.split_once('+').and_then(|(name, rest)| rest.split_once('+').map(|rest| (name, rest)));
    let Some((name, (id, key))) = parts else { return Err(otherwise) };
    check_name(name)?;
    match (from_hex(id), STANDARD.decode(key)) {
        (Some(id), Ok(key)) => Ok((name, id, key)),
        _ => Err(otherwise),
    }
}

/// The 32 bytes after the type byte of an Ed25519 key.
pub(crate) fn ed25519_bytes(name: &str, key: &[u8]) -> Result<[u8; 32], KeyError> {
    key.split_first()
        .filter(|(kind, _)| **kind == ED25519_TYPE)
        .and_then(|(_, bytes)| bytes.try_into().ok())
        .ok_or_else(|| KeyError::Type(name.to_owned()))
}

/// `name+hash+base64` of a key; for a signing key, of its seed.
pub(crate) fn key_text(public: &PublicKey, bytes: &[u8; 32]) -> String {
    let typed = Zeroizing::new([&[ED25519_TYPE], bytes.as_slice()].concat());
    format!("{}+{}+{}", public.name, hex(&public.id()), STANDARD.encode(&*typed))
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(self, &self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with("PRIVATE+KEY+") {
            return Err(KeyError::IsASigningKey);
        }
        let (name, id, key) = split_key(text, KeyError::NotAPublicKey)?;
        let public = Self::new(name, ed25519_bytes(name, &key)?)?;
        if public.id() != id {
            return Err(KeyError::Hash(name.to_owned()));
        }
        Ok(public)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the documentation of golang.org/x/mod/sumdb/note.
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_key_of_gos_documentation_is_read() {
        let key: PublicKey = PETER.parse().unwrap();
        assert_eq!(key.name(), "PeterNeumann");
        assert_eq!(key.id(), [0xc7, 0x4f, 0x20, 0xa3]);
        assert_eq!(key.to_string(), PETER);
        assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{PETER}\""));
        assert_eq!(serde_json::from_str::<PublicKey>(&format!("\"{PETER}\"")).unwrap(), key);
    }

    #[test]
    fn a_fingerprint_is_of_the_key_and_not_of_its_name() {
        let key: PublicKey = PETER.parse().unwrap();
        let renamed = PublicKey::new("other", *key.as_bytes()).unwrap();
        assert_eq!(key.fingerprint(), renamed.fingerprint());
        assert_ne!(key.id(), renamed.id());
        assert!(key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50);
    }

    #[test]
    fn malformed_keys_are_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<PublicKey>().unwrap_err().to_string();
        for text in ["", "ku.dk", "a+b", "a+c74f20a3+", "a+c74f20a3+!", "a+C74F20A3+AR", "a+74f20a3+AAAA"] {
            let error = refused(text);
            assert!(
                error.contains("name+hash+base64") || error.contains("not an Ed25519 key"),
                "{text}: {error}"
            );
        }
        let renamed = PETER.replace("PeterNeumann", "Peter");
        assert!(refused(&renamed).contains("the hash of the key Peter is wrong"), "{}", refused(&renamed));
        let witness = format!("x+c74f20a3+{}", STANDARD.encode([4_u8; 33]));
        assert!(refused(&witness).contains("not an Ed25519 key (type 01, 32 bytes)"));
        let long = format!("x+c74f20a3+{}", STANDARD.encode([1_u8; 34]));
        assert!(refused(&long).contains("not an Ed25519 key"));
        assert!(refused("PRIVATE+KEY+a+c74f20a3+AR").contains("it is a signing key"));
        assert!(refused(&format!("{PETER}\n")).contains("name+hash+base64"));
    }

    #[test]
    fn names_with_spaces_plus_or_invisible_characters_are_refused() {
        for name in ["", "a b", "a\u{a0}b", "a+b", "a\nb", "a\u{202e}b", &"x".repeat(256)] {
            let error = PublicKey::new(name, [7; 32]).unwrap_err();
            assert!(error.to_string().contains("cannot be the name of a key"), "{error}");
        }
        assert!(PublicKey::new("ku.dk/2026", [7; 32]).is_ok());
    }

    #[test]
    fn weak_keys_are_refused() {
        for weak in SMALL_ORDER {
            let mut bytes: [u8; 32] = from_hex(weak).unwrap();
            assert_eq!(PublicKey::new("a", bytes), Err(KeyError::Weak("a".to_owned())));
            bytes[31] |= 0x80;
            assert_eq!(PublicKey::new("a", bytes), Err(KeyError::Weak("a".to_owned())));
        }
    }

    proptest! {
        #[test]
        fn any_text_that_is_a_key_is_written_as_it_was_read(text in "\\PC{0,80}", bytes: [u8; 32], name in "[!-*,-~]{1,40}") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
            if let Ok(key) = PublicKey::new(&name, bytes) {
                prop_assert_eq!(key.to_string().parse(), Ok(key));
            }
        }
    }
}
