//! The time of a decision.

use systir_documents::rfc3339;

const MINUTE_SECONDS: u64 = 60;
const DAY_SECONDS: u64 = 86_400;
/// 9999-12-31, the last day that Cedar's dates can state.
const LAST_SECOND: u64 = 253_402_300_799;

/// Days of the week, as the Cedar schema names them. 1970-01-01 was a Thursday.
pub(crate) const WEEKDAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];

/// A full minute, UTC. Rules read it as `context.now` and `context.weekday`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyTime(u64);

impl PolicyTime {
    /// The minute of this second since 1970.
    #[must_use]
    pub fn at(seconds: u64) -> Self {
        Self(seconds.min(LAST_SECOND) / MINUTE_SECONDS)
    }

    /// Its first second since 1970.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 * MINUTE_SECONDS
    }

    /// The day of the week in UTC: `mon`.
    #[must_use]
    pub fn weekday(self) -> &'static str {
        let days = self.seconds() / DAY_SECONDS;
        WEEKDAYS.into_iter().cycle().nth((days % 7) as usize).unwrap_or_default()
    }
}

impl std::fmt::Display for PolicyTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&rfc3339(self.seconds()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_its_date_and_its_weekday() {
        for (seconds, shown, weekday) in [
            (0, "1970-01-01T00:00:00Z", "thu"),
            (1_801_573_199, "2027-02-02T12:59:00Z", "tue"),
            (1_801_526_400, "2027-02-02T00:00:00Z", "tue"),
            (1_801_526_399, "2027-02-01T23:59:00Z", "mon"),
            (u64::MAX, "9999-12-31T23:59:00Z", "fri"),
        ] {
            let time = PolicyTime::at(seconds);
            assert_eq!((time.to_string().as_str(), time.weekday()), (shown, weekday));
        }
    }
}
