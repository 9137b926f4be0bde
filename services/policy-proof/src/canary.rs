//! Canaries: properties that are known to be true and false. A solver that is out of step answers the question before, and
//! would "prove" what is false; so canaries, whose right answers alternate, stand before the first and after the last
//! question, after the first about each action, and among many.

use std::collections::BTreeMap;

use cedar_policy::PolicySet;
use cedar_policy_symcc::CompiledPolicySet;
use systir_policy::Action;

use crate::environment::Environments;

/// Two policies, of which the narrow one permits less than the wide one.
#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) narrow: CompiledPolicySet,
    pub(crate) wide: CompiledPolicySet,
}

/// The canaries of each action.
pub(crate) fn canaries(environments: &Environments) -> Result<BTreeMap<Action, Canary>, String> {
    let compile = |action: Action, text: &str| {
        let policies: PolicySet = text.parse().map_err(|error| format!("a canary: {error}"))?;
        environments.compile(action, &policies)
    };
    let mut canaries = BTreeMap::new();
    for action in Action::ALL {
        let (narrow, wide) = if action.is_on_node() {
            (
                "permit (principal in Institution::\"canary\", action, resource)
                 when { resource.country in [Country::\"DK\", Country::\"SE\"] && !principal.e2ee }
                 when { context.now < datetime(\"2027-03-28T01:00:00Z\") && context.weekday == Weekday::\"mon\" }
                 unless { resource.host_controlled_from in [Country::\"US\"] };",
                "permit (principal, action, resource)
                 when { resource.country in [Country::\"DK\", Country::\"NO\", Country::\"SE\"] }
                 when { context.now < datetime(\"2027-10-31T01:00:00Z\") && context.weekday != Weekday::\"sun\" };",
            )
        } else {
            (
                "permit (principal in Institution::\"canary\", action, resource)
                 when { resource.class == RoomClass::\"standard\" };",
                "permit (principal, action, resource)
                 when { principal in Institution::\"canary\" || resource.e2ee };",
            )
        };
        let canary = Canary { narrow: compile(action, narrow)?, wide: compile(action, wide)? };
        canaries.insert(action, canary);
    }
    Ok(canaries)
}
