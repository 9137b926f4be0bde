//! Hours of local time against the calendar.

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use systir_documents::Lifetime;
use systir_policy::PolicyTime;

use crate::hours::{Hours, parse_days, parse_hours, time_zone};

/// 2026-11-01 to 2028-01-01: four changes in Europe.
const LIFETIME: Lifetime =
    Lifetime { issued: 1_793_491_200, renew_by: 1_820_000_000, not_after: 1_830_297_600 };

const ZONES: [&str; 8] = [
    "Europe/Copenhagen",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
    "Pacific/Niue",
    "Atlantic/Reykjavik",
    "Africa/Casablanca",
];

fn hours(text: &str) -> Hours {
    Hours::parse(text).unwrap_or_else(|| panic!("{text}"))
}

/// The condition, as a node evaluates it.
struct CompiledHours(PolicySet);

impl CompiledHours {
    fn new(hours: &Hours, lifetime: Lifetime) -> Self {
        let text = format!("permit (principal, action, resource) when {{ {} }};", hours.condition(lifetime));
        Self(text.parse().unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    fn holds(&self, seconds: u64) -> bool {
        let time = PolicyTime::at(seconds);
        let uid = |text: &str| text.parse::<EntityUid>().unwrap();
        let weekday = uid(&format!("Weekday::\"{}\"", time.weekday()));
        let context = Context::from_pairs([
            ("now".to_owned(), RestrictedExpression::new_datetime(time.to_string())),
            ("weekday".to_owned(), RestrictedExpression::new_entity_uid(weekday)),
        ]);
        let any = uid("Node::\"any\"");
        let request =
            Request::new(any.clone(), uid("Action::\"spill\""), any, context.unwrap(), None).unwrap();
        let response = Authorizer::new().is_authorized(&request, &self.0, &Entities::empty());
        assert_eq!(response.diagnostics().errors().count(), 0);
        response.decision() == Decision::Allow
    }

    /// At a local time of the zone.
    fn at(&self, local: &str) -> bool {
        self.holds(seconds(local))
    }
}

/// Seconds since 1970 of `2027-02-03T08:00[Europe/Copenhagen]`, or with an offset besides.
fn seconds(local: &str) -> u64 {
    let (moment, zone) = local.trim_end_matches(']').split_once('[').unwrap();
    let stamp = match moment.parse::<Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => local_time(&time_zone(zone).unwrap().1, moment.parse().unwrap()),
    };
    stamp.as_second().try_into().unwrap()
}

fn local_time(zone: &TimeZone, local: DateTime) -> Timestamp {
    zone.to_timestamp(local).unwrap()
}

/// What the calendar says: day and minute of local time.
fn by_the_calendar(days: [bool; 7], (from, until): (i32, i32), zone: &TimeZone, seconds: u64) -> bool {
    let local = zone.to_datetime(Timestamp::from_second(seconds.try_into().unwrap()).unwrap());
    let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
    let weekday = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap();
    let (today, yesterday) = (days[weekday], days[(weekday + 6) % 7]);
    if from < until {
        today && (from..until).contains(&minute)
    } else {
        (today && minute >= from) || (yesterday && minute < until)
    }
}

#[test]
fn hours_follow_summer_and_winter_time_to_the_minute() {
    let text = "mon-fri 08:00-14:00 Europe/Copenhagen";
    let condition = CompiledHours::new(&hours(text), LIFETIME);
    for (local, holds) in [
        ("2026-12-01T07:59[Europe/Copenhagen]", false),
        ("2026-12-01T08:00[Europe/Copenhagen]", true),
        ("2026-12-01T13:59[Europe/Copenhagen]", true),
        ("2026-12-01T14:00[Europe/Copenhagen]", false),
        ("2026-12-05T10:00[Europe/Copenhagen]", false),
        // The Friday before summer time and the Monday after.
        ("2027-03-26T08:00[Europe/Copenhagen]", true),
        ("2027-03-29T08:00[Europe/Copenhagen]", true),
        ("2027-03-29T07:59[Europe/Copenhagen]", false),
        ("2027-03-29T14:00[Europe/Copenhagen]", false),
        ("2027-11-01T07:59[Europe/Copenhagen]", false),
        ("2027-11-01T08:00[Europe/Copenhagen]", true),
        // Before the bundle is issued, long before, and after it ends.
        ("2026-10-30T10:00[Europe/Copenhagen]", true),
        ("2026-07-17T10:00[Europe/Copenhagen]", false),
        ("2027-12-31T10:00[Europe/Copenhagen]", true),
        ("2028-01-03T10:00[Europe/Copenhagen]", false),
    ] {
        assert_eq!(condition.at(local), holds, "{local}");
    }
}

#[test]
fn hours_over_midnight_belong_to_the_day_on_which_they_begin() {
    let condition = CompiledHours::new(&hours("fri 22:00-06:00 Europe/Copenhagen"), LIFETIME);
    for (local, holds) in [
        ("2027-06-04T21:59[Europe/Copenhagen]", false),
        ("2027-06-04T22:00[Europe/Copenhagen]", true),
        ("2027-06-05T00:00[Europe/Copenhagen]", true),
        ("2027-06-05T01:30[Europe/Copenhagen]", true),
        ("2027-06-05T05:59[Europe/Copenhagen]", true),
        ("2027-06-05T06:00[Europe/Copenhagen]", false),
        ("2027-06-05T22:00[Europe/Copenhagen]", false),
        ("2027-06-04T03:00[Europe/Copenhagen]", false),
    ] {
        assert_eq!(condition.at(local), holds, "{local}");
    }
    // The day changes at local midnight, which is 23 o'clock in UTC in winter.
    let condition = CompiledHours::new(&hours("mon 00:00-24:00 Europe/Copenhagen"), LIFETIME);
    for (local, holds) in [
        ("2027-01-10T23:59[Europe/Copenhagen]", false),
        ("2027-01-11T00:00[Europe/Copenhagen]", true),
        ("2027-01-11T23:59[Europe/Copenhagen]", true),
        ("2027-01-12T00:00[Europe/Copenhagen]", false),
    ] {
        assert_eq!(condition.at(local), holds, "{local}");
    }
}

#[test]
fn an_hour_that_a_clock_shows_twice_counts_twice() {
    let condition = CompiledHours::new(&hours("sun 02:00-03:00 Europe/Copenhagen"), LIFETIME);
    let twice = ["2027-10-31T02:30+02:00[Europe/Copenhagen]", "2027-10-31T02:30+01:00[Europe/Copenhagen]"];
    assert_eq!(twice.map(|local| condition.at(local)), [true, true]);
    // In spring the clock does not show it.
    assert!(!condition.at("2027-03-28T01:59[Europe/Copenhagen]"));
    assert!(!condition.at("2027-03-28T03:00[Europe/Copenhagen]"));
}

#[test]
fn a_long_bundle_has_hours_for_a_limited_time_and_none_after() {
    let forever = Lifetime { not_after: 253_402_300_799, ..LIFETIME };
    let text = "mon-fri 08:00-14:00 Europe/Copenhagen";
    let condition = CompiledHours::new(&hours(text), forever);
    assert!(condition.at("2031-02-03T08:00[Europe/Copenhagen]"));
    assert!(!condition.at("2032-02-02T08:00[Europe/Copenhagen]"));
    // A zone without summer time has no last range.
    let condition = CompiledHours::new(&hours("mon-fri 08:00-14:00 Atlantic/Reykjavik"), forever);
    assert!(condition.at("2087-01-03T08:00[Atlantic/Reykjavik]"));
    let draft = Lifetime { issued: 0, ..forever };
    let condition = CompiledHours::new(&hours(text), draft);
    assert!(condition.at("2026-02-03T08:00[Europe/Copenhagen]"));
    assert!(!condition.at("2025-12-02T08:00[Europe/Copenhagen]"));
}

#[test]
fn hours_are_said_in_words() {
    for (text, english, danish) in [
        (
            "mon-fri 08:00-14:00 Europe/Copenhagen",
            "Monday to Friday, 08:00 to 14:00 (Europe/Copenhagen)",
            "mandag til fredag kl. 08:00 til 14:00 (Europe/Copenhagen)",
        ),
        (
            "mon,wed,fri 22:00-06:30 UTC",
            "Monday, Wednesday and Friday, 22:00 to 06:30 the next day (UTC)",
            "mandag, onsdag og fredag kl. 22:00 til 06:30 næste dag (UTC)",
        ),
        (
            "sat-sun 00:00-24:00 UTC",
            "Saturday and Sunday, 00:00 to 24:00 (UTC)",
            "lørdag og søndag kl. 00:00 til 24:00 (UTC)",
        ),
        ("mon-sun 08:00-14:00 UTC", "every day, 08:00 to 14:00 (UTC)", "hver dag kl. 08:00 til 14:00 (UTC)"),
    ] {
        let hours = hours(text);
        assert_eq!(hours.to_string(), text);
        assert_eq!((hours.in_english().as_str(), hours.in_danish().as_str()), (english, danish));
    }
    assert_eq!(parse_days("fri-mon"), Some([true, false, false, false, true, true, true]));
    assert_eq!(parse_hours("8-14"), Some((480, 840)));
    for wrong in ["", "8", "14-14", "8-25", "24-8", "08:60-09", "08.00-14", "-1-5", "8-14-16"] {
        assert_eq!(parse_hours(wrong), None, "{wrong}");
    }
    for wrong in ["", "monday", "mon-", "mon;tue"] {
        assert_eq!(parse_days(wrong), None, "{wrong}");
    }
    assert_eq!(Hours::parse("mon-fri 8-14 UTC"), None, "not as it is written");
    assert!(time_zone("Europe/Kopenhagen").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// At any minute of the bundle's life, and around each change of the clock and each local midnight.
    #[test]
    fn the_condition_says_what_the_calendar_says(
        zone in prop::sample::select(ZONES.as_slice()), days in any::<[bool; 7]>(), from in 0..1440_i32, until in 1..=1440_i32,
        whole_hours: bool, moments in prop::collection::vec(LIFETIME.issued..LIFETIME.not_after, 40),
        around in prop::collection::vec(-100_i64..100, 8),
    ) {
        let (from, until) = if whole_hours { (from / 60 * 60, (until + 59) / 60 * 60) } else { (from, until) };
        prop_assume!(from != until && days.contains(&true));
        let zone = time_zone(zone).unwrap();
        let hours = Hours::new(Some(days), Some((from, until)), zone.clone());
        prop_assert_eq!(Hours::parse(&hours.to_string()), Some(hours.clone()));
        let condition = CompiledHours::new(&hours, LIFETIME);
        let start = Timestamp::from_second(LIFETIME.issued.try_into().unwrap()).unwrap();
        let changes: Vec<i64> = zone.1.following(start).take(4).map(|change| change.timestamp().as_second()).collect();
        let midnights = moments.iter().take(4).map(|moment| {
            let local = zone.1.to_datetime(Timestamp::from_second((*moment).try_into().unwrap()).unwrap());
            local_time(&zone.1, local.date().at(0, 0, 0, 0)).as_second()
        });
        let edges: Vec<i64> = changes.into_iter().chain(midnights).collect();
        let near = edges.iter().flat_map(|edge| around.iter().map(move |minutes| (edge + minutes * 60) as u64));
        for moment in near.chain(moments.iter().copied()) {
            let minute = moment / 60 * 60;
            if (LIFETIME.issued..LIFETIME.not_after).contains(&minute) {
                let expected = by_the_calendar(days, (from, until), &zone.1, minute);
                prop_assert_eq!(condition.holds(minute), expected, "{} at {}", hours, minute);
            }
        }
    }
}
