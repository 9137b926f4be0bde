//! Times of lines: RFC 3339 in UTC with milliseconds.

use systir_documents::{parse_rfc3339, rfc3339};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The day of a moment, in days since 1970 (UTC).
#[must_use]
pub const fn day_of(unix_ms: u64) -> u64 {
    unix_ms / DAY_MS
}

/// A moment as text: `2026-11-29T08:00:00.123Z`.
#[must_use]
pub fn journal_time(unix_ms: u64) -> String {
    let mut text = rfc3339(unix_ms / 1000);
    if text.ends_with('Z') {
        text.pop();
    }
    format!("{text}.{:03}Z", unix_ms % 1000)
}

/// Milliseconds since 1970 of such a text.
///
/// # Errors
/// When the text has another form; the message says what to write.
pub fn parse_journal_time(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a time; write it like 2026-11-29T08:00:00.123Z");
    let (seconds, fraction) = text.split_once('.').ok_or_else(wrong)?;
    let digits = fraction.strip_suffix('Z').filter(|digits| digits.len() == 3).ok_or_else(wrong)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds = parse_rfc3339(&format!("{seconds}Z")).map_err(|_| wrong())?;
    let milliseconds = digits.parse::<u64>().map_err(|_| wrong())?;
    seconds.checked_mul(1000).and_then(|all| all.checked_add(milliseconds)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 9999-12-31T23:59:59.999Z.
    const LAST: u64 = 253_402_300_799_999;

    proptest! {
        #[test]
        fn a_time_is_read_as_it_was_written(time in 0..=LAST) {
            prop_assert_eq!(parse_journal_time(&journal_time(time)), Ok(time));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_journal_time(&text);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        assert_eq!(journal_time(1_795_939_200_007), "2026-11-29T08:00:00.007Z");
        for wrong in
            ["", "2026-11-29T08:00:00Z", "2026-11-29T08:00:00.1Z", "2026-11-29T08:00:00.+12Z", "x.123Z"]
        {
            assert!(parse_journal_time(wrong).unwrap_err().contains("write it like"), "{wrong}");
        }
    }
}
