//! Why a text is no document.

/// What is wrong with a document's text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// The line of the text, from 1; `None` if it is about the whole text.
    pub line: Option<usize>,
    /// What is wrong, and what to write.
    pub problem: String,
    /// Is it a document of a format that this release does not read?
    pub unsupported: bool,
}

impl DocumentError {
    pub(crate) fn new(line: Option<usize>, problem: impl Into<String>) -> Self {
        Self { line, problem: problem.into(), unsupported: false }
    }
}

impl std::fmt::Display for DocumentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for DocumentError {}
