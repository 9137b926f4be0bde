//! Problems in the documents that an engine is loaded from.

/// One problem: where it is, in which rule, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The document: `bundle of ku.dk`, `floor of nordunet`, `directory of nordunet`; or `schema`.
    pub place: String,
    /// The rule's `@id`, or `number N` for a rule without one; none when no rule is at fault.
    pub rule: Option<String>,
    /// The line of the document's policy text, from 1, if it is known.
    pub line: Option<usize>,
    /// What is wrong and how to fix it.
    pub what: String,
}

impl Problem {
    pub(crate) fn at(place: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), rule: None, line: None, what: what.into() }
    }

    pub(crate) fn of_rule(place: &str, rule: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), rule: Some(rule.to_owned()), line: None, what: what.into() }
    }

    /// The rule and what is wrong, without document and line.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.rule {
            Some(rule) => format!("rule {rule}: {}", self.what),
            None => self.what.clone(),
        }
    }
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset.min(text.len())).unwrap_or_default().matches('\n').count() + 1
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line} of its policy: {}", self.place, self.message()),
            None => write!(f, "{}: {}", self.place, self.message()),
        }
    }
}

/// The documents were refused as a whole. Lists every problem found, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy refused: {}", list(.problems))]
pub struct LoadError {
    /// The problems, in the order of the documents.
    pub problems: Vec<Problem>,
}

impl From<Vec<Problem>> for LoadError {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
