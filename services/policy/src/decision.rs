//! The result of a decision.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use systir_documents::DocumentHash;
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
    /// The policy that decided; `None` when the institution has no bundle.
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

/// A denial before any rule was evaluated.
pub(crate) type Denial = (Reason, String);

/// Which policy decided. For display it is written short: `7-3f2a90c1d4e5`; its JSON has the whole hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PolicyVersion {
    /// The version of the institution's bundle; it only increases.
    #[serde(rename = "version")]
    pub number: u64,
    /// The SHA-256, in hexadecimal digits, of all that decides: schema, floor, bundle and directories. See
    /// `PolicyVersion::new`.
    pub hash: Arc<str>,
}

/// Digits of the hash that are displayed.
const DISPLAYED_DIGITS: usize = 12;

impl PolicyVersion {
    /// The hash is the SHA-256 of a fixed line, then of the schema's text and the hash of each document: the floor, the
    /// bundle, the directories in the order of their operators' names. Each part is preceded by its length (8 bytes,
    /// big-endian), so that nothing moves from one to the next.
    pub(crate) fn new(number: u64, schema: &str, documents: &[&DocumentHash]) -> Self {
        let mut bytes = b"systir.org/policy/v1\n".to_vec();
        let documents = documents.iter().map(|hash| hash.as_bytes().as_slice());
        for part in std::iter::once(schema.as_bytes()).chain(documents) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let hash: String =
            digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { number, hash: hash.into() }
    }
}

impl std::fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.number, self.hash.get(..DISPLAYED_DIGITS).unwrap_or(&self.hash))
    }
}
