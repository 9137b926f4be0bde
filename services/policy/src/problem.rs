//! What is wrong with the texts that a gate is loaded from.

/// One fault: where, in which rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The text: `floor`, an institution (`ku.dk`), `zones`, `nodes` or `schema`.
    pub place: String,
    /// The rule's `@id`, where the fault is in a rule that has one.
    pub rule: Option<String>,
    /// The line of the text, from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub what: String,
}

impl Problem {
    pub(crate) fn at(place: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), rule: None, line: None, what: what.into() }
    }

    /// Of a text in TOML.
    pub(crate) fn of_toml(place: &str, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_at(text, span.start));
        Self { line, ..Self::at(place, error.message().trim().replace('\n', "; ")) }
    }

    pub(crate) fn of_rule(place: &str, rule: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), rule: Some(rule.to_owned()), line: None, what: what.into() }
    }

    /// What is wrong, without its place.
    #[must_use]
    pub fn fault(&self) -> String {
        match &self.rule {
            Some(rule) => format!("rule {rule}: {}", self.what),
            None => self.what.clone(),
        }
    }
}

/// The line, from 1, of a byte.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset.min(text.len())).unwrap_or_default().matches('\n').count() + 1
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} line {line}: {}", self.place, self.fault()),
            None => write!(f, "{}: {}", self.place, self.fault()),
        }
    }
}

/// The texts were refused; nothing of them is used. Holds every problem found, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy refused: {}", list(.problems))]
pub struct LoadError {
    /// What was found, in the order of the texts.
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
