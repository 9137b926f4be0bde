//! Why nothing was proved.

use systir_policy::Action;

/// Why nothing was proved or refuted.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// There is no solver.
    #[error(
        "the solver {0} cannot be run: install cvc5 (on Debian: apt-get install cvc5), or set CVC5 to its path"
    )]
    SolverMissing(String),
    /// The solver is too old, or another program.
    #[error("the solver {command} is {found}: cvc5 1.0.3 or newer is needed")]
    SolverVersion {
        /// How it was called.
        command: String,
        /// What it says that it is.
        found: String,
    },
    /// The solver failed, or gave no answer in time.
    #[error("the solver gave no answer about {action} ({what}): nothing is proved")]
    NoAnswer {
        /// The action that was asked about.
        action: Action,
        /// What happened.
        what: String,
    },
    /// The solver's answers cannot be trusted.
    #[error(
        "the solver said of a property that is known to be {known} for {action} that it is {}: its answers are wrong, and \
         nothing is proved",
        !.known
    )]
    Canary {
        /// The action of the property.
        action: Action,
        /// Is the property true?
        known: bool,
    },
    /// The solver's example is none.
    #[error(
        "the solver's example about {0} is none by Cedar's own evaluation: its answers are wrong, and nothing is proved"
    )]
    WrongExample(Action),
    /// The rules cannot be translated.
    #[error("{policy} cannot be translated for the solver: {what}")]
    Untranslatable {
        /// The policy.
        policy: String,
        /// What Cedar says.
        what: String,
    },
    /// There is no guarantee.
    #[error("{0} states no guarantee, so there is nothing to prove: add [[guarantee]] to it")]
    NoGuarantee(String),
}
