//! The format of a tag.
//!
//! The plaintext is the length of the name (two bytes, big endian), the name in UTF-8, and zero bytes up to a multiple
//! of 32, which hide the length but for steps of 32 bytes. It is encrypted by AES-256-GCM-SIV (RFC 8452) with a nonce of zeros and the
//! associated data `systir.org/room-tag/v1`, a line feed and the institution. With a fixed nonce the result is
//! deterministic, so one name has one tag under one key, and the only thing that two tags tell is whether their names
//! are the same (RFC 8452 section 9). The tag is its URL-safe base64 without padding (RFC 4648 section 5).

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The plaintext is a multiple of this, bytes.
const BLOCK: usize = 32;

/// Longest name, bytes; tokens allow 256.
pub const MAX_NAME_BYTES: usize = 512;

fn associated_data(institution: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("systir.org/room-tag/v1\n{institution}").into_bytes())
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The tag of a name; none when the name is too long.
pub(crate) fn seal(key: &LessSafeKey, institution: &str, name: &str) -> Option<String> {
    let length = u16::try_from(name.len()).ok().filter(|length| usize::from(*length) <= MAX_NAME_BYTES)?;
    let mut text = length.to_be_bytes().to_vec();
    text.extend_from_slice(name.as_bytes());
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    key.seal_in_place_append_tag(nonce(), associated_data(institution), &mut text).ok()?;
    Some(URL_SAFE_NO_PAD.encode(text))
}

/// The name in a tag; none when it was not made with this key for this institution.
pub(crate) fn open(key: &LessSafeKey, institution: &str, tag: &str) -> Option<String> {
    let mut sealed = URL_SAFE_NO_PAD.decode(tag).ok()?;
    let text = key.open_in_place(nonce(), associated_data(institution), &mut sealed).ok()?;
    let whole_blocks = text.len().is_multiple_of(BLOCK);
    let (length, rest) = text.split_first_chunk()?;
    let (name, padding) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    // A name has one tag: whoever holds the key cannot make a second one.
    if !whole_blocks || padding.len() >= BLOCK || padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

/// Entry point for the fuzz target: a tag, and any text that whoever holds the key seals. A name has one tag.
#[cfg(feature = "fuzzing")]
pub fn fuzz(bytes: &[u8]) {
    let Ok(unbound) = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM_SIV, &[1; 32]) else {
        unreachable!("AES-256 takes every key of 32 bytes")
    };
    let key = LessSafeKey::new(unbound);
    let mut sealed = bytes.to_vec();
    let made = key.seal_in_place_append_tag(nonce(), associated_data("ku.dk"), &mut sealed);
    let made = made.ok().map(|()| URL_SAFE_NO_PAD.encode(sealed));
    for tag in [made.as_deref(), std::str::from_utf8(bytes).ok()].into_iter().flatten() {
        let Some(name) = open(&key, "ku.dk", tag) else { continue };
        assert!(seal(&key, "ku.dk", &name).is_none_or(|again| again == tag));
        assert_eq!(open(&key, "nordu.net", tag), None, "a tag of another institution");
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{AES_256_GCM_SIV, UnboundKey};

    use super::*;

    #[test]
    fn a_name_has_one_tag_only() {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &[7; 32]).unwrap());
        let tag_of = |text: &[u8]| {
            let mut sealed = text.to_vec();
            key.seal_in_place_append_tag(nonce(), associated_data("ku.dk"), &mut sealed).unwrap();
            URL_SAFE_NO_PAD.encode(sealed)
        };
        let padded = |length: usize, last: u8| {
            let mut text = vec![0; length];
            text[..3].copy_from_slice(&[0, 1, b'a']);
            text[length - 1] = last;
            text
        };
        assert_eq!(seal(&key, "ku.dk", "a"), Some(tag_of(&padded(32, 0))));
        assert_eq!(open(&key, "ku.dk", &tag_of(&padded(32, 0))).as_deref(), Some("a"));
        for other in [padded(32, 1), padded(64, 0), vec![0, 1, b'a', 0], vec![0, 9, b'a'], vec![0]] {
            assert_eq!(open(&key, "ku.dk", &tag_of(&other)), None, "{other:?}");
        }
    }
}
