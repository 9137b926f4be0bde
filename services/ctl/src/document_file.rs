//! A file with a signed or unsigned document.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use systir_documents::{Document, DocumentHash, Lifetime, Note, policy_line};
use systir_policy::{LoadError, PolicyEngine, Problem};
use systir_policy_profile::Profile;

use crate::files;

/// A document and the file that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct DocumentFile {
    pub(crate) path: PathBuf,
    /// The text without signatures.
    pub(crate) text: String,
    /// The signed note, if the file has signatures.
    pub(crate) note: Option<Note>,
    pub(crate) document: Document,
    /// Was it compiled from a profile? Then its lines are not those of the file.
    compiled: bool,
}

/// The dates of a document that no file states.
pub(crate) const ALWAYS: Lifetime = Lifetime { issued: 0, renew_by: NEVER_ENDS, not_after: NEVER_ENDS };
/// 9999-12-31T23:59:59Z, the last second that has a date.
const NEVER_ENDS: u64 = 253_402_300_799;

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
        Self::parse(path, &files::read(path)?)
    }

    /// A document that was read from `path`.
    pub(crate) fn parse(path: &Path, whole: &str) -> Result<Self> {
        let note = if has_signatures(whole) {
            Some(Note::parse(whole).with_context(|| path.display().to_string())?)
        } else {
            None
        };
        let text = note.as_ref().map_or(whole, Note::text).to_owned();
        let document = Document::parse(&text)
            .map_err(|error| FileProblems(vec![at(path, error.line, &error.problem)]))?;
        Ok(Self { path: path.to_owned(), text, note, document, compiled: false })
    }

    /// Reads a file with a document, or compiles a profile (`.toml`) to a bundle of version 1 without end.
    pub(crate) fn read_or_compile(path: &Path) -> Result<Self> {
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Self::read(path);
        }
        let profile = profile(path)?;
        let document = Document::Bundle(profile.bundle(1, ALWAYS));
        Ok(Self { path: path.to_owned(), text: document.to_text(), note: None, document, compiled: true })
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
        let line = problem.line.filter(|_| !self.compiled);
        let line = line.and_then(|line| begin.map(|begin| begin + line - 1));
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

/// The profile in a file.
pub(crate) fn profile(path: &Path) -> Result<Profile> {
    let text = files::read(path)?;
    Profile::parse(&text).map_err(|error| FileProblems(vec![at(path, error.line, &error.what)]).into())
}

// A text may contain empty lines: it is a note if a signature follows the last one.
fn has_signatures(text: &str) -> bool {
    text.rsplit_once("\n\n").is_some_and(|(_, last)| last.starts_with('\u{2014}'))
}
