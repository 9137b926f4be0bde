//! The demo's policy, nodes and zones; an operator may start from them.

use crate::engine::{InstitutionPolicy, PolicyEngine, Sources};
use crate::node::Nodes;
use crate::problem::LoadError;
use crate::zone::Zones;

/// The operator's floor.
pub const FLOOR: &str = include_str!("../policies/floor.cedar");
/// The policy of `ku.dk`.
pub const KU_DK: &str = include_str!("../policies/ku.dk.cedar");
/// Zones, TOML.
pub const ZONES: &str = include_str!("../policies/zones.toml");
/// The demo's nodes `cph-1`, `sto-1` and `aws-sto-1`, TOML.
pub const NODES: &str = include_str!("../policies/nodes.toml");

/// The demo's institution.
pub const INSTITUTION: &str = "ku.dk";

/// An engine with the demo's policy and the given nodes.
///
/// # Errors
/// When the demo's policy names an operator or host that `nodes` do not have.
pub fn engine(nodes: &Nodes) -> Result<PolicyEngine, LoadError> {
    PolicyEngine::load(&Sources {
        floor: FLOOR,
        institutions: &[InstitutionPolicy { institution: INSTITUTION, version: 1, text: KU_DK }],
        zones: &Zones::parse(ZONES)?,
        nodes,
    })
}
