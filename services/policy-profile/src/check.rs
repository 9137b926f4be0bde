//! Checks the words of a profile, each with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::tz::TimeZone;
use systir_policy::{RoomClass, is_country};
use toml::Spanned;

use crate::error::ProfileError;
use crate::hours::{self, Hours, parse_days, parse_hours};
use crate::text::{Word, Words};
use crate::zones;

/// What the words of a profile may be.
pub(crate) struct Names<'a> {
    pub(crate) text: &'a str,
    pub(crate) operators: BTreeSet<String>,
    pub(crate) hosts: BTreeSet<String>,
    /// The time zone of hours.
    pub(crate) time_zone: Option<(String, TimeZone)>,
    /// The profile's own zones.
    pub(crate) own_zones: BTreeMap<String, Vec<String>>,
    /// The zones that were used so far.
    pub(crate) used_zones: BTreeMap<String, Vec<String>>,
}

impl Names<'_> {
    /// An error at this place.
    pub(crate) fn wrong(&self, at: Range<usize>, what: impl Into<String>) -> ProfileError {
        wrong(self.text, at, what)
    }

    pub(crate) fn country(&self, word: &Word) -> Result<String, ProfileError> {
        country(self.text, word)
    }

    /// Notes that the zone is used.
    pub(crate) fn zone(&mut self, word: &Word) -> Result<String, ProfileError> {
        let zone = word.get_ref().clone();
        let countries =
            self.own_zones.get(&zone).cloned().or_else(|| zones::known(&zone)).ok_or_else(|| {
                let what = format!(
                    "there is no zone {zone:?}; write {zone} = [\"DK\", ...] under [zones], or one of {}",
                    zones::names()
                );
                self.wrong(word.span(), what)
            })?;
        self.used_zones.insert(zone.clone(), countries);
        Ok(zone)
    }

    pub(crate) fn operators(&self, words: &Words) -> Result<BTreeSet<String>, ProfileError> {
        self.all_in(words, &self.operators, "operators")
    }

    pub(crate) fn hosts(&self, words: &Words) -> Result<BTreeSet<String>, ProfileError> {
        self.all_in(words, &self.hosts, "hosts")
    }

    fn all_in(
        &self,
        words: &Words,
        known: &BTreeSet<String>,
        list: &str,
    ) -> Result<BTreeSet<String>, ProfileError> {
        if words.get_ref().is_empty() {
            return Err(
                self.wrong(words.span(), "the list is empty: name at least one, or leave the line out")
            );
        }
        for word in words.get_ref() {
            if !known.contains(word.get_ref()) {
                let what = format!(
                    "{:?} is not in the list `{list}` at the top; add it there, or write one of {}",
                    word.get_ref(),
                    quoted(known)
                );
                return Err(self.wrong(word.span(), what));
            }
        }
        Ok(words.get_ref().iter().map(|word| word.get_ref().clone()).collect())
    }

    /// The hours of a table; none if it has neither days nor hours.
    pub(crate) fn hours(
        &self,
        days: Option<&Word>,
        hours: Option<&Word>,
    ) -> Result<Option<Hours>, ProfileError> {
        let Some(first) = hours.or(days) else { return Ok(None) };
        let zone = self.time_zone.clone().ok_or_else(|| {
            let what = "days and hours need a time zone; write time_zone = \"Europe/Copenhagen\" at the top";
            self.wrong(first.span(), what)
        })?;
        let days = days.map(|word| {
            let what = format!("{:?} are no days; write \"mon-fri\" or \"mon,wed,fri\"", word.get_ref());
            parse_days(word.get_ref()).ok_or_else(|| self.wrong(word.span(), what))
        });
        let hours = hours.map(|word| {
            let what = format!(
                "{:?} are no hours; write \"08-14\", \"08:30-14:15\", or \"22-06\" for hours that end on the next day",
                word.get_ref()
            );
            parse_hours(word.get_ref()).ok_or_else(|| self.wrong(word.span(), what))
        });
        Ok(Some(Hours::new(days.transpose()?, hours.transpose()?, zone)))
    }

    pub(crate) fn classes(&self, words: &[Word]) -> Result<BTreeSet<RoomClass>, ProfileError> {
        words.iter().map(|word| self.class(word)).collect()
    }

    pub(crate) fn class(&self, word: &Word) -> Result<RoomClass, ProfileError> {
        RoomClass::named(word.get_ref()).ok_or_else(|| {
            let what =
                format!("{:?} is no room class; write \"standard\" or \"confidential\"", word.get_ref());
            self.wrong(word.span(), what)
        })
    }
}

/// An error at this place of the text.
pub(crate) fn wrong(text: &str, at: Range<usize>, what: impl Into<String>) -> ProfileError {
    let line = text.get(..at.start.min(text.len())).unwrap_or_default().matches('\n').count() + 1;
    ProfileError { line: Some(line), what: what.into() }
}

/// The time zone of a profile.
pub(crate) fn time_zone(text: &str, word: &Word) -> Result<(String, TimeZone), ProfileError> {
    hours::time_zone(word.get_ref()).ok_or_else(|| {
        let what = format!(
            "there is no time zone {:?}; write its name in the IANA database, such as \"Europe/Copenhagen\"",
            word.get_ref()
        );
        wrong(text, word.span(), what)
    })
}

pub(crate) fn country(text: &str, word: &Word) -> Result<String, ProfileError> {
    if is_country(word.get_ref()) {
        return Ok(word.get_ref().clone());
    }
    let what =
        format!("{:?} is not an ISO 3166-1 alpha-2 country; write \"DK\", not \"Denmark\"", word.get_ref());
    Err(wrong(text, word.span(), what))
}

/// The profile's own zones.
pub(crate) fn own_zones(
    text: &str,
    zones: &BTreeMap<String, Words>,
) -> Result<BTreeMap<String, Vec<String>>, ProfileError> {
    let mut checked = BTreeMap::new();
    for (zone, countries) in zones {
        let is_name =
            !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-".contains(&b));
        if !is_name {
            let what = format!("the zone name {zone:?} may only have letters, digits, spaces, '-' and '_'");
            return Err(wrong(text, countries.span(), what));
        }
        if countries.get_ref().is_empty() {
            let what = format!("the zone {zone} has no countries; write {zone} = [\"DK\", ...]");
            return Err(wrong(text, countries.span(), what));
        }
        let countries = countries.get_ref().iter().map(|word| country(text, word));
        checked.insert(zone.clone(), countries.collect::<Result<_, _>>()?);
    }
    Ok(checked)
}

/// The words of a list at the top, at least one.
pub(crate) fn listed(text: &str, words: &Words, example: &str) -> Result<BTreeSet<String>, ProfileError> {
    if words.get_ref().is_empty() {
        return Err(wrong(text, words.span(), format!("the list is empty; write [\"{example}\"]")));
    }
    Ok(words.get_ref().iter().map(|word: &Spanned<String>| word.get_ref().clone()).collect())
}

pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
