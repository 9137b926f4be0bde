//! What a policy permits, as a summary for those who do not read Cedar: for each action and kind of room, on whose machines, in which countries,
//! and under whose control. It is made by evaluating the rules for each name that they can distinguish. A proof of a guarantee
//! says what is never permitted; this only says where something is, and which rules look at the time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use serde_json::Value;
use systir_policy::{Action, RoomAttributes, RoomClass, Rule, RuleEffect, Times};

use crate::error::ProofError;
use crate::model::PolicyModel;

/// Countries, as far as the rules distinguish them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Countries {
    /// Those that the rules name and that are permitted.
    pub named: BTreeSet<String>,
    /// Are all that the rules do not name permitted too?
    pub all_others: bool,
}

/// What is permitted on machines of one host that one operator runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PermittedNodes {
    /// The action.
    pub action: Action,
    /// The lowest tier of a spill: the order in which nodes are asked.
    pub tier: Option<u32>,
    /// Who runs the nodes.
    pub operator: String,
    /// Who owns the machines.
    pub host: String,
    /// Where they stand.
    pub countries: Countries,
    /// From where the operator may be controlled.
    pub operator_control: Countries,
    /// From where the host may be controlled.
    pub host_control: Countries,
}

/// What is permitted to participants of one institution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PermittedParticipants {
    /// The action.
    pub action: Action,
    /// Their institution.
    pub institution: String,
}

/// What is permitted, each with the kinds of rooms for which it is.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Of nodes.
    pub nodes: BTreeMap<PermittedNodes, Vec<RoomAttributes>>,
    /// Of participants.
    pub participants: BTreeMap<PermittedParticipants, Vec<RoomAttributes>>,
    /// What is permitted of nodes besides, but not at all times.
    pub timed_nodes: BTreeMap<PermittedNodes, TimedPermission>,
    /// The same of participants.
    pub timed_participants: BTreeMap<PermittedParticipants, TimedPermission>,
}

/// What is permitted at some times only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedPermission {
    /// The kinds of rooms.
    pub rooms: Vec<RoomAttributes>,
    /// The rules that read the time: those that permit it, and those that forbid it.
    pub rules: Vec<String>,
}

impl PolicyModel {
    /// What an engine that loads the policy permits; nothing for a floor by itself.
    ///
    /// # Errors
    /// When the rules cannot be evaluated.
    pub fn permissions(&self) -> Result<Permissions, ProofError> {
        let Some(institution) = self.institution.clone() else { return Ok(Permissions::default()) };
        let loaded = self.as_loaded()?;
        let alike = alike(&loaded.rules).map_err(|what| self.untranslatable(what))?;
        let permitted = |times: Times| -> Result<Permissions, String> {
            let rules = loaded.rules.policies().map(|rule| times.of(rule)).collect::<Result<Vec<_>, _>>()?;
            let rules = PolicySet::from_policies(rules).map_err(|error| error.to_string())?;
            Evaluation { model: self, rules: &rules, institution: &institution, alike: alike.clone() }.all()
        };
        let read = |times| permitted(times).map_err(|what| self.untranslatable(what));
        let mut always = read(Times::All)?;
        if !self.stated.iter().any(Rule::reads_time) {
            return Ok(always);
        }
        let ever = read(Times::Some)?;
        for (node, rooms) in ever.nodes {
            if let Some(rooms) = others(rooms, always.nodes.get(&node)) {
                let rules = self.timed_rules(node.action, node.tier);
                always.timed_nodes.insert(node, TimedPermission { rooms, rules });
            }
        }
        for (participants, rooms) in ever.participants {
            if let Some(rooms) = others(rooms, always.participants.get(&participants)) {
                let rules = self.timed_rules(participants.action, None);
                always.timed_participants.insert(participants, TimedPermission { rooms, rules });
            }
        }
        Ok(always)
    }

    /// The rules that read the time and decide about the action, with this tier if there is one.
    fn timed_rules(&self, action: Action, tier: Option<u32>) -> Vec<String> {
        let decides = |rule: &&Rule| {
            let tier = rule.effect == RuleEffect::Forbid || tier.is_none() || rule.tier == tier;
            rule.reads_time() && rule.actions.contains(&action) && tier
        };
        self.stated.iter().filter(decides).map(|rule| rule.id.to_string()).collect()
    }

    /// The rule with this id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.stated.iter().find(|rule| rule.id.as_str() == id)
    }
}

/// The rooms that are not among those; none if all are.
fn others(
    mut rooms: Vec<RoomAttributes>,
    those: Option<&Vec<RoomAttributes>>,
) -> Option<Vec<RoomAttributes>> {
    rooms.retain(|room| those.is_none_or(|those| !those.contains(room)));
    (!rooms.is_empty()).then_some(rooms)
}

/// A country that no rule names: the rules treat all of those alike. ISO 3166-1 leaves the code to its users.
const UNNAMED: &str = "XX";

struct Evaluation<'a> {
    model: &'a PolicyModel,
    rules: &'a PolicySet,
    institution: &'a str,
    /// Countries that no rule distinguishes, together; the last group is that of all countries that no rule names.
    alike: Vec<Vec<String>>,
}

/// The countries that rules name, in groups of those that stand in the same lists; and the one that stands for all others.
fn alike(rules: &PolicySet) -> Result<Vec<Vec<String>>, String> {
    let mut stands_in = BTreeMap::<String, BTreeSet<usize>>::new();
    let mut lists = 0;
    for rule in rules.policies() {
        let json = rule.to_json().map_err(|error| error.to_string())?;
        let mut pending = vec![&json];
        while let Some(value) = pending.pop() {
            let countries = countries_of(value);
            if countries.is_empty() {
                match value {
                    Value::Array(items) => pending.extend(items),
                    Value::Object(fields) => pending.extend(fields.values()),
                    _ => {}
                }
                continue;
            }
            countries.into_iter().for_each(|country| {
                stands_in.entry(country).or_default().insert(lists);
            });
            lists += 1;
        }
    }
    let mut groups = BTreeMap::<BTreeSet<usize>, Vec<String>>::new();
    for (country, lists) in stands_in {
        groups.entry(lists).or_default().push(country);
    }
    Ok(groups.into_values().chain([vec![UNNAMED.to_owned()]]).collect())
}

/// The countries of an entity or of a list of entities in Cedar's JSON form; none of anything else.
fn countries_of(value: &Value) -> Vec<String> {
    let one = |value: &Value| {
        let entity = &value["Value"]["__entity"];
        (entity["type"] == "Country").then(|| entity["id"].as_str().unwrap_or_default().to_owned())
    };
    match value["Set"].as_array() {
        Some(items) => items.iter().filter_map(one).collect(),
        None => one(value).into_iter().collect(),
    }
}

/// A node that is tried.
#[derive(Clone, Copy)]
struct Trial<'a> {
    operator: &'a str,
    host: &'a str,
    country: &'a str,
    operator_control: &'a str,
    host_control: &'a str,
}

impl Evaluation<'_> {
    fn all(&self) -> Result<Permissions, String> {
        let mut permissions = Permissions::default();
        let kinds = [RoomClass::Standard, RoomClass::Confidential]
            .into_iter()
            .flat_map(|class| [false, true].map(|e2ee| RoomAttributes { class, e2ee }));
        for room in kinds {
            for action in Action::ALL.into_iter().filter(|action| self.is_permitted(*action)) {
                if action.is_on_node() {
                    for (operator, host) in self.owners() {
                        for permitted in self.nodes(action, room, operator, host)? {
                            permissions.nodes.entry(permitted).or_default().push(room);
                        }
                    }
                } else {
                    let own = self.institution.to_owned();
                    for from in self.model.vocabulary.institutions.iter().chain([&own]) {
                        if self.participant(action, room, from)? {
                            let permitted = PermittedParticipants { action, institution: from.clone() };
                            permissions.participants.entry(permitted).or_default().push(room);
                        }
                    }
                }
            }
        }
        Ok(permissions)
    }

    fn owners(&self) -> impl Iterator<Item = (&str, &str)> {
        let hosts = &self.model.vocabulary.hosts;
        let operators = self.model.vocabulary.operators.iter();
        operators.flat_map(move |operator| hosts.iter().map(move |host| (operator.as_str(), host.as_str())))
    }

    /// One of each group.
    fn countries(&self) -> impl Iterator<Item = &str> {
        self.alike.iter().filter_map(|group| group.first()).map(String::as_str)
    }

    /// The country's whole group.
    fn add(&self, countries: &mut Countries, country: &str) {
        for name in self.alike.iter().filter(|group| group.iter().any(|name| name == country)).flatten() {
            if name == UNNAMED {
                countries.all_others = true;
            } else {
                countries.named.insert(name.clone());
            }
        }
    }

    /// Does any rule permit the action?
    fn is_permitted(&self, action: Action) -> bool {
        let mut rules = self.model.stated.iter();
        rules.any(|rule| rule.effect == RuleEffect::Permit && rule.actions.contains(&action))
    }

    /// By tier: where the nodes of this operator on machines of this host may stand, and from where they may be controlled.
    fn nodes(
        &self,
        action: Action,
        room: RoomAttributes,
        operator: &str,
        host: &str,
    ) -> Result<Vec<PermittedNodes>, String> {
        let own = operator == host;
        // A country from which both may be controlled, if there is one: then places do not depend on it.
        let mut found = BTreeMap::<Option<u32>, Vec<Trial<'_>>>::new();
        for control in self.countries() {
            for country in self.countries() {
                let trial =
                    Trial { operator, host, country, operator_control: control, host_control: control };
                if let Some(tier) = self.node(action, room, trial)? {
                    found.entry(tier).or_default().push(trial);
                }
            }
            if !found.is_empty() {
                break;
            }
        }
        let mut permitted = Vec::new();
        for (tier, trials) in found {
            let Some(first) = trials.first() else { continue };
            let mut sets = [Countries::default(), Countries::default(), Countries::default()];
            let [countries, operator_control, host_control] = &mut sets;
            trials.iter().for_each(|trial| self.add(countries, trial.country));
            for control in self.countries() {
                let by_operator = Trial {
                    operator_control: control,
                    host_control: if own { control } else { first.host_control },
                    ..*first
                };
                if self.node(action, room, by_operator)?.is_some() {
                    self.add(operator_control, control);
                }
                let by_host = Trial {
                    host_control: control,
                    operator_control: if own { control } else { first.operator_control },
                    ..*first
                };
                if self.node(action, room, by_host)?.is_some() {
                    self.add(host_control, control);
                }
            }
            let [countries, operator_control, host_control] = sets;
            permitted.push(PermittedNodes {
                action,
                tier,
                operator: operator.to_owned(),
                host: host.to_owned(),
                countries,
                operator_control,
                host_control,
            });
        }
        Ok(permitted)
    }

    /// The tier, if the node is permitted.
    fn node(
        &self,
        action: Action,
        room: RoomAttributes,
        trial: Trial<'_>,
    ) -> Result<Option<Option<u32>>, String> {
        let entity =
            |kind: &str, name: &str| Ok::<_, String>(RestrictedExpression::new_entity_uid(uid(kind, name)?));
        let attributes = HashMap::from([
            ("country".to_owned(), entity("Country", trial.country)?),
            ("operator".to_owned(), entity("Operator", trial.operator)?),
            ("operator_controlled_from".to_owned(), entity("Country", trial.operator_control)?),
            ("host".to_owned(), entity("Host", trial.host)?),
            ("host_controlled_from".to_owned(), entity("Country", trial.host_control)?),
            ("own_machine".to_owned(), RestrictedExpression::new_bool(trial.operator == trial.host)),
            ("declared_by".to_owned(), entity("Operator", trial.operator)?),
        ]);
        let node = Entity::new(uid("Node", "node")?, attributes, HashSet::new());
        let node = node.map_err(|error| error.to_string())?;
        let (room, own) = self.room(room)?;
        let (principal, resource) = (room.uid(), node.uid());
        let rules = self.decide(action, principal, resource, vec![room, own, node])?;
        let tier = |id: &String| {
            self.model.stated.iter().find(|rule| rule.id.as_str() == id).and_then(|rule| rule.tier)
        };
        let is_spill = action == Action::Spill;
        Ok(rules.map(|rules| rules.iter().filter_map(tier).min().filter(|_| is_spill)))
    }

    fn participant(&self, action: Action, room: RoomAttributes, from: &str) -> Result<bool, String> {
        let parents = HashSet::from([uid("Institution", from)?]);
        let participant = Entity::new_no_attrs(uid("Participant", "participant")?, parents);
        let (room, own) = self.room(room)?;
        let mut entities = vec![room.clone(), own];
        if from != self.institution {
            entities.push(Entity::with_uid(uid("Institution", from)?));
        }
        let (principal, resource) = (participant.uid(), room.uid());
        entities.push(participant);
        Ok(self.decide(action, principal, resource, entities)?.is_some())
    }

    /// The room, and its institution.
    fn room(&self, room: RoomAttributes) -> Result<(Entity, Entity), String> {
        let own = uid("Institution", self.institution)?;
        let class = uid("RoomClass", room.class.as_str())?;
        let attributes = HashMap::from([
            ("class".to_owned(), RestrictedExpression::new_entity_uid(class)),
            ("e2ee".to_owned(), RestrictedExpression::new_bool(room.e2ee)),
        ]);
        let room = Entity::new(uid("Room", "room")?, attributes, HashSet::from([own.clone()]));
        Ok((room.map_err(|error| error.to_string())?, Entity::with_uid(own)))
    }

    /// The rules that permit it, if it is permitted.
    fn decide(
        &self,
        action: Action,
        principal: EntityUid,
        resource: EntityUid,
        mut entities: Vec<Entity>,
    ) -> Result<Option<Vec<String>>, String> {
        let action_uid = uid("Action", action.as_str())?;
        let groups =
            if action.is_on_node() { HashSet::from([uid("Action", "on-node")?]) } else { HashSet::new() };
        entities.push(Entity::new_no_attrs(action_uid.clone(), groups));
        let entities = Entities::from_entities(entities, None).map_err(|error| error.to_string())?;
        let claims = [("e2ee".to_owned(), RestrictedExpression::new_bool(false))];
        let context = Context::from_pairs(claims).map_err(|error| error.to_string())?;
        let request = Request::new(principal, action_uid, resource, context, None);
        let request = request.map_err(|error| error.to_string())?;
        let response = Authorizer::new().is_authorized(&request, self.rules, &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(error.to_string());
        }
        let rules = response.diagnostics().reason().map(ToString::to_string).collect();
        Ok((response.decision() == Decision::Allow).then_some(rules))
    }
}

fn uid(kind: &str, name: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = kind.parse().map_err(|error| format!("{error}"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(name)))
}
