//! The registry: does it answer, which version, who leads, is access controlled, and what may this node's user do.

use crate::finding::{Finding, FindingArea};

const AREA: FindingArea = FindingArea::Etcd;
/// The oldest release with which nodes are tested.
const OLDEST: (u32, u32) = (3, 4);

/// What an endpoint answered about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdEndpoint {
    /// Its release: `3.5.16`.
    pub version: String,
    /// Does its cluster have a leader? Without one it writes nothing.
    pub has_leader: bool,
    /// Faults that it reports, such as `NOSPACE`.
    pub faults: Vec<String>,
}

/// The check of one endpoint, by its address. `answer` is what it said, or why it did not.
#[must_use]
pub fn endpoint(address: &str, answer: Result<&EtcdEndpoint, &str>) -> Finding {
    let etcd = match answer {
        Ok(etcd) => etcd,
        Err(error) => {
            return Finding::wrong(AREA, address, format!("does not answer: {error}"))
                .advise("start etcd, and see address, firewall and certificates (deploy/etcd/README.md)");
        }
    };
    let EtcdEndpoint { version, has_leader, faults } = etcd;
    if !has_leader {
        return Finding::wrong(
            AREA,
            address,
            format!("version {version}, without a leader: it writes nothing"),
        )
        .advise("see that more than half of its members run (etcdctl endpoint status --cluster)");
    }
    if !faults.is_empty() {
        return Finding::wrong(AREA, address, format!("version {version} reports {}", faults.join(", ")))
            .advise(
                "etcdctl alarm list; a full database needs `etcdctl compact`, `defrag` and `alarm disarm`",
            );
    }
    if release(version).is_some_and(|release| release < OLDEST) {
        let (major, minor) = OLDEST;
        return Finding::wrong(AREA, address, format!("version {version} is older than {major}.{minor}"))
            .advise("upgrade etcd");
    }
    Finding::ok(AREA, address, format!("version {version}, with a leader"))
}

fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// The check of etcd's access control. None: it could not be asked.
#[must_use]
pub fn access_control(enabled: Option<bool>) -> Finding {
    let subject = "access control";
    match enabled {
        Some(true) => Finding::ok(AREA, subject, "on"),
        Some(false) => {
            let what = "off, or this node's user is root: it may read and change everything";
            Finding::warning(AREA, subject, what)
                .advise("run the commands of `systirctl etcd roles`, then `etcdctl auth enable` (deploy/etcd/README.md)")
        }
        None => Finding::warning(AREA, subject, "it cannot be told whether it is on"),
    }
}

/// What this node's user was refused, and whether it may do what no node may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleFacts {
    /// What the node needs and may not: `read leases`.
    pub refused: Vec<String>,
    /// May it write outside its role?
    pub excessive: bool,
    /// Another failure of the attempt.
    pub failed: Option<String>,
}

/// The check of this node's role; `controlled` is whether access control is on.
#[must_use]
pub fn role(node: &str, controlled: bool, facts: &RoleFacts) -> Finding {
    let subject = format!("role of {node}");
    if let Some(error) = &facts.failed {
        return Finding::warning(AREA, subject, format!("it could not be tried: {error}"));
    }
    if !facts.refused.is_empty() {
        return Finding::wrong(AREA, subject, format!("etcd refuses this node to {}", facts.refused.join(", to ")))
            .advise(
                "run the commands of `systirctl etcd roles`; its user is the common name of `registry.certificate`",
            );
    }
    if controlled && facts.excessive {
        let what = "its user may write what other nodes write";
        return Finding::warning(AREA, subject, what)
            .advise("give the node a user of its own, with the role of `systirctl etcd roles`");
    }
    let what = if controlled {
        "reads leases, writes its own, uses the rooms that approve it"
    } else {
        "all is allowed"
    };
    Finding::ok(AREA, subject, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(finding: Finding) -> String {
        format!("{} {}", finding.level.as_str(), finding.line())
    }

    fn etcd(version: &str) -> EtcdEndpoint {
        EtcdEndpoint { version: version.to_owned(), has_leader: true, faults: Vec::new() }
    }

    #[test]
    fn an_endpoint_answers_or_its_fault_is_named() {
        let check = |etcd: &EtcdEndpoint| text(endpoint("https://192.0.2.10:2379", Ok(etcd)));
        assert_eq!(check(&etcd("3.5.16")), "ok https://192.0.2.10:2379: version 3.5.16, with a leader");
        assert!(
            check(&etcd("3.3.2"))
                .starts_with("wrong https://192.0.2.10:2379: version 3.3.2 is older than 3.4")
        );
        assert!(check(&EtcdEndpoint { has_leader: false, ..etcd("3.5.16") }).contains("without a leader"));
        let full = EtcdEndpoint { faults: vec!["NOSPACE".to_owned()], ..etcd("3.5.16") };
        assert!(check(&full).starts_with("wrong ") && check(&full).contains("reports NOSPACE"));
        let away = text(endpoint("https://192.0.2.10:2379", Err("no answer within 3 s")));
        assert!(
            away.starts_with("wrong https://192.0.2.10:2379: does not answer: no answer within 3 s; start")
        );
    }

    #[test]
    fn access_control_that_is_off_is_a_warning() {
        assert_eq!(text(access_control(Some(true))), "ok access control: on");
        assert!(text(access_control(Some(false))).starts_with("warning access control: off"));
        assert!(text(access_control(None)).starts_with("warning "));
    }

    #[test]
    fn a_role_that_is_too_narrow_is_wrong_and_one_that_is_too_wide_a_warning() {
        let good = RoleFacts::default();
        assert!(text(role("cph-1", true, &good)).starts_with("ok role of cph-1: reads leases"));
        let narrow =
            RoleFacts { refused: vec!["read leases".into(), "write its lease".into()], ..good.clone() };
        let found = text(role("cph-1", true, &narrow));
        assert!(
            found.starts_with(
                "wrong role of cph-1: etcd refuses this node to read leases, to write its lease"
            )
        );
        let wide = RoleFacts { excessive: true, ..good.clone() };
        assert!(
            text(role("cph-1", true, &wide))
                .starts_with("warning role of cph-1: its user may write what other")
        );
        assert!(
            text(role("cph-1", false, &wide)).starts_with("ok "),
            "without access control that is said once"
        );
        let failed = RoleFacts { failed: Some("timeout".into()), ..good };
        assert!(text(role("cph-1", true, &failed)).starts_with("warning "));
    }
}
