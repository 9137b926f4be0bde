//! The schema as the solver sees it: for each action, what a request of it may be.

use std::collections::BTreeMap;

use cedar_policy::{PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::{CompiledPolicySet, SymEnv};
use systir_policy::{Action, SCHEMA};

/// All requests of one action.
#[derive(Debug)]
struct ActionEnvironment {
    kinds: RequestEnv,
    symbols: SymEnv,
}

/// All requests of all actions.
#[derive(Debug)]
pub(crate) struct Environments {
    schema: Schema,
    by_action: BTreeMap<Action, ActionEnvironment>,
}

impl Environments {
    /// Those of the schema that policies are written for.
    pub(crate) fn new() -> Result<Self, String> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| error.to_string())?;
        let mut by_action = BTreeMap::new();
        for kinds in schema.request_envs() {
            let action: Action =
                kinds.action().id().unescaped().parse().map_err(|error| format!("schema: {error}"))?;
            let symbols = SymEnv::new(&schema, &kinds).map_err(|error| error.to_string())?;
            if by_action.insert(action, ActionEnvironment { kinds, symbols }).is_some() {
                return Err(format!("schema: {action} is about several kinds of subjects"));
            }
        }
        match Action::ALL.into_iter().find(|action| !by_action.contains_key(action)) {
            Some(missing) => Err(format!("schema: there is no request of {missing}")),
            None => Ok(Self { schema, by_action }),
        }
    }

    /// What the policies permit of the action, as a formula.
    pub(crate) fn compile(&self, action: Action, policies: &PolicySet) -> Result<CompiledPolicySet, String> {
        let environment = self.by_action.get(&action).ok_or_else(|| format!("no request of {action}"))?;
        let ActionEnvironment { kinds, symbols } = environment;
        CompiledPolicySet::compile_with_custom_symenv(policies, kinds, &self.schema, symbols.clone()).map_err(
            |error| match error {
                Error::PolicyNotWellTyped { errs } => {
                    errs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                }
                error => error.to_string(),
            },
        )
    }
}
