//! What is proved about: the rules of a policy.

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet};
use systir_documents::{Bundle, Floor, RoomClassRule, Vocabulary};
use systir_policy::{Action, LoadedGuarantee, PolicyEngine, Rule};

use crate::error::ProofError;

/// Rules that this crate adds have ids that no rule of a document can have.
const OWN_PREFIX: &str = "systir:";

/// What a directory cannot state is no counterexample: it is refused if it says that one operator is controlled from two
/// countries, and a machine that the operator owns has its operator as host.
const LOADED_NODES: &str = "forbid (principal, action in Action::\"on-node\", resource)
    when { resource.own_machine && resource.operator_controlled_from != resource.host_controlled_from };";

/// The rules of a policy, and what is to be proved of them.
#[derive(Clone, Debug)]
pub struct PolicyModel {
    /// `bundle of ku.dk, version 7`.
    pub(crate) name: String,
    pub(crate) institution: Option<String>,
    /// The rules, by their ids.
    pub(crate) rules: PolicySet,
    /// Id, tier and actions of each rule, in the order of the text.
    pub(crate) stated: Vec<Rule>,
    pub(crate) guarantees: Vec<LoadedGuarantee>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) classes: Vec<RoomClassRule>,
}

impl PolicyModel {
    /// A bundle together with the floor of the engine that was loaded from both.
    ///
    /// # Errors
    /// When the engine was not loaded from this bundle.
    pub fn of_bundle(engine: &PolicyEngine, bundle: &Bundle) -> Result<Self, ProofError> {
        let Bundle { institution, version, vocabulary, classes, .. } = bundle;
        let name = format!("bundle of {institution}, version {version}");
        let mut model = Self::of_engine(engine, institution, name)?;
        model.institution = Some(institution.clone());
        model.vocabulary = vocabulary.clone();
        model.classes = classes.clone();
        Ok(model)
    }

    /// A floor by itself, whatever a bundle permits: all that it does not forbid is permitted. `institution` is one of the
    /// engine's whose bundle has no rules.
    ///
    /// # Errors
    /// When the engine does not have this institution.
    pub fn of_floor(engine: &PolicyEngine, floor: &Floor, institution: &str) -> Result<Self, ProofError> {
        let name = format!("floor of {}, version {}", floor.operator, floor.version);
        let mut model = Self::of_engine(engine, institution, name)?;
        model.vocabulary = floor.vocabulary.clone();
        model.add("any-permit", "permit (principal, action, resource);")?;
        Ok(model)
    }

    fn of_engine(engine: &PolicyEngine, institution: &str, name: String) -> Result<Self, ProofError> {
        let untranslatable = |what: String| ProofError::Untranslatable { policy: name.clone(), what };
        let text = engine
            .text(institution)
            .ok_or_else(|| untranslatable(format!("the engine has no bundle of {institution}")))?;
        let mut rules = PolicySet::new();
        for part in [&text.floor, &text.institution] {
            let parsed: PolicySet = part.parse().map_err(|error| untranslatable(format!("{error}")))?;
            for policy in parsed.policies() {
                let id = PolicyId::new(policy.annotation("id").unwrap_or_default());
                rules.add(policy.new_id(id)).map_err(|error| untranslatable(error.to_string()))?;
            }
        }
        let mut model = Self {
            institution: None,
            rules,
            stated: engine.rules(institution).into_iter().cloned().collect(),
            guarantees: engine.guarantees(institution).to_vec(),
            vocabulary: Vocabulary::default(),
            classes: Vec::new(),
            name,
        };
        model.add("loaded-nodes", LOADED_NODES)?;
        Ok(model)
    }

    /// `bundle of ku.dk, version 7`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The actions that a rule can apply to; none if there is no such rule.
    #[must_use]
    pub fn actions_of(&self, rule: &str) -> &[Action] {
        let stated = self.stated.iter().find(|stated| stated.id.as_str() == rule);
        stated.map_or(&[], |stated| &stated.actions)
    }

    /// The model with one more rule.
    pub(crate) fn with(&self, id: &str, rule: &str) -> Result<Self, ProofError> {
        let mut model = self.clone();
        model.add(id, rule)?;
        Ok(model)
    }

    fn add(&mut self, id: &str, rule: &str) -> Result<(), ProofError> {
        let id = PolicyId::new(format!("{OWN_PREFIX}{id}"));
        let policy = Policy::parse(Some(id), rule).map_err(|error| self.untranslatable(error.to_string()))?;
        self.rules.add(policy).map_err(|error| self.untranslatable(error.to_string()))
    }

    pub(crate) fn untranslatable(&self, what: String) -> ProofError {
        ProofError::Untranslatable { policy: self.name.clone(), what }
    }

    /// The model with what an engine denies whatever the rules say: nodes whose operator or host, and participants whose
    /// institution, are not in the vocabulary. A bundle decides only about rooms of its own institution.
    pub(crate) fn as_loaded(&self) -> Result<Self, ProofError> {
        let institutions = &self.vocabulary.institutions;
        let Some(own) = &self.institution else { return Ok(self.clone()) };
        let own_room = literal("Institution", own);
        let node = format!(
            "forbid (principal, action in Action::\"on-node\", resource)
             unless {{ principal in {own_room} && {} }};",
            known_owners(&self.vocabulary)
        );
        let by_participant: Vec<String> = Action::ALL
            .into_iter()
            .filter(|action| !action.is_on_node())
            .map(|action| format!("Action::\"{action}\""))
            .collect();
        let participant = format!(
            "forbid (principal, action in [{}], resource) unless {{ resource in {own_room} && {} }};",
            by_participant.join(", "),
            one_of("principal", "Institution", institutions.iter().chain([own]))
        );
        self.with("known-nodes", &node)?.with("known-participants", &participant)
    }
}

/// Is it a rule of a document?
pub(crate) fn is_rule(id: &PolicyId) -> bool {
    let id: &str = id.as_ref();
    !id.starts_with(OWN_PREFIX)
}

/// A condition: the value is one of these entities, or in one of them.
pub(crate) fn one_of<'a>(value: &str, kind: &str, names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(kind, name)).collect();
    if names.is_empty() { "false".to_owned() } else { format!("{value} in [{}]", names.join(", ")) }
}

/// An entity in Cedar text. The kinds are types of the schema.
pub(crate) fn literal(kind: &str, name: &str) -> String {
    match kind.parse::<EntityTypeName>() {
        Ok(kind) => EntityUid::from_type_name_and_id(kind, EntityId::new(name)).to_string(),
        Err(_) => String::new(),
    }
}

/// A condition: the node's operator and host are in the vocabulary, and it is the operator's own machine exactly if both have
/// the same name.
pub(crate) fn known_owners(vocabulary: &Vocabulary) -> String {
    let Vocabulary { operators, hosts, .. } = vocabulary;
    let same = operators.intersection(hosts).map(|name| {
        let (operator, host) = (literal("Operator", name), literal("Host", name));
        format!("(resource.operator == {operator} && resource.host == {host})")
    });
    let same: Vec<String> = same.collect();
    let own = if same.is_empty() { "false".to_owned() } else { same.join(" || ") };
    format!(
        "{} && {} && resource.own_machine == ({own})",
        one_of("resource.operator", "Operator", operators),
        one_of("resource.host", "Host", hosts)
    )
}
