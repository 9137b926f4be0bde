//! What a gate answers.

use std::sync::Arc;

use serde::Serialize;

use crate::rule::RuleId;

/// The answer with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use = "a decision that nobody reads protects nobody"]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// The kind of reason, for metrics and branches.
    pub reason: ReasonCode,
    /// The rules that decided, the deciding one first; those that failed, for an evaluation error.
    pub rules: Vec<RuleId>,
    /// A sentence for people, made of the rules' `@why`.
    pub why: String,
    /// Rank in the spill ladder (the lowest is asked first), when spill is allowed.
    pub tier: Option<u32>,
    /// The policy that decided; `None` when the institution has none.
    pub policy_version: Option<PolicyVersion>,
}

impl Decision {
    pub(crate) fn deny(reason: ReasonCode, why: String, version: Option<&PolicyVersion>) -> Self {
        Self { allowed: false, reason, rules: Vec::new(), why, tier: None, policy_version: version.cloned() }
    }
}

/// Why a decision came out as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonCode {
    /// A rule permits it and none forbids it.
    Allowed,
    /// No rule permits it.
    NoRule,
    /// A rule forbids it.
    Forbidden,
    /// The node is not in the operator's nodes file.
    UnknownNode,
    /// The institution has no policy here, or nobody knows it.
    UnknownInstitution,
    /// The node states an operator, host or country that is not known here.
    UnknownEntity,
    /// The nodes file does not state an attribute of the node.
    MissingAttribute,
    /// TLS proved another peer than the one spoken of.
    IdentityMismatch,
    /// The action is not one that this kind of subject does.
    WrongSubject,
    /// A rule failed; it might have forbidden it.
    EvaluationError,
}

impl ReasonCode {
    /// Every code, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Allowed,
        Self::NoRule,
        Self::Forbidden,
        Self::UnknownNode,
        Self::UnknownInstitution,
        Self::UnknownEntity,
        Self::MissingAttribute,
        Self::IdentityMismatch,
        Self::WrongSubject,
        Self::EvaluationError,
    ];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::NoRule => "no-rule",
            Self::Forbidden => "forbidden",
            Self::UnknownNode => "unknown-node",
            Self::UnknownInstitution => "unknown-institution",
            Self::UnknownEntity => "unknown-entity",
            Self::MissingAttribute => "missing-attribute",
            Self::IdentityMismatch => "identity-mismatch",
            Self::WrongSubject => "wrong-subject",
            Self::EvaluationError => "evaluation-error",
        }
    }
}

impl std::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which policy decided. Written `7-3f2a90c1d4e5b687`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PolicyVersion {
    /// The number that the institution gave its policy; it only goes up.
    pub number: u64,
    /// First 16 hexadecimal digits of the SHA-256 of schema, floor and policy, zones spelled out.
    pub hash: Arc<str>,
}

impl std::fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.number, self.hash)
    }
}
