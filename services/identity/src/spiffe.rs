//! SPIFFE ids (SPIFFE-ID standard, sections 2.1 to 2.3): `spiffe://trust-domain/path`.

use crate::IdentityError;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const MAX_ID: usize = 2048;
const MAX_DOMAIN: usize = 255;
const SCHEME: &str = "spiffe://";

/// The name of a trust domain, whose certificates one operator's CA issues. Lower-case letters, digits, dots,
/// dashes and underscores; at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name, such as `nordu.net`.
    ///
    /// # Errors
    /// When the name is empty, too long or contains other characters.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        let wrong = |reason| IdentityError::Spiffe { id: name.to_owned(), reason };
        if name.is_empty() {
            return Err(wrong("the trust domain is empty"));
        }
        if name.len() > MAX_DOMAIN {
            return Err(wrong("the trust domain is longer than 255 bytes"));
        }
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if !name.bytes().all(allowed) {
            return Err(wrong("a trust domain contains only lower-case letters, digits, '.', '-' and '_'"));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a node of this trust domain: `spiffe://DOMAIN/relay/NAME`.
    ///
    /// # Errors
    /// When the name is not a valid path segment.
    pub fn relay(&self, name: &str) -> Result<SpiffeId, IdentityError> {
        format!("{SCHEME}{}/relay/{name}", self.0).parse()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

/// A SPIFFE id, such as `spiffe://nordu.net/relay/cph-1`. Cheap to clone; ordered as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    domain: TrustDomain,
}

impl SpiffeId {
    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path, with its leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(SCHEME.len() + self.domain.as_str().len()..).unwrap_or_default()
    }

    /// The name of a node: `cph-1` for the path `/relay/cph-1`. None for any other form of path.
    #[must_use]
    pub fn relay_name(&self) -> Option<&str> {
        self.path().strip_prefix("/relay/").filter(|name| !name.contains('/'))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| IdentityError::Spiffe { id: id.chars().take(256).collect(), reason };
        if id.len() > MAX_ID {
            return Err(wrong("it is longer than 2048 bytes"));
        }
        let rest = id.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or_else(|| wrong("it has no path"))?;
        let domain = TrustDomain::new(domain)?;
        for segment in path.split('/') {
            match segment {
                "" => return Err(wrong("a path segment is empty")),
                "." | ".." => return Err(wrong("a path segment is relative")),
                _ => {}
            }
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if !segment.bytes().all(allowed) {
                return Err(wrong("a path contains only letters, digits, '.', '-' and '_'"));
            }
        }
        Ok(Self { text: id.into(), domain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_id_of_a_node_has_its_name_and_trust_domain() {
        let id: SpiffeId = "spiffe://nordu.net/relay/cph-1".parse().unwrap();
        assert_eq!(id.trust_domain().as_str(), "nordu.net");
        assert_eq!(id.path(), "/relay/cph-1");
        assert_eq!(id.relay_name(), Some("cph-1"));
        assert_eq!(id, TrustDomain::new("nordu.net").unwrap().relay("cph-1").unwrap());
    }

    #[test]
    fn ids_that_the_standard_forbids_are_refused() {
        for id in [
            "",
            "spiffe://",
            "spiffe:///relay/x",
            "spiffe://nordu.net",
            "spiffe://nordu.net/",
            "spiffe://nordu.net//x",
            "spiffe://nordu.net/relay/",
            "spiffe://nordu.net/relay/..",
            "spiffe://nordu.net/./x",
            "spiffe://NORDU.net/relay/x",
            "spiffe://nordu.net:443/relay/x",
            "spiffe://me@nordu.net/relay/x",
            "spiffe://nordu.net/relay/x?q=1",
            "spiffe://nordu.net/relay/x#f",
            "spiffe://nordu.net/relay/%41",
            "SPIFFE://nordu.net/relay/x",
            "https://nordu.net/relay/x",
            "spiffe://nordu.net/relay/\u{e5}rhus",
        ] {
            assert!(id.parse::<SpiffeId>().is_err(), "{id}");
        }
        let long = format!("spiffe://nordu.net/{}", "x".repeat(2048));
        assert!(long.parse::<SpiffeId>().is_err());
    }

    proptest! {
        #[test]
        fn a_parsed_id_has_the_same_text(id in "\\PC*") {
            if let Ok(parsed) = id.parse::<SpiffeId>() {
                prop_assert_eq!(parsed.as_str(), id.as_str());
            }
        }

        #[test]
        fn trust_domain_and_name_are_parsed_from_the_id(domain in "[a-z0-9._-]{1,40}", name in "[a-z0-9-]{1,20}") {
            let id: SpiffeId = format!("spiffe://{domain}/relay/{name}").parse().unwrap();
            prop_assert_eq!(id.trust_domain().as_str(), domain.as_str());
            prop_assert_eq!(id.relay_name(), Some(name.as_str()));
        }
    }
}
