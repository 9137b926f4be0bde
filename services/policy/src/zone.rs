//! Zones: named sets of countries, spelled out in the policy text before anything else looks at it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::country::is_country;
use crate::problem::{LoadError, Problem};
use crate::tokenizer::{Kind, Token, tokens};

/// Zone -> countries. A policy writes `resource.country in Zone::"EEA"`; what is parsed, hashed and shown is
/// `resource.country in [Country::"AT", ...]`, so the table is part of the text and not a row of some database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones(BTreeMap<String, Vec<String>>);

impl Zones {
    /// A table from pairs of zone and ISO 3166-1 alpha-2 countries; order and repetition of countries do not matter.
    ///
    /// # Errors
    /// A zone that is empty, has an odd name, or holds what is not a country.
    pub fn new(table: BTreeMap<String, Vec<String>>) -> Result<Self, LoadError> {
        let mut problems = Vec::new();
        let mut zones = BTreeMap::new();
        for (zone, mut countries) in table {
            if zone.is_empty() || !zone.chars().all(|c| c.is_ascii_alphanumeric() || " _-".contains(c)) {
                problems.push(Problem::at(
                    "zones",
                    format!("the zone name {zone:?} is not made of letters, digits, spaces, '-' and '_'"),
                ));
            }
            if countries.is_empty() {
                problems.push(Problem::at("zones", format!("the zone {zone:?} has no countries")));
            }
            for country in countries.iter().filter(|code| !is_country(code)) {
                problems.push(Problem::at(
                    "zones",
                    format!("{country:?} in zone {zone:?} is not an ISO 3166-1 alpha-2 country; write \"DK\", not \"Denmark\""),
                ));
            }
            countries.sort_unstable();
            countries.dedup();
            zones.insert(zone, countries);
        }
        if problems.is_empty() { Ok(Self(zones)) } else { Err(problems.into()) }
    }

    /// A table from TOML text, `EEA = ["AT", ...]`.
    ///
    /// # Errors
    /// What is not such TOML, and what [`Zones::new`] refuses.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Table(BTreeMap<String, Vec<String>>);
        let table: Table =
            toml::from_str(text).map_err(|error| vec![Problem::of_toml("zones", text, &error)])?;
        Self::new(table.0)
    }

    /// The countries of a zone, sorted.
    #[must_use]
    pub fn countries(&self, zone: &str) -> Option<&[String]> {
        self.0.get(zone).map(Vec::as_slice)
    }

    /// `source` with each `Zone::"X"` replaced by its countries, on the same line. Strings and comments are left
    /// alone. A zone that is not in the table is named in the error.
    pub(crate) fn expand(&self, source: &str) -> Result<String, Vec<String>> {
        let mut expanded = String::with_capacity(source.len());
        let mut unknown = Vec::new();
        let mut copied = 0;
        // The last three tokens: whatever stands before, `Zone`, `::`.
        let mut window: [Option<Token<'_>>; 3] = [None, None, None];
        for token in tokens(source) {
            if let [before, Some(word), Some(path)] = &window
                && token.kind == Kind::Text
                && path.kind == Kind::Path
                && word.text == "Zone"
                // `Other::Zone::"X"` is somebody else's; the schema knows it not.
                && before.as_ref().is_none_or(|token| token.kind != Kind::Path)
            {
                let zone = token.text.trim_matches('"');
                match self.countries(zone) {
                    Some(countries) => {
                        expanded.push_str(source.get(copied..word.range.start).unwrap_or_default());
                        let list: Vec<_> =
                            countries.iter().map(|code| format!("Country::\"{code}\"")).collect();
                        expanded.push('[');
                        expanded.push_str(&list.join(", "));
                        expanded.push(']');
                        copied = token.range.end;
                    }
                    None => unknown.push(zone.to_owned()),
                }
            }
            window.rotate_left(1);
            window[2] = Some(token);
        }
        expanded.push_str(source.get(copied..).unwrap_or_default());
        if unknown.is_empty() { Ok(expanded) } else { Err(unknown) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        Zones::parse("Nordic = [\"SE\", \"DK\", \"SE\"]\n\"North Sea\" = [\"NO\"]").unwrap()
    }

    #[test]
    fn a_zone_is_spelled_out_sorted_and_on_its_line() {
        let text =
            "when { resource.country in Zone::\"Nordic\" };\n// Zone::\"Nordic\"\nx in Zone :: \"North Sea\"";
        assert_eq!(
            zones().expand(text).unwrap(),
            "when { resource.country in [Country::\"DK\", Country::\"SE\"] };\n// Zone::\"Nordic\"\nx in [Country::\"NO\"]"
        );
    }

    #[test]
    fn strings_and_foreign_zones_are_left_alone() {
        for text in ["@why(\"not in Zone::\\\"Nordic\\\"\")", "Other::Zone::\"Nordic\"", "Zone", "Zone::", ""]
        {
            assert_eq!(zones().expand(text).unwrap(), text);
        }
    }

    #[test]
    fn an_unknown_zone_is_named() {
        assert_eq!(zones().expand("x in Zone::\"Nordics\""), Err(vec!["Nordics".to_owned()]));
        assert_eq!(zones().expand("x in Zone::\"open"), Err(vec!["open".to_owned()]));
    }

    #[test]
    fn a_zone_of_no_country_or_of_a_typo_is_refused() {
        for wrong in ["EEA = []", "EEA = [\"Denmark\"]", "EEA = \"DK\"", "\"E\\\"EA\" = [\"DK\"]"] {
            assert!(Zones::parse(wrong).is_err(), "{wrong}");
        }
    }
}
