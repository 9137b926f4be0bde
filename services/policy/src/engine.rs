//! The engine: loaded once, and asked before a room's media or signalling goes to another node.

use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Decision as CedarDecision, PolicyId, Request as CedarRequest, Schema};
use systir_reason::Reason;

use crate::action::Action;
use crate::decision::Decision;
use crate::entities::EntityStore;
use crate::evidence::escaped;
use crate::lint::PolicyLayer;
use crate::loader::{LoadedPolicy, Loader, PolicyText};
use crate::names::KnownNames;
use crate::node::{NodeFacts, Nodes};
use crate::problem::{LoadError, Problem};
use crate::request::{Request, Subject};
use crate::rule::{Rule, RuleEffect};
use crate::sentence::SentenceValues;
use crate::zone::Zones;

/// The Cedar schema that every policy must match.
pub(crate) const SCHEMA: &str = include_str!("../policies/schema.cedarschema");

/// An institution's policy text, before it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct InstitutionPolicy<'a> {
    /// The institution: `ku.dk`.
    pub institution: &'a str,
    /// Its number, which only increases.
    pub version: u64,
    /// Cedar text, with zones.
    pub text: &'a str,
}

/// The input of [`PolicyEngine::load`].
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The operator's floor: forbid rules that apply to every institution.
    pub floor: &'a str,
    /// One policy per institution.
    pub institutions: &'a [InstitutionPolicy<'a>],
    /// Zone -> countries.
    pub zones: &'a Zones,
    /// The operator's nodes file.
    pub nodes: &'a Nodes,
}

/// Makes decisions. Immutable: when a source changes, load a new engine. Can be used from many threads at once.
#[derive(Debug)]
pub struct PolicyEngine {
    store: EntityStore,
    policies: BTreeMap<String, LoadedPolicy>,
    authorizer: Authorizer,
}

/// A denial before any rule was evaluated.
type Denial = (Reason, String);

impl PolicyEngine {
    /// Loads all sources; one problem refuses them all.
    ///
    /// # Errors
    /// Every problem found: see [`LoadError`].
    pub fn load(sources: &Sources<'_>) -> Result<Self, LoadError> {
        let schema_problem = |error: &dyn std::fmt::Display| vec![Problem::at("schema", error.to_string())];
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| schema_problem(&error))?;
        let institutions = sources.institutions.iter().map(|policy| policy.institution);
        let names = KnownNames::gather(sources.nodes, institutions);
        let loader = Loader { schema: &schema, schema_text: SCHEMA, zones: sources.zones, names: &names };
        let floor = loader.load_part(PolicyLayer::Floor, sources.floor, 0)?;
        let mut problems = Vec::new();
        let mut policies = BTreeMap::new();
        for policy in sources.institutions {
            let place = policy.institution;
            if place.is_empty() || !place.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)) {
                problems.push(Problem::at(place, "an institution is named by its domain, like ku.dk"));
                continue;
            }
            let loaded = loader
                .load_part(PolicyLayer::Institution(place), policy.text, floor.len())
                .and_then(|own| loader.combine(place, policy.version, &floor, &own));
            match loaded {
                Ok(loaded) => {
                    if policies.insert(place.to_owned(), loaded).is_some() {
                        problems.push(Problem::at(place, "the institution has two policies"));
                    }
                }
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let store =
            EntityStore::build(schema, names, sources.nodes).map_err(|error| schema_problem(&error))?;
        Ok(Self { store, policies, authorizer: Authorizer::new() })
    }

    /// Decides the request. Never fails: what cannot be decided is denied.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let Some(policy) = self.policies.get(request.institution) else {
            let why = format!("the institution {} has no policy here", escaped(request.institution));
            return Decision::deny(Reason::UnknownInstitution, why, None);
        };
        self.evaluate(policy, request)
            .unwrap_or_else(|(reason, why)| Decision::deny(reason, why, Some(&policy.text.version)))
    }

    /// The institutions that have a policy.
    pub fn institutions(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// The policy text that applies to an institution.
    #[must_use]
    pub fn text(&self, institution: &str) -> Option<&PolicyText> {
        self.policies.get(institution).map(|policy| &policy.text)
    }

    /// The rules that apply to an institution, floor first, in the order of the text.
    #[must_use]
    pub fn rules(&self, institution: &str) -> Vec<&Rule> {
        let mut rules: Vec<_> =
            self.policies.get(institution).into_iter().flat_map(|policy| policy.rules.values()).collect();
        rules.sort_by_key(|rule| rule.order);
        rules
    }

    fn evaluate(&self, policy: &LoadedPolicy, request: &Request<'_>) -> Result<Decision, Denial> {
        let Request { institution, action, .. } = *request;
        let failed =
            |what: &str| (Reason::EvaluationError, format!("the request could not be evaluated: {what}"));
        let room = self.store.room(institution, request.room.class).ok_or_else(|| failed("no such room"))?;
        let mut values = SentenceValues { institution, action, node: None, participant: None };
        let mut node_entities = None;
        let (principal, resource) = match request.subject {
            Subject::Node(evidence) if action.is_on_node() => {
                let facts = evidence.checked()?;
                values.node = Some(facts);
                let node = match self.store.known_node(facts) {
                    Some(node) => node,
                    None => {
                        if let Some(unknown) = self.store.unknown_in(facts) {
                            let why = format!("{unknown}, which is not known here");
                            return Err((Reason::UnknownEntity, why));
                        }
                        let (node, entities) = self
                            .store
                            .with_node(institution, facts)
                            .map_err(|error| failed(&error.to_string()))?;
                        node_entities = Some(entities);
                        node
                    }
                };
                (room, node)
            }
            Subject::Participant { institution: from } if !action.is_on_node() => {
                values.participant = Some(from);
                let participant = self.store.participant(from).ok_or_else(|| {
                    let why = format!("the institution {} of the token is not known here", escaped(from));
                    (Reason::UnknownInstitution, why)
                })?;
                (participant, room)
            }
            Subject::Node(_) => {
                let why = format!("{action} is an action of a participant, not of a node");
                return Err((Reason::WrongSubject, why));
            }
            Subject::Participant { .. } => {
                let why = format!("{action} is an action of a node, not of a participant");
                return Err((Reason::WrongSubject, why));
            }
        };
        let action_uid = self.store.action(action).ok_or_else(|| failed("no such action"))?;
        let context = self.store.context(request.claims).map_err(|error| failed(&error.to_string()))?;
        let cedar_request =
            CedarRequest::new(principal, action_uid, resource, context, Some(self.store.schema()))
                .map_err(|error| failed(&error.to_string()))?;
        let entities = node_entities.as_ref().unwrap_or_else(|| self.store.entities());
        let response = self.authorizer.is_authorized(&cedar_request, &policy.policies, entities);
        Ok(decision_of(policy, &values, response.decision(), response.diagnostics()))
    }
}

/// Cedar's response as a decision. Cedar skips a rule that fails, so a failing forbid would allow: any error denies.
fn decision_of(
    policy: &LoadedPolicy,
    values: &SentenceValues<'_>,
    cedar_decision: CedarDecision,
    diagnostics: &cedar_policy::Diagnostics,
) -> Decision {
    let version = Some(&policy.text.version);
    let failed = diagnostics.errors().map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
    });
    let failed = in_order(policy, failed);
    if diagnostics.errors().next().is_some() {
        let names: Vec<_> = failed.iter().map(|rule| rule.id.as_str()).collect();
        let why = format!("a rule could not be evaluated ({}), so nothing is allowed", names.join(", "));
        let rules = failed.iter().map(|rule| rule.id.clone()).collect();
        return Decision { rules, ..Decision::deny(Reason::EvaluationError, why, version) };
    }
    let deciding = in_order(policy, diagnostics.reason());
    let rules = deciding.iter().map(|rule| rule.id.clone()).collect();
    match (cedar_decision, deciding.first()) {
        (CedarDecision::Allow, Some(first)) if first.effect == RuleEffect::Permit => Decision {
            allowed: true,
            reason: Reason::Allowed,
            rules,
            why: first.sentence.render(values),
            tier: first.tier.filter(|_| values.action == Action::Spill),
            policy_version: version.cloned(),
        },
        (CedarDecision::Deny, Some(_)) => {
            let whys: Vec<_> = deciding.iter().map(|rule| rule.sentence.render(values)).collect();
            Decision { rules, ..Decision::deny(Reason::Forbidden, whys.join("; "), version) }
        }
        // An allow without a known permit rule counts as a denial.
        _ => Decision::deny(Reason::NoRule, no_rule(values), version),
    }
}

/// The rules with these ids: the lowest tier first, then in the order of the text.
fn in_order<'a>(policy: &'a LoadedPolicy, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<&'a Rule> {
    let mut rules: Vec<_> = ids.filter_map(|id| policy.rules.get(id)).collect();
    rules.sort_by_key(|rule| (rule.tier.unwrap_or(u32::MAX), rule.order));
    rules
}

fn no_rule(values: &SentenceValues<'_>) -> String {
    let SentenceValues { institution, action, .. } = values;
    match (values.node, values.participant) {
        (Some(node), _) => format!("no rule of {institution} permits {action} on {}", describe(node)),
        (None, Some(from)) => format!("no rule of {institution} permits {action} to participants of {from}"),
        (None, None) => format!("no rule of {institution} permits {action}"),
    }
}

fn describe(node: &NodeFacts) -> String {
    let NodeFacts { id, country, operator, host, host_controlled_from, .. } = node;
    if node.own_machine() {
        format!("{id} ({operator}'s own machine in {country})")
    } else {
        format!(
            "{id} (in {country}, run by {operator} on a machine of {host}, controlled from {host_controlled_from})"
        )
    }
}
