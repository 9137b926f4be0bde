//! Which nodes a rule is about, as a Cedar condition and in words.

use std::collections::BTreeSet;
use std::ops::Range;

use systir_policy::RoomClass;

use crate::cedar::{entities, entity};
use crate::check::Names;
use crate::error::ProfileError;
use crate::hours::Hours;
use crate::text::PlaceText;

/// Which nodes, for which rooms.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    countries: BTreeSet<String>,
    zones: BTreeSet<String>,
    operators: BTreeSet<String>,
    /// None: the operator's own machines.
    hosts: Option<BTreeSet<String>>,
    /// None: all rooms.
    classes: Option<BTreeSet<RoomClass>>,
    require_e2ee: bool,
    hours: Option<Hours>,
}

impl Place {
    pub(crate) fn new(
        names: &mut Names<'_>,
        table: &str,
        at: Range<usize>,
        text: &PlaceText,
    ) -> Result<Self, ProfileError> {
        if text.countries.is_empty() && text.zones.is_empty() {
            let what = format!(
                "{table} says no place; write countries = [\"DK\"] or zones = [\"EEA\"]: what is not named is denied"
            );
            return Err(names.wrong(at, what));
        }
        let operators = match &text.operators {
            Some(words) => names.operators(words)?,
            None => names.operators.clone(),
        };
        let classes = match &text.classes {
            Some(words) if words.get_ref().is_empty() => {
                let what = "the list is empty: name room classes, or leave the line out for all rooms";
                return Err(names.wrong(words.span(), what));
            }
            Some(words) => Some(names.classes(words.get_ref())?),
            None => None,
        };
        Ok(Self {
            countries: text.countries.iter().map(|word| names.country(word)).collect::<Result<_, _>>()?,
            zones: text.zones.iter().map(|word| names.zone(word)).collect::<Result<_, _>>()?,
            operators,
            hosts: text.hosts.as_ref().map(|words| names.hosts(words)).transpose()?,
            classes,
            require_e2ee: text.require_e2ee,
            hours: names.hours(text.days.as_ref(), text.hours.as_ref())?,
        })
    }

    /// When it holds; none: always.
    pub(crate) fn hours(&self) -> Option<&Hours> {
        self.hours.as_ref()
    }

    /// The conditions, joined by `&&`, on lines of their own, without that on the time.
    pub(crate) fn conditions(&self) -> String {
        let mut all = vec![any_of("resource.operator", "Operator", &self.operators)];
        match &self.hosts {
            None => all.push("resource.own_machine".to_owned()),
            Some(hosts) => all.push(any_of("resource.host", "Host", hosts)),
        }
        all.push(in_places("resource.country", &self.countries, &self.zones));
        if self.require_e2ee {
            all.push("principal.e2ee".to_owned());
        }
        if let Some(classes) = self.classes.as_ref().filter(|classes| classes.len() == 1) {
            let class = classes.iter().next().map_or("", |class| class.as_str());
            all.push(format!("principal.class == {}", entity("RoomClass", class)));
        }
        all.join(" &&\n  ")
    }

    /// The sentence of a rule, with placeholders.
    pub(crate) fn why(&self) -> String {
        let machine = match &self.hosts {
            None => "{node} is {operator}'s own machine in {country}",
            Some(_) => "{node} is in {country}, on a machine of {host}",
        };
        let rooms = match (self.require_e2ee, self.only_standard()) {
            (true, true) => ", and the room is end-to-end encrypted and not confidential",
            (true, false) => ", and the room is end-to-end encrypted",
            (false, true) => ", and the room is not confidential",
            (false, false) => "",
        };
        let time = self.hours.as_ref().map(|hours| format!(", and the time is {}", hours.in_english()));
        format!("{machine}{rooms}{}", time.unwrap_or_default())
    }

    fn only_standard(&self) -> bool {
        self.classes.as_ref().is_some_and(|classes| !classes.contains(&RoomClass::Confidential))
    }
}

/// The value is one of these entities.
fn any_of(value: &str, kind: &str, names: &BTreeSet<String>) -> String {
    match names.iter().next() {
        Some(one) if names.len() == 1 => format!("{value} == {}", entity(kind, one)),
        _ => format!("{value} in [{}]", entities(kind, names)),
    }
}

/// The country is one of these, or in one of the zones. At least one is given.
pub(crate) fn in_places(value: &str, countries: &BTreeSet<String>, zones: &BTreeSet<String>) -> String {
    let mut any: Vec<String> =
        zones.iter().map(|zone| format!("{value} in {}", entity("Zone", zone))).collect();
    if !countries.is_empty() {
        any.push(any_of(value, "Country", countries));
    }
    if any.len() == 1 { any.remove(0) } else { format!("({})", any.join(" || ")) }
}
