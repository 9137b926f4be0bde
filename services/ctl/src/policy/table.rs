//! Compares decisions with a table of expected ones; see [`DecisionTable`].

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use systir_policy_proof::DecisionTable;

use crate::document_file::{FileProblems, at};
use crate::files;
use crate::policy::engine::EngineFiles;

/// Decides each case, and fails with every case that is decided otherwise. Dates of documents do not count.
pub(crate) fn run(path: &Path, json: bool) -> Result<()> {
    let text = files::read(path)?;
    let table =
        DecisionTable::parse(&text).map_err(|error| FileProblems(vec![at(path, error.line, &error.what)]))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let directories: Vec<PathBuf> = table.directories.iter().map(|file| folder.join(file)).collect();
    let floor = table.floor.as_ref().map(|file| folder.join(file));
    let files = EngineFiles::read(&folder.join(&table.bundle), floor.as_deref(), &directories)?;
    let engine = files.load_with(None, &table.own_directories())?;
    let problems = table.problems(&engine, &files.bundle()?.institution);
    let problems: Vec<String> = problems.iter().map(|(line, what)| at(path, Some(*line), what)).collect();
    let (total, failed) = (table.len(), problems.len());
    let mut out = std::io::stdout();
    if json {
        let fields = json!({"cases": total, "failed": failed, "problems": problems});
        writeln!(out, "{}", serde_json::to_string_pretty(&fields)?)?;
    } else {
        writeln!(out, "{total} cases, {failed} decided otherwise than expected")?;
    }
    if problems.is_empty() { Ok(()) } else { Err(FileProblems(problems).into()) }
}
