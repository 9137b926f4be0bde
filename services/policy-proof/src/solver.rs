//! The solver: cvc5, a program of its own.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use cedar_policy_symcc::solver::{Decision, DecisionWithModel, LocalSolver, Solver, SolverError};
use serde::Serialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::error::ProofError;

/// The oldest version whose answers were compared with those of newer ones.
const OLDEST: [u64; 3] = [1, 0, 3];
/// An answer takes milliseconds; a question that takes this long is not answered at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// Which solver answers, `cvc5 1.0.3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SolverVersion(String);

impl fmt::Display for SolverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A solver process that answers one question after the other, each in limited time. It ends with this value.
#[derive(Debug)]
pub(crate) struct LimitedSolver {
    process: LocalSolver,
    /// How many questions it was asked.
    pub(crate) asked: u64,
}

impl LimitedSolver {
    /// Starts the program that the environment variable CVC5 names, else `cvc5`.
    pub(crate) async fn start() -> Result<(Self, SolverVersion), ProofError> {
        let command = std::env::var("CVC5").unwrap_or_else(|_| "cvc5".to_owned());
        Self::start_command(&command).await
    }

    pub(crate) async fn start_command(command: &str) -> Result<(Self, SolverVersion), ProofError> {
        let version = version(command).await?;
        let missing = |_| ProofError::SolverMissing(command.to_owned());
        let mut solver = Command::new(command);
        solver.args(["--lang", "smt"]).kill_on_drop(true);
        let process = LocalSolver::from_command(&mut solver).map_err(missing)?;
        Ok((Self { process, asked: 0 }, version))
    }
}

async fn version(command: &str) -> Result<SolverVersion, ProofError> {
    let missing = || ProofError::SolverMissing(command.to_owned());
    let run = Command::new(command).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(VERSION_LIMIT, run).await.map_err(|_| missing())?.map_err(|_| missing())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default().trim();
    let wrong = || ProofError::SolverVersion { command: command.to_owned(), found: format!("{first:?}") };
    // "This is cvc5 version 1.0.3", and after it what it was compiled from.
    let stated = first.strip_prefix("This is cvc5 version ").ok_or_else(wrong)?;
    let number = stated.split([' ', '-']).next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let found: [u64; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    if found < OLDEST {
        return Err(wrong());
    }
    Ok(SolverVersion(format!("cvc5 {number}")))
}

fn too_late() -> SolverError {
    SolverError::Solver(format!("it had {} s", ANSWER_LIMIT.as_secs()))
}

impl Solver for LimitedSolver {
    fn smtlib_input(&mut self) -> &mut (dyn tokio::io::AsyncWrite + Unpin + Send) {
        self.process.smtlib_input()
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        self.process.enable_models().await
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        self.asked += 1;
        timeout(ANSWER_LIMIT, self.process.check_sat()).await.map_err(|_| too_late())?
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        self.asked += 1;
        timeout(ANSWER_LIMIT, self.process.check_sat_with_model()).await.map_err(|_| too_late())?
    }
}
