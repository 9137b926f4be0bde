//! Names of countries.

use std::collections::BTreeSet;

use systir_documents::Bundle;
use systir_policy_proof::{Countries, Language};

/// ISO 3166-1 alpha-2, English, Danish.
const NAMES: [(&str, &str, &str); 32] = [
    ("AT", "Austria", "Østrig"),
    ("BE", "Belgium", "Belgien"),
    ("BG", "Bulgaria", "Bulgarien"),
    ("CH", "Switzerland", "Schweiz"),
    ("CY", "Cyprus", "Cypern"),
    ("CZ", "Czechia", "Tjekkiet"),
    ("DE", "Germany", "Tyskland"),
    ("DK", "Denmark", "Danmark"),
    ("EE", "Estonia", "Estland"),
    ("ES", "Spain", "Spanien"),
    ("FI", "Finland", "Finland"),
    ("FR", "France", "Frankrig"),
    ("GB", "United Kingdom", "Storbritannien"),
    ("GR", "Greece", "Grækenland"),
    ("HR", "Croatia", "Kroatien"),
    ("HU", "Hungary", "Ungarn"),
    ("IE", "Ireland", "Irland"),
    ("IS", "Iceland", "Island"),
    ("IT", "Italy", "Italien"),
    ("LI", "Liechtenstein", "Liechtenstein"),
    ("LT", "Lithuania", "Litauen"),
    ("LU", "Luxembourg", "Luxembourg"),
    ("LV", "Latvia", "Letland"),
    ("MT", "Malta", "Malta"),
    ("NL", "Netherlands", "Nederlandene"),
    ("NO", "Norway", "Norge"),
    ("PL", "Poland", "Polen"),
    ("PT", "Portugal", "Portugal"),
    ("RO", "Romania", "Rumænien"),
    ("SE", "Sweden", "Sverige"),
    ("SI", "Slovenia", "Slovenien"),
    ("SK", "Slovakia", "Slovakiet"),
];

/// Its name; a country without one here by its code.
pub(super) fn name(code: &str, language: Language) -> String {
    match NAMES.iter().find(|(known, ..)| *known == code) {
        Some((_, english, danish)) => match language {
            Language::English => (*english).to_owned(),
            Language::Danish => (*danish).to_owned(),
        },
        None => code.to_owned(),
    }
}

/// A set of countries in words: a zone of the bundle if it is one, else the names.
pub(super) fn words(countries: &Countries, bundle: &Bundle, language: Language) -> String {
    let Countries { named, all_others } = countries;
    if *all_others {
        return match language {
            Language::English => "any country".to_owned(),
            Language::Danish => "ethvert land".to_owned(),
        };
    }
    let zone = bundle.zones.iter().find(|(_, listed)| {
        named.len() > 2 && listed.iter().collect::<BTreeSet<_>>() == named.iter().collect::<BTreeSet<_>>()
    });
    match zone {
        Some((zone, _)) => zone.clone(),
        None => named.iter().map(|code| name(code, language)).collect::<Vec<_>>().join(", "),
    }
}
