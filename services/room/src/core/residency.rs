//! The room's part of "where is my data": recomputed at each change, pushed to the people here.

use std::collections::BTreeMap;

use crate::authority::Authority;
use crate::whereabouts::{Link, Node, Whereabouts};

/// What the picture is made from.
pub(crate) struct Facts<'a> {
    pub institution: &'a str,
    pub room: &'a str,
    pub epoch: u64,
    pub me: &'a str,
    pub home: &'a str,
    /// Spill nodes in the order in which they came.
    pub spill: &'a [String],
    /// Since when each node relays, Unix milliseconds.
    pub since: &'a BTreeMap<String, u64>,
    /// Does this node carry the room?
    pub complete: bool,
    /// Nodes where signalling of somebody ends, and when the first of them came.
    pub doors: &'a BTreeMap<String, Option<u64>>,
    /// By the node that says so: the other nodes of the room, and whether the room is open on the
    /// link to them.
    pub links: &'a BTreeMap<String, BTreeMap<String, bool>>,
}

/// Puts it together; decisions are this node's own.
pub(crate) fn compute(facts: &Facts<'_>, authority: &Authority) -> Whereabouts {
    let mut nodes: Vec<Node> = Vec::new();
    let mut add = |name: &str, role: &str, since: Option<u64>, decision: systir_policy::Decision| {
        if let Some(known) = nodes.iter_mut().find(|node| node.node == name) {
            if !known.roles.iter().any(|known| known == role) {
                known.roles.push(role.to_owned());
            }
            return;
        }
        let declared = authority.facts(name);
        let text = |pick: fn(&systir_policy::NodeFacts) -> &String| {
            declared.map_or("unknown", |node| pick(node).as_str()).to_owned()
        };
        nodes.push(Node {
            node: name.to_owned(),
            roles: vec![role.to_owned()],
            site: text(|node| &node.site),
            region: text(|node| &node.region),
            country: text(|node| &node.country),
            operator: text(|node| &node.operator),
            operator_controlled_from: text(|node| &node.operator_controlled_from),
            host: text(|node| &node.host),
            host_controlled_from: text(|node| &node.host_controlled_from),
            own_machine: declared.is_some_and(|node| node.own_machine()),
            statement: "declared".to_owned(),
            declared_by: text(|node| &node.declared_by),
            rule: decision.rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            why: decision.why,
            since,
        });
    };
    let home = authority.node(systir_policy::Action::Home, facts.institution, facts.home);
    let policy_version = home.policy_version.as_ref().map(ToString::to_string).unwrap_or_default();
    let assigned = |name: &str| facts.since.get(name).copied();
    add(facts.home, "home", assigned(facts.home), home);
    for spill in facts.spill {
        let decision = authority.node(systir_policy::Action::Spill, facts.institution, spill);
        add(spill, "spill", assigned(spill), decision);
    }
    for (door, since) in facts.doors {
        let decision = authority.node(systir_policy::Action::RelaySignal, facts.institution, door);
        add(door, "front-door", *since, decision);
    }
    Whereabouts {
        room: facts.room.to_owned(),
        institution: facts.institution.to_owned(),
        policy_version,
        epoch: facts.epoch,
        told_by: facts.me.to_owned(),
        complete: facts.complete,
        nodes,
        links: links(facts.links),
    }
}

/// Each link once, whoever speaks of it. Both ends may; the link is up when all who speak say so.
fn links(said: &BTreeMap<String, BTreeMap<String, bool>>) -> Vec<Link> {
    let mut links: BTreeMap<(&str, &str), (bool, Vec<String>)> = BTreeMap::new();
    for (node, others) in said {
        for (other, open) in others {
            let (a, b) = if node < other { (node, other) } else { (other, node) };
            let (up, seen_by) = links.entry((a, b)).or_insert((true, Vec::new()));
            *up &= open;
            seen_by.push(node.clone());
        }
    }
    let link = |((a, b), (up, seen_by)): ((&str, &str), (bool, Vec<String>))| Link {
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
    fn a_link_is_up_when_all_say_so_who_speak_of_it() {
        let says = |of: &[(&str, bool)]| of.iter().map(|(node, open)| ((*node).to_owned(), *open)).collect();
        let said = BTreeMap::from([
            ("cph-1".to_owned(), says(&[("osl-1", true), ("sto-1", true)])),
            ("osl-1".to_owned(), says(&[("cph-1", true), ("sto-1", true)])),
            // Nobody has heard of it from this one's own end of the link to Oslo.
            ("sto-1".to_owned(), says(&[("cph-1", false)])),
        ]);
        let told: Vec<_> = links(&said)
            .into_iter()
            .map(|link| format!("{} {} {} by {}", link.a, link.b, link.state, link.seen_by.join("+")))
            .collect();
        assert_eq!(
            told,
            ["cph-1 osl-1 up by cph-1+osl-1", "cph-1 sto-1 down by cph-1+sto-1", "osl-1 sto-1 up by osl-1"]
        );
    }
}
