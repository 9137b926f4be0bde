//! From when to when a document is valid.

use std::fmt;

use serde::Serialize;
use time::{Date, Month, OffsetDateTime};
use toml::value::{Datetime, Offset};

use crate::characters::escaped;

/// The dates of a document, seconds since 1970-01-01T00:00:00Z; `issued` <= `renew_by` <= `not_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// When it was made.
    pub issued: u64,
    /// After it no new rooms and no new nodes.
    pub renew_by: u64,
    /// After it nothing.
    pub not_after: u64,
}

/// What a document is still good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validity {
    /// Everything.
    Valid,
    /// Its renewal is overdue: what runs goes on, nothing new begins.
    RenewalOverdue,
    /// Nothing.
    Expired,
}

impl Lifetime {
    /// What the document is good for at this time.
    #[must_use]
    pub fn validity(&self, now: u64) -> Validity {
        if now > self.not_after {
            Validity::Expired
        } else if now > self.renew_by {
            Validity::RenewalOverdue
        } else {
            Validity::Valid
        }
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::RenewalOverdue => "renewal overdue",
            Self::Expired => "expired",
        })
    }
}

/// Seconds since 1970 of a date in TOML: whole seconds, UTC.
pub(crate) fn seconds(datetime: &Datetime) -> Result<u64, String> {
    let wrong =
        || format!("{datetime} is not a time in UTC with whole seconds; write it like 2026-11-29T08:00:00Z");
    let (Some(date), Some(time), Some(Offset::Z)) = (datetime.date, datetime.time, datetime.offset) else {
        return Err(wrong());
    };
    if time.nanosecond.is_some_and(|nanosecond| nanosecond != 0) {
        return Err(wrong());
    }
    let month = Month::try_from(date.month).map_err(|_| wrong())?;
    let moment = Date::from_calendar_date(i32::from(date.year), month, date.day)
        .and_then(|date| date.with_hms(time.hour, time.minute, time.second.unwrap_or_default()))
        .map_err(|_| wrong())?;
    u64::try_from(moment.assume_utc().unix_timestamp()).map_err(|_| format!("{datetime} is before 1970"))
}

/// Seconds since 1970 of an RFC 3339 text in UTC with whole seconds, such as `2026-11-29T08:00:00Z`.
///
/// # Errors
/// When the text has another form; the message says what to write.
pub fn parse_rfc3339(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(datetime) => seconds(&datetime),
        Err(_) => Err(wrong_date(&escaped(text))),
    }
}

fn wrong_date(text: &str) -> String {
    format!("{text} is not a time in UTC with whole seconds; write it like 2026-11-29T08:00:00Z")
}

/// A time as RFC 3339 text in UTC.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let moment =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let Some(moment) = moment else { return format!("{seconds} s after 1970") };
    let (date, time) = (moment.date(), moment.time());
    let month = u8::from(date.month());
    format!(
        "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_is_valid_to_the_second_of_its_dates() {
        let lifetime = Lifetime { issued: 10, renew_by: 20, not_after: 30 };
        let validity = [0, 20, 21, 30, 31].map(|now| lifetime.validity(now));
        use Validity::{Expired, RenewalOverdue, Valid};
        assert_eq!(validity, [Valid, Valid, RenewalOverdue, RenewalOverdue, Expired]);
    }

    #[test]
    fn dates_are_in_utc_with_whole_seconds() {
        let read = |text: &str| seconds(&text.parse().unwrap());
        assert_eq!(read("2026-11-29T08:00:00Z"), Ok(1_795_939_200));
        assert_eq!(read("2024-02-29T23:59:59Z"), Ok(1_709_251_199));
        for wrong in [
            "2026-11-29",
            "2026-11-29T08:00:00",
            "08:00:00",
            "2026-11-29T08:00:00+01:00",
            "2026-11-29T08:00:00.5Z",
        ] {
            assert!(read(wrong).unwrap_err().contains("write it like 2026-11-29T08:00:00Z"), "{wrong}");
        }
        assert_eq!(parse_rfc3339("2026-11-29T08:00:00Z"), Ok(1_795_939_200));
        for wrong in ["", "tomorrow", "2026-11-29", "2026-11-29T08:00:00Z\n"] {
            assert!(
                parse_rfc3339(wrong).unwrap_err().contains("write it like 2026-11-29T08:00:00Z"),
                "{wrong}"
            );
        }
        assert!(read("1969-12-31T23:59:59Z").unwrap_err().contains("before 1970"));
    }

    proptest! {
        #[test]
        fn a_time_is_read_as_it_was_written(moment in 0_u64..253_402_300_800) {
            prop_assert_eq!(seconds(&rfc3339(moment).parse().unwrap()), Ok(moment));
        }
    }
}
