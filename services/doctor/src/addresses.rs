//! Advertised addresses, and the prefixes that the directory lists for the node.

use std::net::IpAddr;

use crate::finding::{Finding, FindingArea};

/// The address at which other nodes dial this one, and those at which clients send media. `prefixes` are the texts of the
/// directory's prefixes of this node, `is_listed` tells whether one of them has the address.
#[must_use]
pub fn addresses(
    links: IpAddr,
    media: &[IpAddr],
    prefixes: &[String],
    is_listed: impl Fn(IpAddr) -> bool,
) -> Vec<Finding> {
    let area = FindingArea::Addresses;
    let listed = prefixes.join(", ");
    let links = if is_listed(links) {
        Finding::ok(area, "links.advertise", format!("{links} is in the directory's prefixes ({listed})"))
    } else {
        let what =
            format!("{links} is outside the directory's prefixes ({listed}): other nodes do not dial it");
        Finding::wrong(area, "links.advertise", what)
            .advise("advertise a listed address, or publish a directory that lists this one")
    };
    let outside: Vec<String> = media.iter().filter(|ip| !is_listed(**ip)).map(ToString::to_string).collect();
    let media = if outside.is_empty() {
        let all: Vec<String> = media.iter().map(ToString::to_string).collect();
        Finding::ok(area, "media.advertise", format!("{} in the directory's prefixes", all.join(", ")))
    } else {
        let what = format!(
            "{} outside the directory's prefixes ({listed}): clients would send media where nobody declared this node",
            outside.join(", ")
        );
        Finding::warning(area, "media.advertise", what)
            .advise("advertise a listed address, or publish a directory that lists this one")
    };
    vec![links, media]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingLevel;

    #[test]
    fn an_address_outside_the_prefixes_is_found() {
        let (inside, outside): (IpAddr, IpAddr) =
            ("192.0.2.10".parse().unwrap(), "198.51.100.1".parse().unwrap());
        let check = |links, media: &[IpAddr]| {
            let prefixes = ["192.0.2.0/24".to_owned()];
            addresses(links, media, &prefixes, |ip| ip == inside)
        };
        let levels = |found: &[Finding]| found.iter().map(|finding| finding.level).collect::<Vec<_>>();
        let found = check(inside, &[inside]);
        assert_eq!(levels(&found), [FindingLevel::Ok, FindingLevel::Ok]);
        let found = check(outside, &[inside, outside]);
        assert_eq!(levels(&found), [FindingLevel::Wrong, FindingLevel::Warning]);
        assert!(found[0].what.starts_with("198.51.100.1 is outside the directory's prefixes (192.0.2.0/24)"));
        assert!(found[1].what.starts_with("198.51.100.1 outside"), "{found:?}");
    }
}
