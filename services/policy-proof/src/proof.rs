//! Proofs of guarantees.

use serde::Serialize;
use systir_policy::{Action, LoadedGuarantee};

use crate::counterexample::Counterexample;
use crate::error::ProofError;
use crate::model::PolicyModel;
use crate::prover::Prover;
use crate::solver::SolverVersion;

/// What was proved of a policy, and what was refuted.
#[derive(Clone, Debug, Serialize)]
pub struct ProofReport {
    /// The policy: `bundle of ku.dk, version 7`.
    pub policy: String,
    /// Who answered.
    pub solver: SolverVersion,
    /// Each guarantee: those of the floor, then the bundle's own.
    pub guarantees: Vec<GuaranteeProof>,
    /// How many questions the solver was asked, canaries included.
    pub asked: u64,
}

/// One guarantee.
#[derive(Clone, Debug, Serialize)]
pub struct GuaranteeProof {
    /// Its name.
    pub id: String,
    /// What it means.
    pub says: String,
    /// The same in Danish; may be empty.
    pub says_da: String,
    /// The actions of which it is proved.
    pub proved: Vec<Action>,
    /// What is permitted against it, for the other actions.
    pub refuted: Vec<Counterexample>,
}

impl GuaranteeProof {
    /// Is it proved of each of its actions?
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.refuted.is_empty()
    }
}

impl ProofReport {
    /// Is each guarantee proved?
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.guarantees.iter().all(GuaranteeProof::is_proved)
    }
}

impl Prover {
    /// Proves each guarantee of the model for each of its actions, or refutes it with an example.
    ///
    /// # Errors
    /// When there is no guarantee, and when the solver gives no answer or a wrong one.
    pub async fn prove(&mut self, model: &PolicyModel) -> Result<ProofReport, ProofError> {
        if model.guarantees.is_empty() {
            return Err(ProofError::NoGuarantee(model.name.clone()));
        }
        let asked = self.asked();
        // Before the first question.
        self.canaries(Action::Home).await?;
        let mut guarantees: Vec<GuaranteeProof> = model.guarantees.iter().map(GuaranteeProof::new).collect();
        for action in Action::ALL {
            let about: Vec<&LoadedGuarantee> =
                model.guarantees.iter().filter(|guarantee| guarantee.actions.contains(&action)).collect();
            if about.is_empty() {
                continue;
            }
            let left = self.compile(model, action)?;
            // Most policies keep all their guarantees, which one question shows.
            let (_, all) = self.compile_text(model, action, &reference(&about))?;
            let kept = self.implies(action, &left, &all).await?;
            for (guarantee, proof) in model.guarantees.iter().zip(&mut guarantees) {
                if !guarantee.actions.contains(&action) {
                    continue;
                }
                if kept {
                    proof.proved.push(action);
                    continue;
                }
                let (policies, right) = self.compile_text(model, action, &reference(&[guarantee]))?;
                if self.implies(action, &left, &right).await? {
                    proof.proved.push(action);
                } else {
                    let found = self.example(action, model, (&policies, &right)).await?;
                    proof.refuted.push(found.ok_or(ProofError::WrongExample(action))?);
                }
            }
            // Each action has its canaries, also one that the translation decides all by itself.
            self.first_canaries(action).await?;
        }
        // After the last question.
        self.canaries(Action::Home).await?;
        Ok(ProofReport {
            policy: model.name.clone(),
            solver: self.version().clone(),
            guarantees,
            asked: self.asked() - asked,
        })
    }

    /// Does the model keep all its guarantees about the action?
    ///
    /// # Errors
    /// When the solver gives no answer or a wrong one.
    pub async fn keeps(&mut self, model: &PolicyModel, action: Action) -> Result<bool, ProofError> {
        let about: Vec<&LoadedGuarantee> =
            model.guarantees.iter().filter(|guarantee| guarantee.actions.contains(&action)).collect();
        let left = self.compile(model, action)?;
        let (_, all) = self.compile_text(model, action, &reference(&about))?;
        self.implies(action, &left, &all).await
    }
}

impl GuaranteeProof {
    fn new(guarantee: &LoadedGuarantee) -> Self {
        Self {
            id: guarantee.id.to_string(),
            says: guarantee.says.to_string(),
            says_da: guarantee.says_da.to_string(),
            proved: Vec::new(),
            refuted: Vec::new(),
        }
    }
}

/// A policy that permits exactly what the guarantees hold of. A condition that fails to evaluate permits nothing.
pub(crate) fn reference(guarantees: &[&LoadedGuarantee]) -> String {
    let conditions: Vec<String> =
        guarantees.iter().map(|guarantee| format!("({})", guarantee.holds)).collect();
    let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" && ") };
    format!("permit (principal, action, resource) when {{ {condition} }};")
}
