//! Two sides have no version in common.

use crate::VersionRange;

/// Two sides have no version in common. The message says who, which versions, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{who} works with versions {other} of Systir, and this node with {own}: {}", advice(*.own, *.other))]
pub struct UnsupportedVersion {
    /// The other side.
    pub who: String,
    /// What this node works with.
    pub own: VersionRange,
    /// What the other side works with.
    pub other: VersionRange,
}

fn advice(own: VersionRange, other: VersionRange) -> String {
    let (older, target) = if own.newest() < other.oldest() {
        ("this node", other.oldest())
    } else {
        ("the other side", own.oldest())
    };
    format!(
        "only versions that are at most one minor version apart work together. Upgrade {older} to 0.{target} (docs/upgrade.md)"
    )
}

#[cfg(test)]
mod tests {
    use crate::VersionRange;

    #[test]
    fn the_sentence_says_who_which_versions_and_what_to_do() {
        let (older, newer) = (VersionRange::new(0, 1).unwrap(), VersionRange::new(2, 3).unwrap());
        let here = older.agree(newer, "the node spiffe://nordu.net/relay/sto-1").unwrap_err();
        assert_eq!(
            here.to_string(),
            "the node spiffe://nordu.net/relay/sto-1 works with versions 0.2 to 0.3 of Systir, and this node with 0.0 to 0.1: only \
             versions that are at most one minor version apart work together. Upgrade this node to 0.2 (docs/upgrade.md)"
        );
        let there = newer.agree(older, "the node spiffe://nordu.net/relay/cph-1").unwrap_err().to_string();
        assert!(there.ends_with("Upgrade the other side to 0.2 (docs/upgrade.md)"), "{there}");
    }
}
