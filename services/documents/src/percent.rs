//! Percent-encoding (RFC 3986, section 2.1) of texts that may have any character.

/// Every byte except letters, digits, `-`, `.`, `_` and `~` as `%` and two upper-case hexadecimal digits.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The text of an encoding that [`percent_encode`] makes; `None` for any other.
pub(crate) fn percent_decode(encoded: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(encoded.len()), encoded.bytes());
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    (percent_encode(&text) == encoded).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_one_encoding_of_a_text_is_read() {
        assert_eq!(percent_encode("Åse L. ~1\n"), "%C3%85se%20L.%20~1%0A");
        assert_eq!(percent_decode("%C3%85se%20L.%20~1%0A").as_deref(), Some("Åse L. ~1\n"));
        for wrong in ["%c3%85", "%41", " ", "å", "%", "%4", "%GG", "%+1", "%C3", "a\u{0}"] {
            assert_eq!(percent_decode(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(text in "\\PC{0,40}|[\\x00-\\x7f]{0,20}", other in "[%0-9A-Fa-f]{0,12}") {
            prop_assert_eq!(percent_decode(&percent_encode(&text)), Some(text));
            if let Some(text) = percent_decode(&other) {
                prop_assert_eq!(percent_encode(&text), other);
            }
        }
    }
}
