//! The result of a decision.

use std::sync::Arc;

use serde::Serialize;
use systir_reason::{Reason, Refusal};

use crate::rule::RuleId;

/// Allow or deny, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use = "an ignored decision protects nothing: check `allowed`"]
pub struct Decision {
    /// Whether the action is allowed.
    pub allowed: bool,
    /// The reason code, for metrics and for code that branches on it.
    pub reason: Reason,
    /// The rules that decided, the first one decisive. For an evaluation error: the rules that failed.
    pub rules: Vec<RuleId>,
    /// A sentence for display, made of the rules' `@why`.
    pub why: String,
    /// Tier of the deciding spill rule: the lowest is asked first. Set only when spill is allowed.
    pub tier: Option<u32>,
    /// The policy that decided; `None` when the institution has none.
    pub policy_version: Option<PolicyVersion>,
}

impl Decision {
    /// The denial as a refusal with its rules.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let rules = self.rules.iter().map(ToString::to_string).collect();
        Refusal::new(self.reason, self.why.clone()).with_rules(rules)
    }

    pub(crate) fn deny(reason: Reason, why: String, version: Option<&PolicyVersion>) -> Self {
        Self { allowed: false, reason, rules: Vec::new(), why, tier: None, policy_version: version.cloned() }
    }
}

/// Which policy decided. Written `7-3f2a90c1d4e5b687`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PolicyVersion {
    /// The number that the institution gave its policy; it only increases.
    pub number: u64,
    /// First 16 hexadecimal digits of the SHA-256 of schema, floor and policy, zones replaced by countries.
    pub hash: Arc<str>,
}

impl std::fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.number, self.hash)
    }
}
