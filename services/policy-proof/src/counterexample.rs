//! A request that a policy permits, in words.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Entities, EntityUid, EvalResult, PolicyId};
use cedar_policy_symcc::Env;
use serde::Serialize;
use systir_policy::{Action, RoomAttributes, RoomClass, is_country};

use crate::model::{PolicyModel, is_rule, known_owners, one_of};
use crate::possible_time::PossibleTime;

/// A request that was found. It need not be one of today: such a node could exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counterexample {
    /// The action.
    pub action: Action,
    /// What the room is.
    pub room: RoomAttributes,
    /// The room's institution, if it is one that the policy names.
    pub institution: Option<String>,
    /// The node, for an action on a node.
    pub node: Option<PossibleNode>,
    /// The participant's institution, for an action of a participant, if it is one that the policy names.
    pub participant_of: Option<String>,
    /// When, if it depends on the time.
    pub time: Option<PossibleTime>,
    /// The rules that permit it.
    pub rules: Vec<String>,
}

/// A node that could exist. What is none, no name and no country that the policy knows, may be any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PossibleNode {
    /// Where it stands.
    pub country: Option<String>,
    /// Who runs it.
    pub operator: Option<String>,
    /// From which country the operator is controlled.
    pub operator_controlled_from: Option<String>,
    /// Who owns the machine.
    pub host: Option<String>,
    /// From which country the host is controlled.
    pub host_controlled_from: Option<String>,
    /// Does the operator own the machine?
    pub own_machine: bool,
    /// Did another one than the operator declare all this?
    pub declared_by_another: bool,
}

impl Counterexample {
    pub(crate) fn new(action: Action, model: &PolicyModel, found: &Env, time: Option<PossibleTime>) -> Self {
        let Env { request, entities } = found;
        let response = Authorizer::new().is_authorized(request, &model.rules, entities);
        let mut rules: Vec<String> = response
            .diagnostics()
            .reason()
            .filter(|id| is_rule(id))
            .map(|id: &PolicyId| id.to_string())
            .collect();
        rules.sort_unstable();
        let reader = EntityReader { entities, model };
        let (room, node, participant) = match (action.is_on_node(), request.principal(), request.resource()) {
            (true, principal, resource) => (principal, resource, None),
            (false, principal, resource) => (resource, None, principal),
        };
        Self {
            action,
            room: room.map(|room| reader.room(room)).unwrap_or_default(),
            institution: room.and_then(|room| reader.institution(room)),
            node: node.map(|node| reader.node(node)),
            participant_of: participant.and_then(|participant| reader.institution(participant)),
            time,
            rules,
        }
    }
}

struct EntityReader<'a> {
    entities: &'a Entities,
    model: &'a PolicyModel,
}

impl EntityReader<'_> {
    fn attribute(&self, entity: &EntityUid, name: &str) -> Option<EvalResult> {
        self.entities.get(entity)?.attr(name)?.ok()
    }

    fn is_true(&self, entity: &EntityUid, name: &str) -> bool {
        matches!(self.attribute(entity, name), Some(EvalResult::Bool(true)))
    }

    fn name(&self, entity: &EntityUid, name: &str) -> Option<String> {
        match self.attribute(entity, name)? {
            EvalResult::EntityUid(uid) => Some(uid.id().unescaped().to_owned()),
            _ => None,
        }
    }

    fn room(&self, room: &EntityUid) -> RoomAttributes {
        let class = self.name(room, "class").and_then(|class| RoomClass::named(&class)).unwrap_or_default();
        RoomAttributes { class, e2ee: self.is_true(room, "e2ee") }
    }

    /// The policy's own institution if the entity is in it, else one that the vocabulary knows.
    fn institution(&self, entity: &EntityUid) -> Option<String> {
        let of: BTreeSet<String> =
            self.entities.ancestors(entity)?.map(|uid| uid.id().unescaped().to_owned()).collect();
        let known = self.model.institution.iter().chain(&self.model.vocabulary.institutions);
        known.into_iter().find(|name| of.contains(*name)).cloned()
    }

    fn node(&self, node: &EntityUid) -> PossibleNode {
        let country = |name: &str| self.name(node, name).filter(|code| is_country(code));
        let known = |name: &str, names: &BTreeSet<String>| {
            self.name(node, name).filter(|value| names.contains(value))
        };
        PossibleNode {
            country: country("country"),
            operator: known("operator", &self.model.vocabulary.operators),
            operator_controlled_from: country("operator_controlled_from"),
            host: known("host", &self.model.vocabulary.hosts),
            host_controlled_from: country("host_controlled_from"),
            own_machine: self.is_true(node, "own_machine"),
            declared_by_another: self.name(node, "declared_by") != self.name(node, "operator"),
        }
    }
}

/// Years in which a bundle could be in use.
const OF_TODAY: &str = "context.now >= datetime(\"2026-01-01\") && context.now < datetime(\"2100-01-01\")";

/// Rules that leave only requests that look like those of today, the most ordinary first. They only choose among
/// counterexamples.
pub(crate) fn likely_rules(model: &PolicyModel, action: Action) -> Vec<String> {
    // Most rules do not read the time, and the solver answers faster if it need not either.
    let reads_time = model.stated.iter().any(|rule| rule.actions.contains(&action) && rule.reads_time());
    let of_today = if reads_time { OF_TODAY } else { "true" };
    if !action.is_on_node() {
        let institutions = model.institution.iter().chain(&model.vocabulary.institutions);
        let known = one_of("principal", "Institution", institutions);
        return vec![format!("forbid (principal, action, resource) unless {{ {known} && {of_today} }};")];
    }
    // Those that the rules name, and one that most policies are wary of.
    let mut countries: BTreeSet<String> = model
        .rules
        .policies()
        .flat_map(cedar_policy::Policy::entity_literals)
        .filter(|uid| uid.type_name().basename() == "Country")
        .map(|uid| uid.id().unescaped().to_owned())
        .collect();
    countries.insert("US".to_owned());
    let in_countries = |attribute: &str| one_of(&format!("resource.{attribute}"), "Country", &countries);
    let possible = format!(
        "{of_today} && resource.declared_by == resource.operator && {} && {} && {}",
        in_countries("country"),
        in_countries("operator_controlled_from"),
        in_countries("host_controlled_from")
    );
    let known = format!("{possible} && {}", known_owners(&model.vocabulary));
    let ordinary = format!("{known} && principal.class == RoomClass::\"standard\" && !principal.e2ee");
    let rule = |condition: String| format!("forbid (principal, action, resource) unless {{ {condition} }};");
    [ordinary, known, possible].map(rule).into()
}
