//! A file with a signed or unsigned document.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use systir_documents::{Document, DocumentHash, Note, policy_line};
use systir_policy::{LoadError, PolicyEngine, Problem};

use crate::files;

/// A document and the file that it was read from.
#[derive(Debug)]
pub(crate) struct DocumentFile {
    pub(crate) path: PathBuf,
    /// The text without signatures.
    pub(crate) text: String,
    /// The signed note, if the file has signatures.
    pub(crate) note: Option<Note>,
    pub(crate) document: Document,
}

/// What is wrong with files, each as `FILE:LINE: what`.
#[derive(Debug)]
pub(crate) struct FileProblems(pub(crate) Vec<String>);

impl fmt::Display for FileProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for FileProblems {}

/// `FILE:LINE: what`.
pub(crate) fn at(path: &Path, line: Option<usize>, what: &str) -> String {
    match line {
        Some(line) => format!("{}:{line}: {what}", path.display()),
        None => format!("{}: {what}", path.display()),
    }
}

impl DocumentFile {
    /// Reads a file. The signatures of a note are not verified.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let whole = files::read(path)?;
        let note = if has_signatures(&whole) {
            Some(Note::parse(&whole).with_context(|| path.display().to_string())?)
        } else {
            None
        };
        let text = note.as_ref().map_or(whole.as_str(), Note::text).to_owned();
        let document = Document::parse(&text)
            .map_err(|error| FileProblems(vec![at(path, error.line, &error.problem)]))?;
        Ok(Self { path: path.to_owned(), text, note, document })
    }

    /// Checks what a node checks when it loads the document by itself.
    pub(crate) fn check(&self) -> Result<()> {
        PolicyEngine::check(&self.document).map_err(|error| self.problems(&error).into())
    }

    /// The problems of this document, with the lines of its file.
    pub(crate) fn problems(&self, error: &LoadError) -> FileProblems {
        FileProblems(error.problems.iter().map(|problem| self.problem(problem)).collect())
    }

    /// One problem, with the line of the file.
    pub(crate) fn problem(&self, problem: &Problem) -> String {
        let begin = policy_line(&self.text);
        let line = problem.line.and_then(|line| begin.map(|begin| begin + line - 1));
        at(&self.path, line, &problem.message())
    }

    /// SHA-256 of the text.
    pub(crate) fn hash(&self) -> DocumentHash {
        DocumentHash::of(&self.text)
    }

    /// `bundle of ku.dk, version 7`.
    pub(crate) fn title(&self) -> String {
        format!("{}, version {}", self.document.id(), self.document.version())
    }
}

// A text may contain empty lines: it is a note if a signature follows the last one.
fn has_signatures(text: &str) -> bool {
    text.rsplit_once("\n\n").is_some_and(|(_, last)| last.starts_with('\u{2014}'))
}
