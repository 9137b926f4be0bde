//! Proves the guarantees of policies.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use systir_policy_proof::{Language, ProofReport, Prover};

use crate::policy::engine::model;
use crate::tables::printable_lines;

/// Most solvers that run at once.
const MAX_SOLVERS: usize = 8;

/// Arguments of `systirctl policy prove`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Bundles, floors (signed or not) or profiles (.toml); of a folder, each .note in it.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The floor of the operator on whose nodes the bundles are used: its rules count, and its guarantees are proved too.
    #[arg(long, value_name = "FILE")]
    floor: Option<PathBuf>,
}

/// Proves each guarantee of each policy. Fails if one is refuted, or if a solver cannot be trusted.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let started = Instant::now();
    let files = files(&arguments.paths)?;
    let reports = prove_all(&files, arguments.floor.as_deref())?;
    let text = if json {
        serde_json::to_string_pretty(&as_json(&files, &reports))?
    } else {
        as_text(&reports, started.elapsed())
    };
    writeln!(std::io::stdout(), "{text}")?;
    let all: usize = reports.iter().map(|report| report.guarantees.len()).sum();
    let refuted = reports.iter().flat_map(|report| &report.guarantees).filter(|one| !one.is_proved()).count();
    if refuted > 0 {
        bail!("{refuted} of {all} guarantees are refuted");
    }
    Ok(())
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries =
            std::fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut notes = Vec::new();
        for entry in entries {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "note") {
                notes.push(file);
            }
        }
        if notes.is_empty() {
            bail!("{} has no .note file", path.display());
        }
        notes.sort_unstable();
        files.extend(notes);
    }
    Ok(files)
}

/// The reports in the order of the files. Each thread has a solver of its own; the first error ends all.
fn prove_all(files: &[PathBuf], floor: Option<&Path>) -> Result<Vec<ProofReport>> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None::<anyhow::Error>));
    let fail = |error| {
        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        next.store(files.len(), Ordering::Relaxed);
    };
    let work = || -> Result<Vec<(usize, ProofReport)>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut prover = Prover::start().await?;
            let mut reports = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(at) else { return Ok(reports) };
                let report = prover.prove(&model(file, floor)?).await;
                reports.push((at, report.with_context(|| file.display().to_string())?));
            }
        })
    };
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SOLVERS).min(files.len());
    let mut reports = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| work().map_err(&fail).unwrap_or_default())).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    reports.sort_by_key(|(at, _)| *at);
    if reports.len() != files.len() {
        return Err(anyhow!("a thread of the prover ended early: nothing is proved"));
    }
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

fn as_json(files: &[PathBuf], reports: &[ProofReport]) -> Value {
    let report = |(file, report): (&PathBuf, &ProofReport)| {
        let guarantees: Vec<Value> = report
            .guarantees
            .iter()
            .map(|one| {
                let refuted: Vec<Value> = one
                    .refuted
                    .iter()
                    .map(|example| {
                        json!({
                            "action": example.action, "sentence": example.sentence(Language::English),
                            "request": example,
                        })
                    })
                    .collect();
                json!({
                    "id": one.id, "says": one.says, "proved": one.is_proved(), "actions": one.proved,
                    "refuted": refuted,
                })
            })
            .collect();
        json!({
            "file": file.display().to_string(), "policy": report.policy, "proved": report.is_proved(),
            "solver": report.solver, "questions": report.asked, "guarantees": guarantees,
        })
    };
    Value::Array(files.iter().zip(reports).map(report).collect())
}

fn as_text(reports: &[ProofReport], took: Duration) -> String {
    let mut out = String::new();
    for report in reports {
        out.push_str(&format!("{}\n", report.policy));
        for one in &report.guarantees {
            let word = if one.is_proved() { "proved" } else { "REFUTED" };
            out.push_str(&format!("  {word:8}{}: {}\n", one.id, one.says));
            for example in &one.refuted {
                out.push_str(&format!(
                    "          {}: {}\n",
                    example.action,
                    example.sentence(Language::English)
                ));
            }
        }
    }
    let questions: u64 = reports.iter().map(|report| report.asked).sum();
    let solver = reports.first().map(|report| report.solver.to_string()).unwrap_or_default();
    out.push_str(&format!("{solver}: {questions} questions, {:.2} s", took.as_secs_f64()));
    printable_lines(&out)
}
