//! Address prefixes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::characters::escaped;

/// An address prefix such as `192.0.2.0/24`, with no bits set after its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix(IpNet);

/// The text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Another form.
    #[error("\"{0}\" is not an address prefix; write it like 192.0.2.0/24 or 2001:db8::/32")]
    Form(String),
    /// Bits after its length.
    #[error("{given} has bits after its length; write {meant}")]
    Bits {
        /// The text.
        given: IpNet,
        /// Without those bits.
        meant: IpNet,
    },
    /// Every address.
    #[error("{0} contains every address; write the prefixes in which the node's addresses lie")]
    Everything(IpNet),
    /// An IPv4 address written as IPv6.
    #[error("{0} is IPv4 written as IPv6; write it as IPv4")]
    Mapped(IpNet),
}

impl IpPrefix {
    /// Whether the address lies in the prefix. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for IpPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let given: IpNet = text.parse().map_err(|_| PrefixError::Form(escaped(text)))?;
        let meant = given.trunc();
        if given != meant {
            return Err(PrefixError::Bits { given, meant });
        }
        if given.prefix_len() == 0 {
            return Err(PrefixError::Everything(given));
        }
        if given.addr() != given.addr().to_canonical() {
            return Err(PrefixError::Mapped(given));
        }
        Ok(Self(given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_a_prefix_of_its_family() {
        let v4: IpPrefix = "192.0.2.0/24".parse().unwrap();
        let v6: IpPrefix = "2001:db8::/32".parse().unwrap();
        let contains = |prefix: IpPrefix, address: &str| prefix.contains(address.parse().unwrap());
        assert!(
            contains(v4, "192.0.2.255") && contains(v4, "::ffff:192.0.2.1") && contains(v6, "2001:db8:1::1")
        );
        assert!(!contains(v4, "192.0.3.0") && !contains(v6, "2001:db9::1") && !contains(v6, "192.0.2.1"));
        assert_eq!((v4.to_string(), v6.to_string()), ("192.0.2.0/24".to_owned(), "2001:db8::/32".to_owned()));
    }

    #[test]
    fn other_forms_are_refused_with_the_form_to_write() {
        let refused = |text: &str| text.parse::<IpPrefix>().unwrap_err().to_string();
        assert_eq!(refused("192.0.2.1/24"), "192.0.2.1/24 has bits after its length; write 192.0.2.0/24");
        assert!(refused("192.0.2.1").contains("write it like 192.0.2.0/24"));
        assert!(refused("0.0.0.0/0").contains("contains every address") && refused("::/0").contains("every"));
        assert!(refused("::ffff:192.0.2.0/120").contains("write it as IPv4"));
        for wrong in ["", "x", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/24 "] {
            assert!(refused(wrong).contains("is not an address prefix"), "{wrong}");
        }
    }
}
