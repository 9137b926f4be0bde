//! Questions to the solver.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Authorizer, Decision as CedarDecision, PolicySet};
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet, Env};
use systir_policy::Action;

use crate::canary::{Canary, canaries};
use crate::counterexample::Counterexample;
use crate::environment::Environments;
use crate::error::ProofError;
use crate::model::PolicyModel;
use crate::possible_time::{PossibleTime, settle};
use crate::solver::{LimitedSolver, SolverVersion};

/// Most questions between two pairs of canaries.
const MAX_UNCHECKED: usize = 16;

/// A running solver, and what it has to know of the schema.
#[derive(Debug)]
pub struct Prover {
    solver: CedarSymCompiler<LimitedSolver>,
    version: SolverVersion,
    environments: Environments,
    canaries: BTreeMap<Action, Canary>,
    /// Actions whose canaries came out right.
    checked: BTreeSet<Action>,
    /// Questions since the last canary.
    unchecked: usize,
}

impl Prover {
    /// Starts the program that the environment variable `CVC5` names, else `cvc5`.
    ///
    /// # Errors
    /// When there is none, or it is too old.
    pub async fn start() -> Result<Self, ProofError> {
        Self::new(LimitedSolver::start().await?)
    }

    /// Starts this program as the solver.
    ///
    /// # Errors
    /// When there is none, or it is too old.
    pub async fn start_command(command: &str) -> Result<Self, ProofError> {
        Self::new(LimitedSolver::start_command(command).await?)
    }

    fn new((solver, version): (LimitedSolver, SolverVersion)) -> Result<Self, ProofError> {
        let schema = |what: String| ProofError::Untranslatable { policy: "the schema".to_owned(), what };
        let environments = Environments::new().map_err(schema)?;
        let canaries = canaries(&environments).map_err(schema)?;
        let solver = CedarSymCompiler::new(solver).map_err(|error| schema(error.to_string()))?;
        Ok(Self { solver, version, environments, canaries, checked: BTreeSet::new(), unchecked: 0 })
    }

    /// Which solver answers.
    #[must_use]
    pub fn version(&self) -> &SolverVersion {
        &self.version
    }

    /// How many questions it was asked, canaries included. Others are decided while they are translated.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.solver.solver().asked
    }

    /// What the model's rules permit of the action, as a formula.
    pub(crate) fn compile(
        &self,
        model: &PolicyModel,
        action: Action,
    ) -> Result<CompiledPolicySet, ProofError> {
        self.environments.compile(action, &model.rules).map_err(|what| model.untranslatable(what))
    }

    /// What this text permits of the action, as a formula; `model` is what it is about.
    pub(crate) fn compile_text(
        &self,
        model: &PolicyModel,
        action: Action,
        text: &str,
    ) -> Result<(PolicySet, CompiledPolicySet), ProofError> {
        let policies: PolicySet = text.parse().map_err(|error| model.untranslatable(format!("{error}")))?;
        let compiled =
            self.environments.compile(action, &policies).map_err(|what| model.untranslatable(what))?;
        Ok((policies, compiled))
    }

    /// Is everything of `action` that `left` permits permitted by `right` too? Canaries follow the first question about each
    /// action, and then each so many. The caller ends with [`Prover::canaries`].
    pub(crate) async fn implies(
        &mut self,
        action: Action,
        left: &CompiledPolicySet,
        right: &CompiledPolicySet,
    ) -> Result<bool, ProofError> {
        let before = self.asked();
        let answer = self.solver.check_implies_opt(left, right).await;
        self.trusted(action, before, answer).await
    }

    /// Do both permit the same of `action`? Canaries follow as in [`Prover::implies`].
    pub(crate) async fn equivalent(
        &mut self,
        action: Action,
        left: &CompiledPolicySet,
        right: &CompiledPolicySet,
    ) -> Result<bool, ProofError> {
        let before = self.asked();
        let answer = self.solver.check_equivalent_opt(left, right).await;
        self.trusted(action, before, answer).await
    }

    /// The answer, if canaries come out right. What the translation decided, without a question, needs none.
    async fn trusted(
        &mut self,
        action: Action,
        asked_before: u64,
        answer: Result<bool, Error>,
    ) -> Result<bool, ProofError> {
        let answer = answer.map_err(|error| no_answer(action, &error))?;
        if self.asked() > asked_before {
            self.unchecked += 1;
            if self.unchecked >= MAX_UNCHECKED || !self.checked.contains(&action) {
                self.canaries(action).await?;
            }
        }
        Ok(answer)
    }

    /// Asks for the canaries of an action, if nothing was asked about it yet.
    pub(crate) async fn first_canaries(&mut self, action: Action) -> Result<(), ProofError> {
        if self.checked.contains(&action) { Ok(()) } else { self.canaries(action).await }
    }

    /// Asks for two properties of the action, of which one is known to be true and one to be false. Their answers differ, so a
    /// solver that is out of step is found.
    pub(crate) async fn canaries(&mut self, action: Action) -> Result<(), ProofError> {
        self.canary(action, true).await?;
        self.canary(action, false).await?;
        self.checked.insert(action);
        self.unchecked = 0;
        Ok(())
    }

    /// A request of `action` that `left` permits and `right` does not, and its time if that matters. Cedar's own evaluation
    /// confirms it.
    pub(crate) async fn exception(
        &mut self,
        action: Action,
        left: (&PolicySet, &CompiledPolicySet),
        right: (&PolicySet, &CompiledPolicySet),
    ) -> Result<Option<(Env, Option<PossibleTime>)>, ProofError> {
        let found = self.solver.check_implies_with_counterexample_opt(left.1, right.1).await;
        let found = found.map_err(|error| no_answer(action, &error))?;
        self.canaries(action).await?;
        if let Some(found) = &found {
            let decides = |policies: &PolicySet| {
                Authorizer::new().is_authorized(&found.request, policies, &found.entities).decision()
            };
            if decides(left.0) != CedarDecision::Allow || decides(right.0) != CedarDecision::Deny {
                return Err(ProofError::WrongExample(action));
            }
        }
        Ok(found.map(|found| settle(found, left.0, right.0)))
    }

    /// An example of a request that `model` permits and `right` does not: one that looks like those of today, if there is one.
    pub(crate) async fn example(
        &mut self,
        action: Action,
        model: &PolicyModel,
        right: (&PolicySet, &CompiledPolicySet),
    ) -> Result<Option<Counterexample>, ProofError> {
        for likely in crate::counterexample::likely_rules(model, action) {
            let model = model.with("likely", &likely)?;
            let left = self.compile(&model, action)?;
            if let Some((found, time)) = self.exception(action, (&model.rules, &left), right).await? {
                return Ok(Some(Counterexample::new(action, &model, &found, time)));
            }
        }
        let left = self.compile(model, action)?;
        let found = self.exception(action, (&model.rules, &left), right).await?;
        Ok(found.map(|(found, time)| Counterexample::new(action, model, &found, time)))
    }

    /// Asks for a property that is known to be true or false.
    async fn canary(&mut self, action: Action, known: bool) -> Result<(), ProofError> {
        let wrong = ProofError::Canary { action, known };
        let Some(Canary { narrow, wide }) = self.canaries.get(&action) else { return Err(wrong) };
        let (left, right) = if known { (narrow, wide) } else { (wide, narrow) };
        let before = self.asked();
        let answer = self.solver.check_implies_opt(left, right).await;
        let answer = answer.map_err(|error| no_answer(action, &error))?;
        // A canary that the translation decides says nothing about the solver.
        if answer == known && self.asked() == before + 1 { Ok(()) } else { Err(wrong) }
    }
}

fn no_answer(action: Action, error: &Error) -> ProofError {
    let mut what = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        what = format!("{what}: {cause}");
        source = cause.source();
    }
    ProofError::NoAnswer { action, what }
}
