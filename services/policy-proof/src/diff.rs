//! What a new version of a policy permits more, and less, than the old one.

use std::collections::BTreeMap;

use serde::Serialize;
use systir_documents::RoomClassRule;
use systir_policy::{Action, Rule};

use crate::counterexample::Counterexample;
use crate::error::ProofError;
use crate::model::PolicyModel;
use crate::prover::Prover;
use crate::solver::SolverVersion;

/// The difference of two policies, by what they permit and not by their texts.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyDiff {
    /// The old policy.
    pub old: String,
    /// The new policy.
    pub new: String,
    /// Who answered.
    pub solver: SolverVersion,
    /// Each action.
    pub actions: Vec<ActionDiff>,
    /// Room classes that are weaker now, in sentences.
    pub weaker_classes: Vec<String>,
    /// Room classes that are new or stronger now, in sentences.
    pub stronger_classes: Vec<String>,
    /// Guarantees that are gone or say something else now.
    pub guarantees_gone: Vec<String>,
    /// Guarantees that are new or say something else now.
    pub guarantees_new: Vec<String>,
    /// Spill rules whose tier changed, in sentences: the order in which nodes are asked.
    pub order: Vec<String>,
}

/// The difference for one action. Without an example in either direction: the same.
#[derive(Clone, Debug, Serialize)]
pub struct ActionDiff {
    /// The action.
    pub action: Action,
    /// What the new policy permits and the old one does not.
    pub looser: Option<Counterexample>,
    /// What the old policy permits and the new one does not.
    pub stricter: Option<Counterexample>,
}

impl PolicyDiff {
    /// Does the new policy permit or promise anything that the old one does not exclude?
    #[must_use]
    pub fn is_looser(&self) -> bool {
        self.actions.iter().any(|action| action.looser.is_some())
            || !self.weaker_classes.is_empty()
            || !self.guarantees_gone.is_empty()
    }
}

impl Prover {
    /// Compares two policies for each action, with what an engine denies besides: what is not in the vocabulary.
    ///
    /// # Errors
    /// When the solver gives no answer or a wrong one.
    pub async fn diff(&mut self, old: &PolicyModel, new: &PolicyModel) -> Result<PolicyDiff, ProofError> {
        let (old_model, new_model) = (old.as_loaded()?, new.as_loaded()?);
        let mut actions = Vec::new();
        for action in Action::ALL {
            self.canaries(action).await?;
            let looser = self.excess(action, &new_model, &old_model).await?;
            let stricter = self.excess(action, &old_model, &new_model).await?;
            actions.push(ActionDiff { action, looser, stricter });
        }
        // After the last question.
        self.canaries(Action::Home).await?;
        let (weaker_classes, stronger_classes) = classes(&old.classes, &new.classes);
        Ok(PolicyDiff {
            old: old.name.clone(),
            new: new.name.clone(),
            solver: self.version().clone(),
            actions,
            weaker_classes,
            stronger_classes,
            guarantees_gone: guarantees(old, new),
            guarantees_new: guarantees(new, old),
            order: order(old, new),
        })
    }

    /// Do engines that load the two policies permit the same of the action?
    ///
    /// # Errors
    /// When the solver gives no answer or a wrong one.
    pub async fn same(
        &mut self,
        action: Action,
        one: &PolicyModel,
        other: &PolicyModel,
    ) -> Result<bool, ProofError> {
        let (one, other) = (one.as_loaded()?, other.as_loaded()?);
        let (left, right) = (self.compile(&one, action)?, self.compile(&other, action)?);
        self.equivalent(action, &left, &right).await
    }

    /// What `of` permits and `than` does not.
    async fn excess(
        &mut self,
        action: Action,
        of: &PolicyModel,
        than: &PolicyModel,
    ) -> Result<Option<Counterexample>, ProofError> {
        let (left, right) = (self.compile(of, action)?, self.compile(than, action)?);
        if self.implies(action, &left, &right).await? {
            return Ok(None);
        }
        let found = self.example(action, of, (&than.rules, &right)).await?;
        found.map(Some).ok_or(ProofError::WrongExample(action))
    }
}

/// Patterns that are weaker, and those that are stronger or new. A pattern that is gone counts as weaker, whatever others
/// match the same names.
fn classes(old: &[RoomClassRule], new: &[RoomClassRule]) -> (Vec<String>, Vec<String>) {
    let by_pattern = |rules: &[RoomClassRule]| {
        let mut known = BTreeMap::<String, (bool, bool)>::new();
        for rule in rules {
            let (confidential, e2ee) = known.entry(rule.pattern.clone()).or_default();
            *confidential |= rule.class == "confidential";
            *e2ee |= rule.e2ee;
        }
        known
    };
    let words = |(confidential, e2ee): (bool, bool)| {
        let class = if confidential { "confidential" } else { "standard" };
        format!("{class}{}", if e2ee { ", end-to-end encrypted" } else { "" })
    };
    let (old, new) = (by_pattern(old), by_pattern(new));
    let (mut weaker, mut stronger) = (Vec::new(), Vec::new());
    for pattern in old.keys().chain(new.keys().filter(|pattern| !old.contains_key(*pattern))) {
        let before = old.get(pattern).copied().unwrap_or_default();
        let after = new.get(pattern).copied().unwrap_or_default();
        let sentence = format!("rooms named {pattern}: were {}, are {}", words(before), words(after));
        if (before.0 && !after.0) || (before.1 && !after.1) {
            weaker.push(sentence);
        } else if before != after {
            stronger.push(sentence);
        }
    }
    (weaker, stronger)
}

/// Guarantees of `one` that `other` does not have in the same words and for the same actions.
fn guarantees(one: &PolicyModel, other: &PolicyModel) -> Vec<String> {
    let kept = |id: &str, holds: &str, actions: &[Action]| {
        other.guarantees.iter().any(|known| {
            &*known.id == id
                && &*known.holds == holds
                && actions.iter().all(|action| known.actions.contains(action))
        })
    };
    let gone = one.guarantees.iter().filter(|known| !kept(&known.id, &known.holds, &known.actions));
    gone.map(|guarantee| format!("{}: {}", guarantee.id, guarantee.says)).collect()
}

fn order(old: &PolicyModel, new: &PolicyModel) -> Vec<String> {
    let tier = |rule: &Rule| Some((rule.id.to_string(), rule.tier?));
    let before: BTreeMap<String, u32> = old.stated.iter().filter_map(tier).collect();
    let changed = new.stated.iter().filter_map(tier).filter_map(|(rule, tier)| {
        let before = before.get(&rule)?;
        (*before != tier).then(|| format!("rule {rule}: was tier {before}, is tier {tier}"))
    });
    changed.collect()
}
