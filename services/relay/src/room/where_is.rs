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
    /// Nodes where signalling of somebody ends.
    pub doors: &'a [String],
    /// The other nodes of the room, and whether the room is open on the link to them.
    pub links: &'a BTreeMap<String, bool>,
}

/// Puts it together; decisions are this node's own.
pub(crate) fn compute(facts: &Facts<'_>, authority: &Authority) -> Whereabouts {
    let mut nodes: Vec<Node> = Vec::new();
    let mut add = |name: &str, role: &str, decision: systir_policy::Decision| {
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
            since: facts.since.get(name).copied().unwrap_or_default(),
        });
    };
    let home = authority.node(systir_policy::Action::Home, facts.institution, facts.home);
    let policy_version = home.policy_version.as_ref().map(ToString::to_string).unwrap_or_default();
    add(facts.home, "home", home);
    for spill in facts.spill {
        add(spill, "spill", authority.node(systir_policy::Action::Spill, facts.institution, spill));
    }
    for door in facts.doors {
        add(door, "front-door", authority.node(systir_policy::Action::RelaySignal, facts.institution, door));
    }
    let mut links: Vec<Link> = facts
        .links
        .iter()
        .map(|(node, open)| Link {
            a: facts.me.to_owned(),
            b: node.clone(),
            state: if *open { "up" } else { "down" }.to_owned(),
        })
        .collect();
    links.sort_by(|a, b| a.b.cmp(&b.b));
    Whereabouts {
        room: facts.room.to_owned(),
        institution: facts.institution.to_owned(),
        policy_version,
        epoch: facts.epoch,
        nodes,
        links,
    }
}
