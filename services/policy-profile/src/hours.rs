//! Hours of local time, as a Cedar condition on UTC and in words.
//!
//! A node knows no time zones: summer and winter time are written out, as ranges of `context.now`, for the time in which a
//! bundle is valid. What is signed says exactly when.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use systir_documents::{Lifetime, rfc3339};

const DAY: i32 = 24 * 60;
/// Monday first, as in the schema.
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const ENGLISH: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const DANISH: [&str; 7] = ["mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag"];
/// Most changes between summer and winter time that are written out: four to five years in Europe. After the last range the
/// condition is false. A rule has a limited number of operators.
const MAX_CHANGES: usize = 10;
/// The first range begins so long before the bundle is issued: it permits from its first minute on, also by a clock that is
/// late, and decisions of a journal, which is kept for 90 days, can be made anew by it.
const LEAD: u64 = 100 * 86_400;
/// The range of a draft without dates starts in 2026.
const DRAFT_FROM: u64 = 1_767_225_600;

/// Hours on some days of the week, in a time zone: `mon-fri 08:00-14:00 Europe/Copenhagen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Monday first.
    days: [bool; 7],
    /// Minutes of the local day. With `until` at or before `from`, the hours end on the next day.
    from: i32,
    until: i32,
    zone: TimeZone,
    zone_name: String,
}

/// A part of a UTC day, on some days: `from` until before `until`, minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DayPart {
    days: [bool; 7],
    from: i32,
    until: i32,
}

impl Hours {
    /// Hours on all days, or on some.
    pub(crate) fn new(
        days: Option<[bool; 7]>,
        hours: Option<(i32, i32)>,
        (zone_name, zone): (String, TimeZone),
    ) -> Self {
        let (from, until) = hours.unwrap_or((0, DAY));
        Self { days: days.unwrap_or([true; 7]), from, until, zone, zone_name }
    }

    /// Reads what [`Display`](std::fmt::Display) writes, the value of `@hours`; none if it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (days, hours, zone) = (words.next()?, words.next()?, words.next()?);
        let read = Self::new(Some(parse_days(days)?), Some(parse_hours(hours)?), time_zone(zone)?);
        (read.to_string() == text).then_some(read)
    }

    /// The condition, for a bundle with these dates. It is false long before the bundle is issued, and after it ends.
    #[must_use]
    pub fn condition(&self, lifetime: Lifetime) -> String {
        let mut by_offset = Vec::<(i32, Vec<String>)>::new();
        for (from, until, offset) in self.ranges(lifetime) {
            let range = format!(
                "(context.now >= datetime(\"{}\") && context.now < datetime(\"{}\"))",
                rfc3339(from),
                rfc3339(until)
            );
            match by_offset.iter_mut().find(|(known, _)| *known == offset) {
                Some((_, ranges)) => ranges.push(range),
                None => by_offset.push((offset, vec![range])),
            }
        }
        let parts = by_offset.into_iter().map(|(offset, ranges)| {
            let windows: Vec<String> = self.windows(offset).iter().map(DayPart::condition).collect();
            format!("({} &&\n    {})", either(&ranges, "      "), either(&windows, "     "))
        });
        either(&parts.collect::<Vec<_>>(), "   ")
    }

    /// Ranges of one offset from UTC: seconds since 1970, and minutes east.
    fn ranges(&self, lifetime: Lifetime) -> Vec<(u64, u64, i32)> {
        let mut from = if lifetime.issued == 0 { DRAFT_FROM } else { lifetime.issued.saturating_sub(LEAD) };
        let stamp = |seconds: u64| Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX));
        let Ok(start) = stamp(from) else { return Vec::new() };
        let mut offset = self.zone.to_offset(start);
        let mut ranges = Vec::new();
        let changes = self.zone.following(start).filter_map(|change| {
            let at = u64::try_from(change.timestamp().as_second()).ok()?;
            Some((at, change.offset()))
        });
        for (at, next) in changes.take(MAX_CHANGES) {
            let until = at.min(lifetime.not_after);
            if from < until {
                ranges.push((from, until, offset.seconds() / 60));
            }
            (from, offset) = (at, next);
        }
        // A zone that changes no more has one offset for good. Of the others the last range was written.
        if ranges.len() < MAX_CHANGES && from < lifetime.not_after {
            ranges.push((from, lifetime.not_after, offset.seconds() / 60));
        }
        ranges
    }

    /// The hours in UTC, where local time is `offset` minutes ahead.
    fn windows(&self, offset: i32) -> Vec<DayPart> {
        let until = if self.until <= self.from { self.until + DAY } else { self.until };
        let (from, until) = (self.from - offset, until - offset);
        // The hours of a day touch at most the UTC day before, its own and the two after.
        let parts = (-1..=2).filter_map(|day| {
            let (from, until) = ((from - day * DAY).max(0), (until - day * DAY).min(DAY));
            let days = std::array::from_fn(|weekday| {
                let began = (weekday as i32 - day).rem_euclid(7);
                usize::try_from(began).ok().and_then(|began| self.days.get(began)).copied().unwrap_or(false)
            });
            (from < until).then_some(DayPart { days, from, until })
        });
        parts.collect()
    }

    /// `Monday to Friday, 08:00 to 14:00 (Europe/Copenhagen)`.
    #[must_use]
    pub fn in_english(&self) -> String {
        let days = self.days_in_words("every day", " to ", " and ", ENGLISH);
        let next = if self.until <= self.from { " the next day" } else { "" };
        format!("{days}, {} to {}{next} ({})", clock(self.from), clock(self.until), self.zone_name)
    }

    /// `mandag til fredag kl. 08:00 til 14:00 (Europe/Copenhagen)`.
    #[must_use]
    pub fn in_danish(&self) -> String {
        let days = self.days_in_words("hver dag", " til ", " og ", DANISH);
        let next = if self.until <= self.from { " næste dag" } else { "" };
        format!("{days} kl. {} til {}{next} ({})", clock(self.from), clock(self.until), self.zone_name)
    }

    fn days_in_words(&self, all: &str, to: &str, and: &str, names: [&str; 7]) -> String {
        if self.days == [true; 7] {
            return all.to_owned();
        }
        let name = |day: usize| names.get(day).copied().unwrap_or_default();
        let mut words: Vec<String> = runs(self.days)
            .into_iter()
            .flat_map(|(first, last)| match last - first {
                0 => vec![name(first).to_owned()],
                1 => vec![name(first).to_owned(), name(last).to_owned()],
                _ => vec![format!("{}{to}{}", name(first), name(last))],
            })
            .collect();
        match (words.pop(), words.is_empty()) {
            (Some(last), false) => format!("{}{and}{last}", words.join(", ")),
            (last, _) => last.unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |day: usize| WEEKDAYS.get(day).copied().unwrap_or_default();
        let days = runs(self.days).into_iter().map(|(first, last)| {
            if first == last { name(first).to_owned() } else { format!("{}-{}", name(first), name(last)) }
        });
        let days = days.collect::<Vec<_>>().join(",");
        write!(f, "{days} {}-{} {}", clock(self.from), clock(self.until), self.zone_name)
    }
}

impl DayPart {
    fn condition(&self) -> String {
        let mut all = Vec::new();
        let listed = WEEKDAYS.iter().zip(self.days).filter(|(_, is_in)| *is_in);
        let listed: Vec<String> = listed.map(|(day, _)| format!("Weekday::\"{day}\"")).collect();
        match listed.as_slice() {
            [one] => all.push(format!("context.weekday == {one}")),
            _ if listed.len() < 7 => all.push(format!("context.weekday in [{}]", listed.join(", "))),
            _ => {}
        }
        if self.from > 0 {
            all.push(format!("context.now.toTime() >= duration(\"{}\")", duration(self.from)));
        }
        if self.until < DAY {
            all.push(format!("context.now.toTime() < duration(\"{}\")", duration(self.until)));
        }
        if all.is_empty() { "true".to_owned() } else { format!("({})", all.join(" && ")) }
    }
}

/// The conditions, of which one is enough, each on a line of its own.
fn either(conditions: &[String], indent: &str) -> String {
    match conditions {
        [] => "false".to_owned(),
        [one] => one.clone(),
        several => format!("({})", several.join(&format!(" ||\n{indent}"))),
    }
}

/// Days that follow each other, first and last, within a week.
fn runs(days: [bool; 7]) -> Vec<(usize, usize)> {
    let mut runs = Vec::<(usize, usize)>::new();
    for day in days.iter().enumerate().filter(|(_, is_in)| **is_in).map(|(day, _)| day) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == day => *last = day,
            _ => runs.push((day, day)),
        }
    }
    runs
}

fn clock(minutes: i32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// As Cedar writes durations: `7h30m`.
fn duration(minutes: i32) -> String {
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match (hours, minutes) {
        (_, 0) => format!("{hours}h"),
        (0, _) => format!("{minutes}m"),
        _ => format!("{hours}h{minutes}m"),
    }
}

/// A time zone of the IANA database, by its name.
pub(crate) fn time_zone(name: &str) -> Option<(String, TimeZone)> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    // The database is asked without regard to case; what is signed has its own spelling.
    let name = zone.iana_name()?.to_owned();
    Some((name, zone))
}

/// `08-14` or `08:30-14:15`: minutes of the day. The end may be 24, and may be before the start: then it is on the next day.
pub(crate) fn parse_hours(text: &str) -> Option<(i32, i32)> {
    let (from, until) = text.split_once('-')?;
    let (from, until) = (parse_clock(from)?, parse_clock(until)?);
    (from < DAY && until > 0 && from != until).then_some((from, until))
}

fn parse_clock(text: &str) -> Option<i32> {
    let (hours, minutes) = text.trim().split_once(':').unwrap_or((text.trim(), "00"));
    let number = |text: &str| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i32>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    let all = hours * 60 + minutes;
    (all <= DAY).then_some(all)
}

/// `mon-fri`, `sat,sun`, `fri-mon`.
pub(crate) fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| WEEKDAYS.iter().position(|known| *known == name.trim());
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut at = first;
        loop {
            *days.get_mut(at)? = true;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}
