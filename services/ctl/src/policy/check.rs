//! Checks documents.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use systir_documents::Document;

use crate::dates;
use crate::document_file::{DocumentFile, FileProblems};
use crate::policy::engine::EngineFiles;

/// Checks each file, and bundles together with a floor.
pub(crate) fn run(files: &[PathBuf], floor: Option<&Path>, json: bool) -> Result<()> {
    let (mut problems, mut checked) = (Vec::new(), Vec::new());
    for path in files {
        match check(path, floor) {
            Ok(file) => checked.push(file),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    let mut out = std::io::stdout();
    if json {
        let good: Vec<_> = checked
            .iter()
            .map(|file| {
                json!({
                    "file": file.path.display().to_string(), "document": file.document.id().to_string(),
                    "version": file.document.version(), "hash": file.hash(), "validity": validity(file),
                    "signatures": signatures(file),
                })
            })
            .collect();
        let good = json!({ "checked": good, "problems": problems });
        writeln!(out, "{}", serde_json::to_string_pretty(&good)?)?;
    } else {
        for file in &checked {
            let signatures = match signatures(file) {
                0 => "not signed".to_owned(),
                count => format!("signatures: {count}, not verified here"),
            };
            writeln!(out, "{}: {}: {}, {signatures}", file.path.display(), file.title(), validity(file))?;
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(FileProblems(problems).into()) }
}

fn check(path: &Path, floor: Option<&Path>) -> Result<DocumentFile> {
    let file = DocumentFile::read(path)?;
    file.check()?;
    if let (Document::Bundle(_), Some(floor)) = (&file.document, floor) {
        EngineFiles::read(path, Some(floor), &[])?.load(None)?;
    }
    Ok(file)
}

fn validity(file: &DocumentFile) -> String {
    file.document.lifetime().validity(dates::now()).to_string()
}

fn signatures(file: &DocumentFile) -> usize {
    file.note.as_ref().map_or(0, |note| note.signatures().len())
}
