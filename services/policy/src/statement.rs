//! Which policy decides, and who signed it.

use serde::Serialize;

use crate::decision::PolicyVersion;

/// The policy that decides for an institution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyStatement {
    /// The institution.
    pub institution: String,
    /// Version of its bundle, and the hash of all that decides.
    #[serde(flatten)]
    pub version: PolicyVersion,
    /// Fingerprints of the institution's keys whose signatures of the bundle were verified.
    pub signers: Vec<String>,
    /// The operator whose floor applies too.
    pub floor_operator: String,
    /// Version of that floor.
    pub floor_version: u64,
    /// Fingerprints of the operator's keys whose signatures of the floor were verified.
    pub floor_signers: Vec<String>,
}
