//! The forms of names in documents.

use crate::characters::{escaped, is_deceptive};

/// Longest name, bytes.
const MAX_NAME: usize = 255;

/// An institution, operator or node: a name that may stand in a file name, a log line and a metric.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if name.len() <= MAX_NAME && starts && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "\"{}\" is not a name: use 1 to {MAX_NAME} lower-case letters, digits, '-', '.' and '_', with a letter or \
         digit first, such as ku.dk or cph-1",
        escaped(name)
    ))
}

/// A trust domain (SPIFFE-ID standard, section 2.1).
pub(crate) fn check_trust_domain(name: &str) -> Result<(), String> {
    check_name(name)
        .map_err(|_| format!("\"{}\" is not a trust domain; write it like nordu.net", escaped(name)))
}

/// A SPIFFE id in this trust domain (SPIFFE-ID standard, sections 2.1 to 2.3).
pub(crate) fn check_spiffe_id(id: &str, trust_domain: &str) -> Result<(), String> {
    let wrong = |problem: &str| format!("\"{}\" {problem}", escaped(id));
    let rest = id.strip_prefix("spiffe://").ok_or_else(|| {
        wrong(&format!("is not a SPIFFE id; write it like spiffe://{trust_domain}/relay/cph-1"))
    })?;
    let path = rest.strip_prefix(trust_domain).and_then(|path| path.strip_prefix('/')).ok_or_else(|| {
        wrong(&format!(
            "is not in the trust domain {trust_domain}: a directory lists its operator's own nodes only"
        ))
    })?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed);
    if id.len() > 2048 || !path.split('/').all(is_segment) {
        return Err(wrong(&format!("is not a SPIFFE id; write it like spiffe://{trust_domain}/relay/cph-1")));
    }
    Ok(())
}

/// A country: the form only. Policy knows which codes exist.
pub(crate) fn check_country(code: &str) -> Result<(), String> {
    if code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(format!("\"{}\" is not an ISO 3166-1 alpha-2 country; write \"DK\", not \"Denmark\"", escaped(code)))
}

/// A zone.
pub(crate) fn check_zone(zone: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b" _-".contains(&b);
    if !zone.is_empty() && zone.len() <= MAX_NAME && zone.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("the zone name \"{}\" may only have letters, digits, spaces, '-' and '_'", escaped(zone)))
}

/// A text that is shown: a site, a region, a host.
pub(crate) fn check_label(label: &str) -> Result<(), String> {
    let is_clean = !label.contains(|c: char| c == '\n' || is_deceptive(c)) && label.trim() == label;
    if is_clean && !label.is_empty() && label.len() <= MAX_NAME {
        return Ok(());
    }
    Err(format!(
        "\"{}\" cannot be shown: use 1 to {MAX_NAME} bytes without control characters, and no space at either end",
        escaped(label)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_file_names() {
        for name in ["ku.dk", "nordunet", "cph-1", "a", "1a", "a_b"] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in
            ["", ".", "..", ".hidden", "-x", "KU.dk", "a/b", "a b", "ærø", "a\n", "a\0", &"x".repeat(256)]
        {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn spiffe_ids_of_other_trust_domains_are_refused() {
        let check = |id| check_spiffe_id(id, "nordu.net");
        assert_eq!(check("spiffe://nordu.net/relay/cph-1"), Ok(()));
        for other in [
            "spiffe://evil.example/relay/cph-1",
            "spiffe://nordu.net.evil.example/relay/x",
            "spiffe://nordu.net",
        ] {
            assert!(check(other).unwrap_err().contains("is not in the trust domain nordu.net"), "{other}");
        }
        for malformed in [
            "nordu.net/relay/cph-1",
            "spiffe://nordu.net/",
            "spiffe://nordu.net/relay/",
            "spiffe://nordu.net//x",
            "spiffe://nordu.net/../x",
            "spiffe://nordu.net/x?y",
            "spiffe://nordu.net/æ",
        ] {
            assert!(check(malformed).unwrap_err().contains("is not a SPIFFE id"), "{malformed}");
        }
    }

    #[test]
    fn labels_show_what_they_say() {
        for label in ["Copenhagen", "Århus", "北京", "Amazon Web Services"] {
            assert_eq!(check_label(label), Ok(()));
        }
        for label in ["", " x", "x ", "a\nb", "a\u{202e}b", &"x".repeat(256)] {
            assert!(check_label(label).is_err(), "{label:?}");
        }
    }

    #[test]
    fn countries_and_zones_have_a_form() {
        assert!(check_country("DK").is_ok() && check_zone("North Sea").is_ok());
        for wrong in ["", "dk", "DNK", "Denmark", "D\u{c6}"] {
            assert!(check_country(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "E\"EA", "Ø"] {
            assert!(check_zone(wrong).is_err(), "{wrong}");
        }
    }
}
