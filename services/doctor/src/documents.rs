//! Dates of signed documents.

use std::time::Duration;

use crate::finding::{Finding, FindingArea};
use crate::time_span::time_span;

/// A new version should be signed when less is left.
const SOON: u64 = 7 * 86_400;

/// A signed document that the node holds. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentDates {
    /// What it is: `directory of nordunet`.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// After it no new rooms and no new nodes.
    pub renew_by: u64,
    /// After it nothing.
    pub not_after: u64,
}

/// The check of a document's dates.
#[must_use]
pub fn document(dates: &DocumentDates, now: u64) -> Finding {
    let DocumentDates { name, version, renew_by, not_after } = dates;
    let area = FindingArea::Documents;
    let since = |date: u64| time_span(Duration::from_secs(now.abs_diff(date)));
    let advice = "let its owner sign and publish the next version";
    if now > *not_after {
        let what = format!("version {version} expired {} ago: it allows nothing", since(*not_after));
        return Finding::wrong(area, name, what).advise(advice);
    }
    if now > *renew_by {
        let what = format!(
            "version {version} should have been renewed {} ago: it allows no new room and no new node, and expires in {}",
            since(*renew_by),
            since(*not_after)
        );
        return Finding::wrong(area, name, what).advise(advice);
    }
    let what = format!("version {version}, to be renewed within {}", since(*renew_by));
    if renew_by - now < SOON {
        return Finding::warning(area, name, what).advise(advice);
    }
    Finding::ok(area, name, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_decide() {
        const DAY: u64 = 86_400;
        let dates = DocumentDates {
            name: "directory of nordunet".to_owned(),
            version: 3,
            renew_by: 100 * DAY,
            not_after: 130 * DAY,
        };
        let at = |day: u64| {
            let found = document(&dates, day * DAY);
            format!("{} {}", found.level.as_str(), found.line())
        };
        assert_eq!(at(10), "ok directory of nordunet: version 3, to be renewed within 90 days");
        assert!(
            at(95).starts_with("warning directory of nordunet: version 3, to be renewed within 5 days; let")
        );
        assert!(
            at(110)
                .starts_with("wrong directory of nordunet: version 3 should have been renewed 10 days ago")
        );
        assert!(at(110).contains("expires in 20 days"));
        assert!(
            at(140)
                .starts_with("wrong directory of nordunet: version 3 expired 10 days ago: it allows nothing")
        );
    }
}
