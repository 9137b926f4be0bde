//! Does a policy keep to what another institution or operator requires?

use serde::Serialize;
use systir_policy::{Action, LoadedGuarantee};

use crate::counterexample::Counterexample;
use crate::error::ProofError;
use crate::model::PolicyModel;
use crate::proof::reference;
use crate::prover::Prover;
use crate::solver::SolverVersion;

/// A policy beside a floor.
#[derive(Clone, Debug, Serialize)]
pub struct FloorComparison {
    /// The floor.
    pub floor: String,
    /// The policy.
    pub policy: String,
    /// Who answered.
    pub solver: SolverVersion,
    /// The actions of which it is proved that the policy permits nothing that the floor excludes.
    pub proved: Vec<Action>,
    /// What the policy permits against the floor, for the other actions.
    pub excess: Vec<FloorExcess>,
}

/// Something that a policy permits and a floor excludes.
#[derive(Clone, Debug, Serialize)]
pub struct FloorExcess {
    /// The guarantee of the floor that excludes it; none for its rules.
    pub guarantee: Option<String>,
    /// What is permitted.
    pub permitted: Counterexample,
}

impl FloorComparison {
    /// Does the policy keep to the floor in all actions?
    #[must_use]
    pub fn is_compatible(&self) -> bool {
        self.excess.is_empty()
    }
}

impl Prover {
    /// Proves for each action that `policy` permits nothing that the rules or the guarantees of `floor` exclude. Of a floor
    /// that is a bundle, only the guarantees count: its rules are about its own rooms.
    ///
    /// # Errors
    /// When there is nothing to compare with, and when the solver gives no answer or a wrong one.
    pub async fn compare_floor(
        &mut self,
        floor: &PolicyModel,
        policy: &PolicyModel,
    ) -> Result<FloorComparison, ProofError> {
        let rules_count = floor.institution.is_none();
        if !rules_count && floor.guarantees.is_empty() {
            return Err(ProofError::NoGuarantee(floor.name.clone()));
        }
        let (mut proved, mut excess) = (Vec::new(), Vec::new());
        for action in Action::ALL {
            self.canaries(action).await?;
            let left = self.compile(policy, action)?;
            let before = excess.len();
            if rules_count {
                let right = self.compile(floor, action)?;
                if !self.implies(action, &left, &right).await? {
                    let found = self.example(action, policy, (&floor.rules, &right)).await?;
                    let permitted = found.ok_or(ProofError::WrongExample(action))?;
                    excess.push(FloorExcess { guarantee: None, permitted });
                }
            }
            let about: Vec<&LoadedGuarantee> =
                floor.guarantees.iter().filter(|guarantee| guarantee.actions.contains(&action)).collect();
            if !rules_count && about.is_empty() {
                continue;
            }
            for guarantee in about {
                let (policies, right) = self.compile_text(floor, action, &reference(&[guarantee]))?;
                if !self.implies(action, &left, &right).await? {
                    let found = self.example(action, policy, (&policies, &right)).await?;
                    let permitted = found.ok_or(ProofError::WrongExample(action))?;
                    excess.push(FloorExcess { guarantee: Some(guarantee.id.to_string()), permitted });
                }
            }
            if excess.len() == before {
                proved.push(action);
            }
        }
        // After the last question.
        self.canaries(Action::Home).await?;
        Ok(FloorComparison {
            floor: floor.name.clone(),
            policy: policy.name.clone(),
            solver: self.version().clone(),
            proved,
            excess,
        })
    }
}
