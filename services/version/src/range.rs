//! A range of versions, and the rule by which two work together.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::UnsupportedVersion;

/// The versions that one side works with: a node, or the writer of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Stated")]
pub struct VersionRange {
    oldest: u16,
    newest: u16,
}

/// A range as a record states it, in any order.
#[derive(Deserialize)]
struct Stated {
    oldest: u16,
    newest: u16,
}

impl TryFrom<Stated> for VersionRange {
    type Error = &'static str;

    fn try_from(stated: Stated) -> Result<Self, Self::Error> {
        Self::new(stated.oldest, stated.newest).ok_or("the oldest version is newer than the newest")
    }
}

impl VersionRange {
    /// What this release works with: its own minor version, and the one before.
    pub const OWN: Self = Self { oldest: 0, newest: 1 };

    /// What a node or a record without a version means: the formats before versions were stated, number 0. They are those of
    /// release 0.1 without the versions themselves.
    pub const UNSTATED: Self = Self { oldest: 0, newest: 0 };

    /// Versions from `oldest` to `newest`. None when `oldest` is the newer one.
    #[must_use]
    pub const fn new(oldest: u16, newest: u16) -> Option<Self> {
        if oldest <= newest { Some(Self { oldest, newest }) } else { None }
    }

    /// One version only.
    #[must_use]
    pub const fn only(version: u16) -> Self {
        Self { oldest: version, newest: version }
    }

    /// The oldest version.
    #[must_use]
    pub const fn oldest(self) -> u16 {
        self.oldest
    }

    /// The newest version.
    #[must_use]
    pub const fn newest(self) -> u16 {
        self.newest
    }

    /// Is this version in the range?
    #[must_use]
    pub const fn contains(self, version: u16) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// The newest version that both have. `who` is the other side, for the sentence: `the node spiffe://...`.
    ///
    /// # Errors
    /// When they have none in common.
    pub fn agree(self, other: Self, who: &str) -> Result<u16, UnsupportedVersion> {
        let newest = self.newest.min(other.newest);
        if newest >= self.oldest.max(other.oldest) {
            return Ok(newest);
        }
        Err(UnsupportedVersion { who: who.to_owned(), own: self, other })
    }

    /// The range as it is sent: oldest and newest, 2 bytes each, big endian.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.oldest.to_be_bytes(), self.newest.to_be_bytes());
        [a, b, c, d]
    }

    /// Reads what [`VersionRange::to_bytes`] writes. None when `oldest` is the newer one.
    #[must_use]
    pub const fn from_bytes([a, b, c, d]: [u8; 4]) -> Option<Self> {
        Self::new(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }
}

impl Default for VersionRange {
    /// [`VersionRange::UNSTATED`].
    fn default() -> Self {
        Self::UNSTATED
    }
}

/// As releases: `0.1 to 0.2`.
impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "0.{}", self.newest)
        } else {
            write!(f, "0.{} to 0.{}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a release works with.
    fn release(minor: u16) -> VersionRange {
        VersionRange::new(minor.saturating_sub(1), minor).unwrap()
    }

    fn any_range() -> impl Strategy<Value = VersionRange> {
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| VersionRange::new(a.min(b), a.max(b)).unwrap())
    }

    #[test]
    fn the_number_is_the_minor_version_of_the_release() {
        let mut numbers = env!("CARGO_PKG_VERSION").split('.').map(|number| number.parse::<u16>().unwrap());
        assert_eq!(numbers.next(), Some(0), "after 1.0: go on counting minor versions, and change Display");
        let minor = numbers.next().unwrap();
        assert_eq!(VersionRange::OWN, release(minor), "raise OWN with the minor version in Cargo.toml");
    }

    #[test]
    fn a_record_without_a_version_is_of_the_formats_before() {
        #[derive(Deserialize)]
        struct Record {
            #[serde(default)]
            versions: VersionRange,
        }
        let read = |json: &str| serde_json::from_str::<Record>(json).map(|record| record.versions);
        assert_eq!(read("{}").unwrap(), VersionRange::UNSTATED);
        let later = r#"{"versions":{"oldest":2,"newest":3,"later":true}}"#;
        assert_eq!(read(later).unwrap(), VersionRange::new(2, 3).unwrap());
        assert!(read(r#"{"versions":{"oldest":3,"newest":2}}"#).is_err());
        assert!(VersionRange::OWN.agree(VersionRange::UNSTATED, "a record").is_ok());
    }

    proptest! {
        #[test]
        fn releases_work_together_exactly_if_they_are_at_most_one_minor_version_apart(a in 0u16..99, b in 0u16..99) {
            let agreed = release(a).agree(release(b), "b");
            prop_assert_eq!(agreed.is_ok(), a.abs_diff(b) <= 1);
            prop_assert!(agreed.is_err() || agreed == Ok(a.min(b)), "the newest that both have");
        }

        #[test]
        fn both_sides_come_to_the_same_result(a in any_range(), b in any_range()) {
            let (here, there) = (a.agree(b, "b"), b.agree(a, "a"));
            prop_assert_eq!(here.clone().ok(), there.ok());
            let common = (0..=u16::MAX).rev().find(|version| a.contains(*version) && b.contains(*version));
            prop_assert_eq!(here.ok(), common);
        }

        #[test]
        fn a_range_is_read_as_it_was_written(range in any_range()) {
            prop_assert_eq!(VersionRange::from_bytes(range.to_bytes()), Some(range));
            let json = serde_json::to_string(&range).unwrap();
            prop_assert_eq!(serde_json::from_str::<VersionRange>(&json).unwrap(), range);
        }

        #[test]
        fn any_bytes_are_a_range_or_none(bytes in any::<[u8; 4]>()) {
            if let Some(range) = VersionRange::from_bytes(bytes) {
                prop_assert_eq!(range.to_bytes(), bytes);
                prop_assert!(range.oldest() <= range.newest());
            }
        }
    }
}
