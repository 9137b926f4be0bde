//! Guarantees of a policy: conditions that hold of every request that its rules permit. An engine does not decide by them;
//! it checks that each can be read, so that a proof of it means what its sentence says.

use std::sync::Arc;

use cedar_policy::{Expression, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use systir_documents::{Guarantee, Vocabulary};

use crate::action::Action;
use crate::lint::{self, PolicyLayer};
use crate::problem::Problem;
use crate::zone::Zones;

/// A guarantee as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedGuarantee {
    /// Its name.
    pub id: Arc<str>,
    /// What it means.
    pub says: Arc<str>,
    /// The same in Danish; may be empty.
    pub says_da: Arc<str>,
    /// The actions that it is about.
    pub actions: Vec<Action>,
    /// The condition, a Cedar expression; zones are replaced by countries.
    pub holds: Arc<str>,
}

/// Loads the guarantees of one document. `place` names it in problems.
pub(crate) fn load(
    place: &str,
    guarantees: &[Guarantee],
    layer: PolicyLayer<'_>,
    zones: &Zones,
    schema: &Schema,
    vocabulary: &Vocabulary,
) -> Result<Vec<LoadedGuarantee>, Vec<Problem>> {
    let (mut loaded, mut problems) = (Vec::new(), Vec::new());
    for guarantee in guarantees {
        match load_one(guarantee, layer, zones, schema, vocabulary) {
            Ok(guarantee) => loaded.push(guarantee),
            Err(what) => problems.push(Problem::at(place, format!("guarantee {}: {what}", guarantee.id))),
        }
    }
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

fn load_one(
    guarantee: &Guarantee,
    layer: PolicyLayer<'_>,
    zones: &Zones,
    schema: &Schema,
    vocabulary: &Vocabulary,
) -> Result<LoadedGuarantee, String> {
    lint::check_bounds(&guarantee.holds)?;
    let holds =
        zones.expand(&guarantee.holds).map_err(|unknown| format!("the zones do not have {unknown:?}"))?;
    // What is an expression by itself cannot end the policy that it is put into.
    holds.parse::<Expression>().map_err(|error| format!("its condition does not parse: {error}"))?;
    let named = guarantee.actions.iter().map(|name| name.parse::<Action>());
    let mut actions = named.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if actions.is_empty() {
        actions = Action::ALL.into_iter().filter(|action| action.is_on_node()).collect();
    }
    let policy =
        reference(&actions, &holds).map_err(|error| format!("its condition does not parse: {error}"))?;
    if let Some(wrong) = lint::check_literals(&policy, layer, vocabulary).into_iter().next() {
        return Err(wrong);
    }
    let set = PolicySet::from_policies([policy]).map_err(|error| error.to_string())?;
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    // Warnings do not count: `false` is a fair condition, for what is never permitted.
    if let Some(error) = result.validation_errors().next() {
        return Err(error.to_string());
    }
    Ok(LoadedGuarantee {
        id: guarantee.id.as_str().into(),
        says: guarantee.says.as_str().into(),
        says_da: guarantee.says_da.as_str().into(),
        actions,
        holds: holds.into(),
    })
}

/// The condition as a policy that permits what it holds of.
fn reference(actions: &[Action], holds: &str) -> Result<Policy, String> {
    let actions: Vec<String> = actions.iter().map(|action| format!("Action::\"{action}\"")).collect();
    let text =
        format!("permit (principal, action in [{}], resource) when {{ {holds} }};", actions.join(", "));
    Policy::parse(Some(PolicyId::new("guarantee")), text).map_err(|error| error.to_string())
}
