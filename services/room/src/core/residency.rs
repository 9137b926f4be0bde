//! Computes the room's residency from what this node knows and from this node's own policy decisions.

use std::collections::BTreeMap;

use systir_assignment::{Assignment, RoomId};
use systir_documents::SignedGrant;
use systir_policy::{Action, Authority, Decision, NodeFacts, PolicyStatement};

use crate::residency::{Residency, ResidencyGrant, ResidencyLink, ResidencyNode, ResidencyPolicy};

/// What residency is computed from.
pub(crate) struct Facts<'a> {
    pub assignment: &'a Assignment,
    /// This node's name.
    pub me: &'a str,
    /// Does this node carry the room?
    pub complete: bool,
    /// The room's gateways, and when the first participant of each joined, Unix milliseconds.
    pub gateways: &'a BTreeMap<String, Option<u64>>,
    /// By the reporting node: its peers, and whether the room is open on the link to each.
    pub links: &'a BTreeMap<String, BTreeMap<String, bool>>,
}

/// The room's residency.
pub(crate) fn compute(facts: &Facts<'_>, authority: &Authority) -> Residency {
    let mut nodes: Vec<ResidencyNode> = Vec::new();
    let mut add = |name: &str, role: &str, since: Option<u64>, decision: Decision| {
        if let Some(known) = nodes.iter_mut().find(|node| node.node == name) {
            if !known.roles.iter().any(|known| known == role) {
                known.roles.push(role.to_owned());
            }
            return;
        }
        nodes.push(describe(name, role, since, decision, authority.facts(name).as_deref()));
    };
    let assignment = facts.assignment;
    let room = &assignment.room;
    let home = authority.node(Action::Home, room, assignment.home.as_str());
    let policy_version = home.policy_version.as_ref().map(ToString::to_string).unwrap_or_default();
    let since = |node| assignment.since_ms.get(node).copied();
    add(assignment.home.as_str(), "home", since(&assignment.home), home);
    for node in &assignment.spill {
        add(node.as_str(), "spill", since(node), authority.node(Action::Spill, room, node.as_str()));
    }
    for (gateway, since) in facts.gateways {
        add(gateway, "gateway", *since, authority.node(Action::RelaySignal, room, gateway));
    }
    Residency {
        room: String::new(),
        institution: room.institution.clone(),
        policy_version,
        policy: policy(room, authority),
        epoch: assignment.epoch,
        grant: grant(assignment, authority),
        reported_by: facts.me.to_owned(),
        complete: facts.complete,
        nodes,
        links: links(facts.links),
    }
}

fn grant(assignment: &Assignment, authority: &Authority) -> Option<ResidencyGrant> {
    let keys_of = |home: &str| authority.facts(home).map(|facts| facts.keys.clone()).unwrap_or_default();
    let signed = SignedGrant::verify(&assignment.grant, keys_of).ok()?;
    let grant = signed.grant();
    Some(ResidencyGrant {
        home: grant.home.clone(),
        epoch: grant.epoch,
        serial: grant.serial,
        issued_ms: grant.issued_ms,
        not_after_ms: grant.not_after_ms,
        hash: signed.hash().to_string(),
    })
}

fn policy(room: &RoomId, authority: &Authority) -> Option<ResidencyPolicy> {
    let PolicyStatement { version, signers, floor_operator, floor_version, floor_signers, .. } =
        authority.statement(&room.institution)?;
    let attributes = authority.room(room);
    Some(ResidencyPolicy {
        version: version.number,
        hash: version.hash.to_string(),
        signers,
        floor_operator,
        floor_version,
        floor_signers,
        room_class: attributes.class.as_str().to_owned(),
        e2ee_required: attributes.e2ee,
    })
}

fn describe(
    name: &str,
    role: &str,
    since: Option<u64>,
    decision: Decision,
    declared: Option<&NodeFacts>,
) -> ResidencyNode {
    let text =
        |pick: fn(&NodeFacts) -> &String| declared.map_or("unknown", |node| pick(node).as_str()).to_owned();
    ResidencyNode {
        node: name.to_owned(),
        roles: vec![role.to_owned()],
        site: text(|node| &node.site),
        region: text(|node| &node.region),
        country: text(|node| &node.country),
        operator: text(|node| &node.operator),
        operator_controlled_from: text(|node| &node.operator_controlled_from),
        host: text(|node| &node.host),
        host_controlled_from: text(|node| &node.host_controlled_from),
        own_machine: declared.is_some_and(NodeFacts::own_machine),
        statement: "declared".to_owned(),
        declared_by: text(|node| &node.declared_by),
        directory_version: declared.map(|node| node.directory.version),
        directory_signers: declared.map(|node| node.directory.signers.clone()).unwrap_or_default(),
        rule: decision.rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        why: decision.why,
        since,
    }
}

/// Residency by the room's record alone, for a node (`me`) that does not carry the room.
#[must_use]
pub fn residency_of(assignment: &Assignment, me: &str, authority: &Authority) -> Residency {
    let (gateways, links) = (BTreeMap::new(), BTreeMap::new());
    compute(&Facts { assignment, me, complete: false, gateways: &gateways, links: &links }, authority)
}

/// Each link once, whichever end reports it. A link is up when all ends that report it say so.
fn links(reported: &BTreeMap<String, BTreeMap<String, bool>>) -> Vec<ResidencyLink> {
    let mut links: BTreeMap<(&str, &str), (bool, Vec<String>)> = BTreeMap::new();
    for (node, others) in reported {
        for (other, open) in others {
            let (a, b) = if node < other { (node, other) } else { (other, node) };
            let (up, seen_by) = links.entry((a, b)).or_insert((true, Vec::new()));
            *up &= open;
            seen_by.push(node.clone());
        }
    }
    let link = |((a, b), (up, seen_by)): ((&str, &str), (bool, Vec<String>))| ResidencyLink {
        a: a.to_owned(),
        b: b.to_owned(),
        state: if up { "up" } else { "down" }.to_owned(),
        seen_by,
    };
    links.into_iter().map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_up_when_all_reports_say_so() {
        let report =
            |of: &[(&str, bool)]| of.iter().map(|(node, open)| ((*node).to_owned(), *open)).collect();
        let reported = BTreeMap::from([
            ("cph-1".to_owned(), report(&[("osl-1", true), ("sto-1", true)])),
            ("osl-1".to_owned(), report(&[("cph-1", true), ("sto-1", true)])),
            // `sto-1` has not reported its end of the link to `osl-1`.
            ("sto-1".to_owned(), report(&[("cph-1", false)])),
        ]);
        let lines: Vec<_> = links(&reported)
            .into_iter()
            .map(|link| format!("{} {} {} by {}", link.a, link.b, link.state, link.seen_by.join("+")))
            .collect();
        assert_eq!(
            lines,
            ["cph-1 osl-1 up by cph-1+osl-1", "cph-1 sto-1 down by cph-1+sto-1", "osl-1 sto-1 up by osl-1"]
        );
    }
}
