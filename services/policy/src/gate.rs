//! The gate: loaded once, asked before anything of a room goes anywhere.

use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Decision as Verdict, PolicyId, Request as CedarRequest, Schema};
use systir_reason::Reason;

use crate::action::Action;
use crate::decision::Decision;
use crate::entities::Store;
use crate::evidence::shown;
use crate::lint::Layer;
use crate::loader::{PolicyText, Reader, Slice};
use crate::names::KnownNames;
use crate::node::{NodeFacts, Nodes};
use crate::problem::{LoadError, Problem};
use crate::request::{Request, Subject};
use crate::rule::{Effect, Rule};
use crate::sentence::Scene;
use crate::zone::Zones;

/// The Cedar schema that every policy is read against.
pub(crate) const SCHEMA: &str = include_str!("../policies/schema.cedarschema");

/// An institution's policy as it was handed in.
#[derive(Clone, Copy, Debug)]
pub struct InstitutionPolicy<'a> {
    /// Whose it is: `ku.dk`.
    pub institution: &'a str,
    /// Its number, which only goes up.
    pub version: u64,
    /// Cedar text, with zones.
    pub text: &'a str,
}

/// What a gate is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The operator's rules under everybody's; forbids only.
    pub floor: &'a str,
    /// One policy per institution.
    pub institutions: &'a [InstitutionPolicy<'a>],
    /// Zone -> countries.
    pub zones: &'a Zones,
    /// The operator's pinned nodes.
    pub nodes: &'a Nodes,
}

/// Decides. Immutable: a change of any source is a new gate. Cheap to ask from many threads at once.
#[derive(Debug)]
pub struct Gate {
    store: Store,
    slices: BTreeMap<String, Slice>,
    authorizer: Authorizer,
}

/// A deny before any rule was asked.
type Refusal = (Reason, String);

impl Gate {
    /// Reads all sources; one fault refuses them all.
    ///
    /// # Errors
    /// Every problem found: see [`LoadError`].
    pub fn load(sources: &Sources<'_>) -> Result<Self, LoadError> {
        let ours = |error: &dyn std::fmt::Display| vec![Problem::at("schema", error.to_string())];
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| ours(&error))?;
        let owners = sources.institutions.iter().map(|policy| policy.institution);
        let names = KnownNames::gather(sources.nodes, owners);
        let reader = Reader { schema: &schema, schema_text: SCHEMA, zones: sources.zones, names: &names };
        let floor = reader.part(Layer::Floor, sources.floor, 0)?;
        let mut problems = Vec::new();
        let mut slices = BTreeMap::new();
        for policy in sources.institutions {
            let place = policy.institution;
            if place.is_empty() || !place.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)) {
                problems.push(Problem::at(place, "an institution is named by its domain, like ku.dk"));
                continue;
            }
            let slice = reader
                .part(Layer::Institution(place), policy.text, floor.len())
                .and_then(|own| reader.slice(place, policy.version, &floor, &own));
            match slice {
                Ok(slice) => {
                    if slices.insert(place.to_owned(), slice).is_some() {
                        problems.push(Problem::at(place, "the institution has two policies"));
                    }
                }
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let store = Store::build(schema, names, sources.nodes).map_err(|error| ours(&error))?;
        Ok(Self { store, slices, authorizer: Authorizer::new() })
    }

    /// Whether it may be done, and why. Never fails: what cannot be decided is denied.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let Some(slice) = self.slices.get(request.institution) else {
            let why = format!("the institution {} has no policy here", shown(request.institution));
            return Decision::deny(Reason::UnknownInstitution, why, None);
        };
        self.ask(slice, request)
            .unwrap_or_else(|(reason, why)| Decision::deny(reason, why, Some(&slice.text.version)))
    }

    /// The institutions that have a policy.
    pub fn institutions(&self) -> impl Iterator<Item = &str> {
        self.slices.keys().map(String::as_str)
    }

    /// The text that decides for an institution.
    #[must_use]
    pub fn text(&self, institution: &str) -> Option<&PolicyText> {
        self.slices.get(institution).map(|slice| &slice.text)
    }

    /// The rules that decide for an institution, floor first, in the order of the text.
    #[must_use]
    pub fn rules(&self, institution: &str) -> Vec<&Rule> {
        let mut rules: Vec<_> =
            self.slices.get(institution).into_iter().flat_map(|slice| slice.rules.values()).collect();
        rules.sort_by_key(|rule| rule.order);
        rules
    }

    fn ask(&self, slice: &Slice, request: &Request<'_>) -> Result<Decision, Refusal> {
        let Request { institution, action, .. } = *request;
        let failed = |what: &str| (Reason::EvaluationError, format!("the question could not be put: {what}"));
        let room = self.store.room(institution, request.room.class).ok_or_else(|| failed("no such room"))?;
        let mut scene = Scene { institution, action, node: None, participant: None };
        let mut built = None;
        let (principal, resource) = match request.subject {
            Subject::Node(evidence) if action.is_on_node() => {
                let facts = evidence.checked()?;
                scene.node = Some(facts);
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
                        built = Some(entities);
                        node
                    }
                };
                (room, node)
            }
            Subject::Participant { institution: from } if !action.is_on_node() => {
                scene.participant = Some(from);
                let participant = self.store.participant(from).ok_or_else(|| {
                    let why = format!("the institution {} of the token is not known here", shown(from));
                    (Reason::UnknownInstitution, why)
                })?;
                (participant, room)
            }
            Subject::Node(_) => {
                let why = format!("{action} is asked for a participant, not for a node");
                return Err((Reason::WrongSubject, why));
            }
            Subject::Participant { .. } => {
                let why = format!("{action} is asked for a node, not for a participant");
                return Err((Reason::WrongSubject, why));
            }
        };
        let action_uid = self.store.action(action).ok_or_else(|| failed("no such action"))?;
        let context = self.store.context(request.claims).map_err(|error| failed(&error.to_string()))?;
        let asked = CedarRequest::new(principal, action_uid, resource, context, Some(self.store.schema()))
            .map_err(|error| failed(&error.to_string()))?;
        let entities = built.as_ref().unwrap_or_else(|| self.store.entities());
        let answer = self.authorizer.is_authorized(&asked, &slice.policies, entities);
        Ok(judge(slice, &scene, answer.decision(), answer.diagnostics()))
    }
}

/// Cedar's answer as ours. Cedar skips a rule that fails, so a failing forbid would fail open: any error denies.
fn judge(
    slice: &Slice,
    scene: &Scene<'_>,
    verdict: Verdict,
    diagnostics: &cedar_policy::Diagnostics,
) -> Decision {
    let version = Some(&slice.text.version);
    let failed = diagnostics.errors().map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
    });
    let failed = in_order(slice, failed);
    if diagnostics.errors().next().is_some() {
        let names: Vec<_> = failed.iter().map(|rule| rule.id.as_str()).collect();
        let why = format!("a rule could not be evaluated ({}), so nothing is allowed", names.join(", "));
        let rules = failed.iter().map(|rule| rule.id.clone()).collect();
        return Decision { rules, ..Decision::deny(Reason::EvaluationError, why, version) };
    }
    let deciding = in_order(slice, diagnostics.reason());
    let rules = deciding.iter().map(|rule| rule.id.clone()).collect();
    match (verdict, deciding.first()) {
        (Verdict::Allow, Some(first)) if first.effect == Effect::Permit => Decision {
            allowed: true,
            reason: Reason::Allowed,
            rules,
            why: first.sentence.render(scene),
            tier: first.tier.filter(|_| scene.action == Action::Spill),
            policy_version: version.cloned(),
        },
        (Verdict::Deny, Some(_)) => {
            let whys: Vec<_> = deciding.iter().map(|rule| rule.sentence.render(scene)).collect();
            Decision { rules, ..Decision::deny(Reason::Forbidden, whys.join("; "), version) }
        }
        // An allow that no rule of ours stands for is none.
        _ => Decision::deny(Reason::NoRule, no_rule(scene), version),
    }
}

/// The rules of these ids: the lowest tier first, then by their place in the text.
fn in_order<'a>(slice: &'a Slice, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<&'a Rule> {
    let mut rules: Vec<_> = ids.filter_map(|id| slice.rules.get(id)).collect();
    rules.sort_by_key(|rule| (rule.tier.unwrap_or(u32::MAX), rule.order));
    rules
}

fn no_rule(scene: &Scene<'_>) -> String {
    let Scene { institution, action, .. } = scene;
    match (scene.node, scene.participant) {
        (Some(node), _) => format!("no rule of {institution} permits {action} on {}", portrait(node)),
        (None, Some(from)) => format!("no rule of {institution} permits {action} to people of {from}"),
        (None, None) => format!("no rule of {institution} permits {action}"),
    }
}

fn portrait(node: &NodeFacts) -> String {
    let NodeFacts { id, country, operator, host, host_controlled_from, .. } = node;
    if node.own_machine() {
        format!("{id} ({operator}'s own machine in {country})")
    } else {
        format!(
            "{id} (in {country}, run by {operator} on a machine of {host}, controlled from {host_controlled_from})"
        )
    }
}
