//! From policy text to rules: check bounds, replace zones by countries, parse, lint, validate.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{ParseErrors, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use systir_documents::{Guarantee, Vocabulary};

use crate::decision::PolicyVersion;
use crate::guarantee::{self, LoadedGuarantee};
use crate::lint::{self, PolicyLayer};
use crate::problem::{Problem, line_at};
use crate::rule::{Rule, RuleId};
use crate::time_conditions::Times;
use crate::tokenizer::{TokenKind, tokens};
use crate::zone::Zones;

/// The policy text of one document, and what it is checked against.
pub(crate) struct PolicySource<'a> {
    /// The document in problems.
    pub(crate) place: &'a str,
    pub(crate) layer: PolicyLayer<'a>,
    pub(crate) text: &'a str,
    pub(crate) zones: &'a BTreeMap<String, Vec<String>>,
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) guarantees: &'a [Guarantee],
}

/// One loaded text: the floor, or an institution's own rules.
#[derive(Debug)]
pub(crate) struct LoadedPart {
    text: Arc<str>,
    policies: Vec<Policy>,
    rules: Vec<Rule>,
    pub(crate) guarantees: Vec<LoadedGuarantee>,
}

/// An institution's policy: the floor and its own rules.
#[derive(Debug)]
pub(crate) struct LoadedPolicy {
    pub(crate) text: PolicyText,
    pub(crate) policies: PolicySet,
    /// What they permit at some time.
    pub(crate) ever: PolicySet,
    pub(crate) rules: HashMap<PolicyId, Rule>,
}

/// The text of a policy, zones replaced by countries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    /// Number and hash.
    pub version: PolicyVersion,
    /// The Cedar schema.
    pub schema: Arc<str>,
    /// The operator's floor.
    pub floor: Arc<str>,
    /// The institution's own rules.
    pub institution: Arc<str>,
}

impl PolicySource<'_> {
    /// Loads the text. `first` is the [`Rule::order`] of its first rule.
    pub(crate) fn load(&self, schema: &Schema, first: usize) -> Result<LoadedPart, Vec<Problem>> {
        self.load_rules(schema, first).map_err(|mut problems| {
            for problem in &mut problems {
                if let (None, Some(rule)) = (problem.line, &problem.rule) {
                    problem.line = line_of_rule(self.text, rule);
                }
            }
            problems
        })
    }

    fn load_rules(&self, schema: &Schema, first: usize) -> Result<LoadedPart, Vec<Problem>> {
        let Self { place, layer, text, zones, vocabulary, guarantees } = *self;
        let text_problem = |what: String| vec![Problem::at(place, what)];
        lint::check_bounds(text).map_err(text_problem)?;
        let zones = Zones::new(place, zones)?;
        let guarantees = guarantee::load(place, guarantees, layer, &zones, schema, vocabulary)?;
        let expanded = zones
            .expand(text)
            .map_err(|unknown| text_problem(format!("its zones do not have {unknown:?}")))?;
        if expanded.len() > lint::MAX_EXPANDED_BYTES {
            return Err(text_problem(
                "with its zones replaced by countries the text is too long; use fewer zones".to_owned(),
            ));
        }
        // Each zone is replaced on its line, so line numbers are those of the original text.
        let parsed: PolicySet = expanded.parse().map_err(|error: ParseErrors| {
            let problems = error.iter().map(|error| {
                let error = DetailedError::from(error);
                let line = error.source_locations.first().map(|place| line_at(&expanded, place.loc.start));
                Problem { line, ..Problem::at(place, format!("it does not parse: {}", error.message)) }
            });
            problems.collect::<Vec<_>>()
        })?;
        if parsed.num_of_templates() > 0 {
            return Err(text_problem(
                "templates (?principal, ?resource) are not supported; write the rule in full".to_owned(),
            ));
        }
        let mut numbered: Vec<&Policy> = parsed.policies().collect();
        // Cedar names policies `policy0`, `policy1`, ... and returns them unordered.
        numbered.sort_by_key(|policy| number(policy.id()));
        let mut problems = Vec::new();
        let (mut policies, mut rules) = (Vec::new(), Vec::<Rule>::new());
        for (at, policy) in numbered.into_iter().enumerate() {
            match lint::check_rule(policy, first + at, layer, schema, vocabulary) {
                Ok(rule) => {
                    policies.push(policy.new_id(PolicyId::new(rule.id.as_str())));
                    rules.push(rule);
                }
                Err(wrong) => {
                    let name =
                        policy.annotation("id").map_or_else(|| format!("number {}", at + 1), str::to_owned);
                    problems.extend(wrong.into_iter().map(|what| Problem::of_rule(place, &name, what)));
                }
            }
        }
        problems.extend(duplicates(place, &rules));
        if problems.is_empty() {
            problems = validate(place, schema, &policies);
        }
        if problems.is_empty() {
            Ok(LoadedPart { text: expanded.into(), policies, rules, guarantees })
        } else {
            Err(problems)
        }
    }
}

/// Strict mode; a warning is an error, as a rule that can never apply is a mistake.
fn validate(place: &str, schema: &Schema, policies: &[Policy]) -> Vec<Problem> {
    let set = match PolicySet::from_policies(policies.iter().cloned()) {
        Ok(set) => set,
        Err(error) => return vec![Problem::at(place, error.to_string())],
    };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors =
        result.validation_errors().map(|e| Problem::of_rule(place, e.policy_id().as_ref(), e.to_string()));
    let warnings =
        result.validation_warnings().map(|e| Problem::of_rule(place, e.policy_id().as_ref(), e.to_string()));
    errors.chain(warnings).collect()
}

impl LoadedPolicy {
    /// The floor and an institution's own rules as one policy.
    pub(crate) fn combine(
        place: &str,
        version: PolicyVersion,
        schema: &str,
        floor: &LoadedPart,
        own: &LoadedPart,
    ) -> Result<Self, Vec<Problem>> {
        let rules: Vec<&Rule> = floor.rules.iter().chain(&own.rules).collect();
        let problems = duplicates(place, rules.iter().copied());
        if !problems.is_empty() {
            return Err(problems);
        }
        let unusable = |error: &dyn std::fmt::Display| vec![Problem::at(place, error.to_string())];
        let all = || floor.policies.iter().chain(&own.policies);
        let policies = PolicySet::from_policies(all().cloned()).map_err(|error| unusable(&error))?;
        let ever: Vec<Policy> = all()
            .map(|policy| Times::Some.of(policy))
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(&error))?;
        let ever = PolicySet::from_policies(ever).map_err(|error| unusable(&error))?;
        Ok(Self {
            text: PolicyText {
                version,
                schema: schema.into(),
                floor: floor.text.clone(),
                institution: own.text.clone(),
            },
            policies,
            ever,
            rules: rules.into_iter().map(|rule| (PolicyId::new(rule.id.as_str()), rule.clone())).collect(),
        })
    }
}

impl LoadedPart {
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }
}

fn number(id: &PolicyId) -> usize {
    let id: &str = id.as_ref();
    id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(usize::MAX)
}

/// The line of the rule with this `@id`; for `number N`, of the Nth rule.
fn line_of_rule(text: &str, rule: &str) -> Option<usize> {
    let quoted = format!("\"{rule}\"");
    let mut last = "";
    let found = tokens(text).find(|token| {
        let here = token.text == quoted && last == "id";
        if token.kind == TokenKind::Word {
            last = token.text;
        }
        here
    });
    if let Some(token) = found {
        return Some(line_at(text, token.range.start));
    }
    let number: usize = rule.strip_prefix("number ")?.parse().ok()?;
    let mut ended = tokens(text).filter(|token| token.text == ";" && token.kind == TokenKind::Mark);
    let start = if number <= 1 { 0 } else { ended.nth(number - 2)?.range.end };
    let first = tokens(text.get(start..)?).next()?;
    Some(line_at(text, start + first.range.start))
}

fn duplicates<'a>(place: &str, rules: impl IntoIterator<Item = &'a Rule>) -> Vec<Problem> {
    let mut seen = std::collections::HashSet::<&RuleId>::new();
    let repeated = rules.into_iter().filter(|rule| !seen.insert(&rule.id));
    repeated
        .map(|rule| Problem::of_rule(place, rule.id.as_str(), "another rule has this @id already"))
        .collect()
}
