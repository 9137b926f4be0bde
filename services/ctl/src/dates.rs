//! Dates on the command line.

use std::time::{SystemTime, UNIX_EPOCH};

use systir_documents::parse_rfc3339;

/// Seconds since 1970 of `2027-02-01`, which means its first second in UTC, or of `2027-02-01T12:00:00Z`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    parse_rfc3339(text)
        .or_else(|_| parse_rfc3339(&format!("{text}T00:00:00Z")))
        .map_err(|_| format!("{text} is not a date; write it like 2027-02-01 or 2027-02-01T12:00:00Z (UTC)"))
}

/// Seconds since 1970 now.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_date_is_its_first_second_in_utc() {
        assert_eq!(parse("2026-11-29"), parse("2026-11-29T00:00:00Z"));
        assert_eq!(parse("2026-11-29T08:00:00Z"), Ok(1_795_939_200));
        for wrong in ["", "29.11.2026", "2026-02-30", "2026-11-29T08:00", "1969-01-01"] {
            assert!(parse(wrong).unwrap_err().contains("is not a date"), "{wrong}");
        }
    }
}
