//! The engine: loaded from signed documents, and asked before a room's media or signalling goes to another node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::{Authorizer, EntityUid, Request as CedarRequest};
use systir_documents::{DocumentHash, Validity};
use systir_reason::{Reason, Refusal};

use crate::decision::{Decision, Denial};
use crate::entities::EntityStore;
use crate::escape::escaped;
use crate::guarantee::LoadedGuarantee;
use crate::institution::{InstitutionPolicy, floor_source};
use crate::loader::PolicyText;
use crate::node::NodeFacts;
use crate::nodes::DirectoryNodes;
use crate::outcome::decision_of;
use crate::problem::{LoadError, Problem};
use crate::request::{Request, RoomAttributes, Subject};
use crate::rule::Rule;
use crate::schema::{schema, schema_problem};
use crate::sentence::SentenceValues;
use crate::source::{Sources, place};
use crate::statement::PolicyStatement;
use crate::time::PolicyTime;
use crate::time_conditions::TimeConditions;

/// Makes decisions. Immutable: when a document or its validity changes, load a new engine; when the time comes at which a
/// rule decides otherwise, use the engine [`at`](Self::at) that time. Can be used from many threads at once.
#[derive(Clone, Debug)]
pub struct PolicyEngine {
    store: Arc<EntityStore>,
    nodes: Arc<DirectoryNodes>,
    policies: Arc<BTreeMap<String, InstitutionPolicy>>,
    authorizer: Authorizer,
    time_conditions: Arc<TimeConditions>,
    now: Option<PolicyTime>,
    /// Is what could be permitted at some time meant?
    ever: bool,
}

impl PolicyEngine {
    /// Loads all documents; one problem refuses them all.
    ///
    /// # Errors
    /// Every problem found: see [`LoadError`].
    pub fn load(sources: &Sources<'_>) -> Result<Self, LoadError> {
        let schema = schema()?;
        let nodes = DirectoryNodes::new(sources.directories, &sources.floor.document.operator)?;
        let floor = floor_source(sources.floor.document, &place::floor(&sources.floor.document.operator))
            .load(&schema, 0)?;
        let mut directories: Vec<_> =
            sources.directories.iter().map(|source| (&source.document.operator, &source.hash)).collect();
        directories.sort_unstable_by_key(|(operator, _)| *operator);
        let directories: Vec<&DocumentHash> = directories.into_iter().map(|(_, hash)| hash).collect();
        let mut problems = Vec::new();
        let mut policies = BTreeMap::new();
        for bundle in sources.bundles {
            match InstitutionPolicy::load(bundle, &sources.floor, &floor, &directories, &schema) {
                Ok(policy) => {
                    let institution = &bundle.document.institution;
                    if policies.insert(institution.clone(), policy).is_some() {
                        problems.push(Problem::at(
                            &place::bundle(institution),
                            "the institution has two bundles",
                        ));
                    }
                }
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let known = policies.iter().flat_map(|(institution, policy)| {
            policy.vocabulary.institutions.iter().chain([institution]).map(String::as_str)
        });
        let institutions: BTreeSet<&str> = known.collect();
        let store =
            EntityStore::build(schema, &institutions, &nodes).map_err(|error| schema_problem(&error))?;
        let conditions = policies.values().flat_map(|policy| policy.loaded.rules.values());
        let conditions =
            TimeConditions::new(conditions.flat_map(|rule| &rule.time_conditions).map(|(part, _)| part))
                .map_err(|error| schema_problem(&error))?;
        Ok(Self {
            store: store.into(),
            nodes: nodes.into(),
            policies: policies.into(),
            authorizer: Authorizer::new(),
            time_conditions: conditions.into(),
            now: None,
            ever: false,
        })
    }

    /// The same engine at this time. Without a time, as it is loaded: no rule permits by the time, and each rule that
    /// forbids by the time forbids.
    #[must_use]
    pub fn at(&self, now: Option<PolicyTime>) -> Self {
        Self { now, ..self.clone() }
    }

    /// The same engine for questions of what could be permitted at some time. No node decides by it.
    #[must_use]
    pub fn ever(&self) -> Self {
        Self { now: None, ever: true, ..self.clone() }
    }

    /// Could a request be decided otherwise at this time?
    #[must_use]
    pub fn differs_at(&self, now: Option<PolicyTime>) -> bool {
        let conditions = &self.time_conditions;
        !conditions.is_empty() && self.now != now && conditions.holding(self.now) != conditions.holding(now)
    }

    /// Decides the request. Never fails: what cannot be decided is denied.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let Some(policy) = self.policies.get(request.institution) else {
            let why = format!("the institution {} has no policy here", escaped(request.institution));
            return Decision::deny(Reason::UnknownInstitution, why, None);
        };
        self.evaluate(policy, request)
            .unwrap_or_else(|(reason, why)| Decision::deny(reason, why, Some(policy.version())))
    }

    /// What the institution's bundle says of its room with this name. Without a bundle: an ordinary room, whose requests
    /// are all denied.
    #[must_use]
    pub fn room(&self, institution: &str, name: &str) -> RoomAttributes {
        self.policies.get(institution).map(|policy| policy.classes.of(name)).unwrap_or_default()
    }

    /// Is the renewal of a document overdue that a new room of the institution on this node, or this node as a new node
    /// of a room, would rest on? Rooms and nodes that are there already go on until the document expires.
    #[must_use]
    pub fn renewal_overdue(&self, institution: &str, node: &str) -> Option<Refusal> {
        let policy = self.policies.get(institution)?;
        let directory = self.nodes.get(node).map(|facts| &facts.directory);
        let directory = directory.map(|known| (place::directory(&known.operator), known.validity));
        let overdue =
            policy.validity.iter().chain(&directory).find(|(_, validity)| *validity != Validity::Valid);
        overdue.map(|(document, _)| {
            let why = format!(
                "the renewal of the {document} is overdue: until a newer version is published, no room is opened and no \
                 node is added to a room"
            );
            Refusal::new(Reason::PolicyRenewalOverdue, why)
        })
    }

    /// The institutions that have a bundle.
    pub fn institutions(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// What the directories state of the node with this id.
    #[must_use]
    pub fn facts(&self, node: &str) -> Option<&Arc<NodeFacts>> {
        self.nodes.get(node)
    }

    /// What the directories state of the node with this SPIFFE id.
    #[must_use]
    pub fn node_of(&self, spiffe_id: &str) -> Option<&Arc<NodeFacts>> {
        self.nodes.of_spiffe_id(spiffe_id)
    }

    /// The nodes of all directories, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeFacts>> {
        self.nodes.iter()
    }

    /// The entries of directories that do not count, because another operator lists the same node.
    #[must_use]
    pub fn left_out(&self) -> &[Problem] {
        self.nodes.left_out()
    }

    /// The nodes with a missing attribute: they are denied everything until their directory states it.
    pub fn incomplete(&self) -> impl Iterator<Item = &Arc<NodeFacts>> {
        self.nodes().filter(|facts| facts.missing().next().is_some())
    }

    /// The policy that decides for an institution: version, hash, signers.
    #[must_use]
    pub fn statement(&self, institution: &str) -> Option<&PolicyStatement> {
        self.policies.get(institution).map(|policy| &policy.statement)
    }

    /// The policy text that applies to an institution.
    #[must_use]
    pub fn text(&self, institution: &str) -> Option<&PolicyText> {
        self.policies.get(institution).map(|policy| &policy.loaded.text)
    }

    /// The guarantees of an institution's policy: those of the floor, then the bundle's own.
    #[must_use]
    pub fn guarantees(&self, institution: &str) -> &[LoadedGuarantee] {
        self.policies.get(institution).map_or(&[], |policy| &policy.guarantees)
    }

    /// The rules that apply to an institution, floor first, in the order of the text.
    #[must_use]
    pub fn rules(&self, institution: &str) -> Vec<&Rule> {
        let policies = self.policies.get(institution).into_iter();
        let mut rules: Vec<_> = policies.flat_map(|policy| policy.loaded.rules.values()).collect();
        rules.sort_by_key(|rule| rule.order);
        rules
    }

    fn evaluate(&self, policy: &InstitutionPolicy, request: &Request<'_>) -> Result<Decision, Denial> {
        let Request { institution, action, .. } = *request;
        let failed =
            |what: &str| (Reason::EvaluationError, format!("the request could not be evaluated: {what}"));
        policy.check_validity()?;
        let room = self.store.room(institution, request.room).ok_or_else(|| failed("no such room"))?;
        let mut values = SentenceValues { institution, action, node: None, participant: None };
        let (principal, resource) = match request.subject {
            Subject::Node(_) | Subject::Peer { .. } if !action.is_on_node() => {
                let why = format!("{action} is an action of a participant, not of a node");
                return Err((Reason::WrongSubject, why));
            }
            Subject::Participant { .. } if action.is_on_node() => {
                let why = format!("{action} is an action of a node, not of a participant");
                return Err((Reason::WrongSubject, why));
            }
            Subject::Node(id) => self.node(policy, self.nodes.checked(id)?, room, &mut values)?,
            Subject::Peer { identity, now } => {
                self.node(policy, self.nodes.checked_peer(identity, now)?, room, &mut values)?
            }
            Subject::Participant { institution: from } => {
                values.participant = Some(from);
                let known = from == institution || policy.vocabulary.institutions.contains(from);
                let participant = self.store.participant(from).filter(|_| known).ok_or_else(|| {
                    let why = format!("the institution {} of the token is not known here", escaped(from));
                    (Reason::UnknownInstitution, why)
                })?;
                (participant, room)
            }
        };
        let action_uid = self.store.action(action).ok_or_else(|| failed("no such action"))?;
        let context =
            self.store.context(self.now, request.claims).map_err(|error| failed(&error.to_string()))?;
        // Without the time the context does not match the schema: the rules that read it fail, as they must.
        let schema = self.now.map(|_| self.store.schema());
        let cedar_request = CedarRequest::new(principal, action_uid, resource, context, schema)
            .map_err(|error| failed(&error.to_string()))?;
        let policies = if self.ever { &policy.loaded.ever } else { &policy.loaded.policies };
        let response = self.authorizer.is_authorized(&cedar_request, policies, self.store.entities());
        let time_known = self.now.is_some();
        Ok(decision_of(&policy.loaded, &values, time_known, response.decision(), response.diagnostics()))
    }

    /// Principal and resource of a request about a node.
    fn node<'a>(
        &self,
        policy: &InstitutionPolicy,
        facts: &'a NodeFacts,
        room: EntityUid,
        values: &mut SentenceValues<'a>,
    ) -> Result<(EntityUid, EntityUid), Denial> {
        values.node = Some(facts);
        policy.check_vocabulary(facts)?;
        let node = self.store.node(&facts.id).ok_or_else(|| {
            (Reason::EvaluationError, "the request could not be evaluated: no such node".to_owned())
        })?;
        Ok((room, node))
    }
}
