//! Rules: Cedar policies with an id, a sentence and, for spill, a tier.

use std::sync::Arc;

use cedar_policy::Policy;
use serde::Serialize;
use serde_json::Value;

use crate::action::Action;
use crate::sentence::Sentence;
use crate::time_conditions::conditions;

/// A rule's `@id`, unique in the institution's policy and the floor together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RuleId(Arc<str>);

impl RuleId {
    pub(crate) fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The `@id`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RuleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rule does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleEffect {
    /// It permits, unless another rule forbids.
    Permit,
    /// It forbids, whatever other rules permit.
    Forbid,
}

/// A rule as it was loaded.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its `@id`.
    pub id: RuleId,
    /// Permit or forbid.
    pub effect: RuleEffect,
    /// Its `@tier`, for a rule that permits spill: nodes of the lowest tier are asked first.
    pub tier: Option<u32>,
    /// The actions that it can apply to.
    pub actions: Vec<Action>,
    pub(crate) sentence: Sentence,
    /// Position in the text, floor first: which of several deciding rules is listed first.
    pub(crate) order: usize,
    /// The parts that depend on the time alone, in Cedar's JSON form, each with whether the rule applies rather if it is true.
    pub(crate) time_conditions: Vec<(Value, bool)>,
    pub(crate) hours: Option<Arc<str>>,
}

impl Rule {
    /// Does it read the time?
    #[must_use]
    pub fn reads_time(&self) -> bool {
        !self.time_conditions.is_empty()
    }

    /// Its `@hours`: what its author says of its times. See [`Rule::reads_time_only_as`].
    #[must_use]
    pub fn hours(&self) -> Option<&str> {
        self.hours.as_deref()
    }

    /// Does the time matter to the rule in this condition only, a Cedar expression, and does the rule apply only if it is
    /// true?
    #[must_use]
    pub fn reads_time_only_as(&self, condition: &str) -> bool {
        let policy = format!("permit (principal, action, resource) when {{ {condition} }};");
        let policy = Policy::parse(None, policy).ok().and_then(|policy| policy.to_json().ok());
        let body = policy.as_ref().and_then(|json| conditions(json).next());
        matches!((body, self.time_conditions.as_slice()), (Some((body, true)), [(own, true)]) if body == own)
    }

    /// Its `@why`: the sentence of its decisions, with placeholders such as `{node}`.
    #[must_use]
    pub fn why(&self) -> String {
        self.sentence.to_string()
    }
}
