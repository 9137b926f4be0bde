//! Zones: named sets of countries.

use std::collections::BTreeMap;

use toml::Spanned;

use crate::error::DocumentError;
use crate::names::{check_country, check_zone};
use crate::text::{TomlText, key, list};

/// The table `[zones]`.
pub(crate) type ZonesText = BTreeMap<String, Spanned<Vec<Spanned<String>>>>;

pub(crate) fn check_zones(
    zones: ZonesText,
    text: TomlText<'_>,
) -> Result<BTreeMap<String, Vec<String>>, DocumentError> {
    let mut checked = BTreeMap::new();
    for (zone, countries) in zones {
        check_zone(&zone).map_err(|problem| text.wrong(&countries, problem))?;
        if countries.get_ref().is_empty() {
            return Err(text.wrong(&countries, format!("the zone {zone} has no countries")));
        }
        checked.insert(zone, text.each_checked(countries.into_inner(), check_country)?);
    }
    Ok(checked)
}

pub(crate) fn write_zones(zones: &BTreeMap<String, Vec<String>>, out: &mut String) {
    if zones.is_empty() {
        return;
    }
    out.push_str("\n[zones]\n");
    for (zone, countries) in zones {
        out.push_str(&format!("{} = {}\n", key(zone), list(countries.iter().map(String::as_str))));
    }
}
