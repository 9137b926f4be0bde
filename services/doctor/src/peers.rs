//! The other nodes: can they be reached, do they run a version that goes with this one, and do they hold the same documents
//! under the same pins?

use std::time::Duration;

use systir_version::VersionRange;

use crate::clock::LARGEST_DIFFERENCE;
use crate::finding::{Finding, FindingArea};
use crate::time_span::time_span;

/// What was found out about another node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its name.
    pub node: String,
    /// The release that its lease states; none without a lease.
    pub version: Option<String>,
    /// The versions of formats that its lease states; none without a lease.
    pub versions: Option<VersionRange>,
    /// Why gRPC (TCP) failed.
    pub grpc: Option<String>,
    /// Why QUIC (UDP) failed.
    pub quic: Option<String>,
    /// Seconds by which its clock is ahead of this one.
    pub ahead: Option<i64>,
    /// Documents that both hold, with another text under the same version.
    pub conflicting: Vec<String>,
    /// Documents of it whose newer version this node's pins do not verify, each with the reason.
    pub unverified: Vec<String>,
    /// Documents of which it has a newer version that this node's pins verify.
    pub newer: Vec<String>,
}

/// The check of another node; `own` are the versions that this node works with.
#[must_use]
pub fn peer(facts: &PeerFacts, own: VersionRange) -> Finding {
    let (area, node) = (FindingArea::Peers, &facts.node);
    let Some(version) = &facts.version else {
        return Finding::warning(area, node, "has no lease in etcd").advise(
            "start it, or see its log if it runs: it does not reach etcd, or its lease is of another version",
        );
    };
    let versions = facts.versions.unwrap_or(VersionRange::UNSTATED);
    if let Err(unsupported) = own.agree(versions, &format!("release {version} there")) {
        return Finding::wrong(area, node, unsupported.to_string());
    }
    if let Some(error) = &facts.grpc {
        let what = format!("gRPC: {error}");
        return Finding::wrong(area, node, what).advise(
            "open TCP 7871 between the nodes, and compare addresses and certificates with the directory",
        );
    }
    if let Some(error) = &facts.quic {
        let what = format!("gRPC answers, QUIC does not: {error}");
        return Finding::wrong(area, node, what)
            .advise("open UDP 7870 between the nodes, in both directions");
    }
    if !facts.unverified.is_empty() {
        let what =
            format!("its documents do not verify under the pins here: {}", facts.unverified.join("; "));
        return Finding::wrong(area, node, what)
            .advise("compare [policy] of both configurations (systirctl documents)");
    }
    if !facts.conflicting.is_empty() {
        let what = format!("it holds another text under the same version: {}", facts.conflicting.join(", "));
        return Finding::wrong(area, node, what)
            .advise("let the owner sign a higher version, and ask who signed two");
    }
    if let Some(ahead) = facts.ahead.filter(|ahead| ahead.unsigned_abs() > LARGEST_DIFFERENCE.as_secs()) {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let difference = time_span(Duration::from_secs(ahead.unsigned_abs()));
        let what = format!("its clock is {difference} {side} this one");
        return Finding::wrong(area, node, what).advise("synchronize both clocks with NTP");
    }
    let newer = if facts.newer.is_empty() {
        "the same documents".to_owned()
    } else {
        format!("newer documents, which a running node fetches: {}", facts.newer.join(", "))
    };
    Finding::ok(area, node, format!("gRPC and QUIC answer, version {version}, {newer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> PeerFacts {
        PeerFacts {
            node: "sto-1".to_owned(),
            version: Some("0.1.0".to_owned()),
            versions: Some(VersionRange::OWN),
            ..PeerFacts::default()
        }
    }

    fn text(facts: &PeerFacts) -> String {
        let found = peer(facts, VersionRange::OWN);
        format!("{} {}", found.level.as_str(), found.line())
    }

    #[test]
    fn a_node_that_answers_with_the_same_documents_is_ok() {
        assert_eq!(text(&good()), "ok sto-1: gRPC and QUIC answer, version 0.1.0, the same documents");
        let newer = PeerFacts { newer: vec!["bundle of ku.dk".into()], ahead: Some(-2), ..good() };
        assert!(text(&newer).contains("newer documents, which a running node fetches: bundle of ku.dk"));
        assert!(
            text(&PeerFacts { version: None, ..good() }).starts_with("warning sto-1: has no lease in etcd")
        );
    }

    #[test]
    fn each_fault_of_a_node_is_named() {
        let of = |change: fn(&mut PeerFacts)| {
            let mut facts = good();
            change(&mut facts);
            text(&facts)
        };
        let found = of(|facts| facts.grpc = Some("connection refused".into()));
        assert!(found.starts_with("wrong sto-1: gRPC: connection refused; open TCP 7871"), "{found}");
        let found = of(|facts| facts.quic = Some("no answer within 3 s".into()));
        assert!(
            found.contains("gRPC answers, QUIC does not: no answer") && found.contains("UDP 7870"),
            "{found}"
        );
        let found = of(|facts| facts.unverified = vec!["bundle of ku.dk: no pinned key signed it".into()]);
        assert!(
            found
                .starts_with("wrong sto-1: its documents do not verify under the pins here: bundle of ku.dk")
        );
        let found = of(|facts| facts.conflicting = vec!["directory of nordunet".into()]);
        assert!(found.contains("another text under the same version: directory of nordunet"), "{found}");
        let found = of(|facts| facts.ahead = Some(420));
        assert!(found.starts_with("wrong sto-1: its clock is 7 minutes ahead of this one"), "{found}");
        let found = of(|facts| facts.ahead = Some(-420));
        assert!(found.contains("7 minutes behind this one"), "{found}");
    }

    #[test]
    fn one_minor_version_apart_is_ok() {
        let newest = VersionRange::OWN.newest();
        let of = |oldest: u16| {
            let versions = VersionRange::new(oldest, oldest + 1);
            text(&PeerFacts { version: Some("0.9.0".to_owned()), versions, ..good() })
        };
        assert!(of(newest).starts_with("ok "));
        assert!(of(newest + 1).starts_with("wrong sto-1: release 0.9.0 there works with versions "));
    }
}
