//! Zones: named sets of countries, replaced in the policy text before it is parsed.

use std::collections::BTreeMap;

use crate::country::is_country;
use crate::problem::Problem;
use crate::tokenizer::{CedarToken, TokenKind, tokens};

/// Zone -> countries. A policy writes `resource.country in Zone::"EEA"`; what is parsed, hashed and shown is
/// `resource.country in [Country::"AT", ...]`. Each document has its own table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zones(BTreeMap<String, Vec<String>>);

impl Zones {
    /// The table of a document; order and repetition of countries do not matter. `place` names the document in problems.
    ///
    /// # Errors
    /// A zone that is empty, has a forbidden character in its name, or has an unknown country code.
    pub(crate) fn new(place: &str, table: &BTreeMap<String, Vec<String>>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut zones = BTreeMap::new();
        for (zone, countries) in table {
            if zone.is_empty() || !zone.chars().all(|c| c.is_ascii_alphanumeric() || " _-".contains(c)) {
                problems.push(Problem::at(
                    place,
                    format!("the zone name {zone:?} may only have letters, digits, spaces, '-' and '_'"),
                ));
            }
            if countries.is_empty() {
                problems.push(Problem::at(place, format!("the zone {zone:?} has no countries")));
            }
            for country in countries.iter().filter(|code| !is_country(code)) {
                problems.push(Problem::at(
                    place,
                    format!("{country:?} in zone {zone:?} is not an ISO 3166-1 alpha-2 country; write \"DK\", not \"Denmark\""),
                ));
            }
            let mut countries = countries.clone();
            countries.sort_unstable();
            countries.dedup();
            zones.insert(zone.clone(), countries);
        }
        if problems.is_empty() { Ok(Self(zones)) } else { Err(problems) }
    }

    /// The countries of a zone, sorted.
    fn countries(&self, zone: &str) -> Option<&[String]> {
        self.0.get(zone).map(Vec::as_slice)
    }

    /// `source` with each `Zone::"X"` replaced by its countries, on the same line. Strings and comments are not
    /// changed. The error lists the zones that are not in the table.
    pub(crate) fn expand(&self, source: &str) -> Result<String, Vec<String>> {
        let mut expanded = String::with_capacity(source.len());
        let mut unknown = Vec::new();
        let mut copied = 0;
        // The last three tokens: the one before `Zone`, `Zone`, `::`.
        let mut window: [Option<CedarToken<'_>>; 3] = [None, None, None];
        for token in tokens(source) {
            if let [before, Some(word), Some(path)] = &window
                && token.kind == TokenKind::Text
                && path.kind == TokenKind::Path
                && word.text == "Zone"
                // `Other::Zone::"X"` is another type, which the schema does not have.
                && before.as_ref().is_none_or(|token| token.kind != TokenKind::Path)
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
        table(&[("Nordic", &["SE", "DK", "SE"]), ("North Sea", &["NO"])]).unwrap()
    }

    fn table(zones: &[(&str, &[&str])]) -> Result<Zones, Vec<Problem>> {
        let countries = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect();
        let zones = zones.iter().map(|(zone, codes)| ((*zone).to_owned(), countries(codes)));
        Zones::new("bundle of ku.dk", &zones.collect())
    }

    #[test]
    fn a_zone_is_replaced_by_its_sorted_countries_on_the_same_line() {
        let text =
            "when { resource.country in Zone::\"Nordic\" };\n// Zone::\"Nordic\"\nx in Zone :: \"North Sea\"";
        assert_eq!(
            zones().expand(text).unwrap(),
            "when { resource.country in [Country::\"DK\", Country::\"SE\"] };\n// Zone::\"Nordic\"\nx in [Country::\"NO\"]"
        );
    }

    #[test]
    fn strings_and_zones_of_other_namespaces_are_not_replaced() {
        for text in ["@why(\"not in Zone::\\\"Nordic\\\"\")", "Other::Zone::\"Nordic\"", "Zone", "Zone::", ""]
        {
            assert_eq!(zones().expand(text).unwrap(), text);
        }
    }

    #[test]
    fn unknown_zones_are_listed_in_the_error() {
        assert_eq!(zones().expand("x in Zone::\"Nordics\""), Err(vec!["Nordics".to_owned()]));
        assert_eq!(zones().expand("x in Zone::\"open"), Err(vec!["open".to_owned()]));
    }

    #[test]
    fn an_empty_or_malformed_zone_is_refused() {
        for wrong in [("EEA", &[][..]), ("EEA", &["Denmark"]), ("E\"EA", &["DK"]), ("", &["DK"])] {
            assert!(table(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
