//! Zones that every profile knows. A bundle states the countries of each zone that its profile uses.

/// Zone and countries (ISO 3166-1 alpha-2).
const KNOWN: [(&str, &str); 3] = [
    ("EEA", "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK"),
    ("EU", "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"),
    ("Nordic", "DK FI IS NO SE"),
];

/// The countries of a zone that every profile knows.
pub(crate) fn known(zone: &str) -> Option<Vec<String>> {
    let (_, countries) = KNOWN.into_iter().find(|(name, _)| *name == zone)?;
    Some(countries.split(' ').map(str::to_owned).collect())
}

/// Their names, for messages.
pub(crate) fn names() -> String {
    KNOWN.map(|(name, _)| name).join(", ")
}
