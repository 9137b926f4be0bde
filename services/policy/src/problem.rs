//! What is wrong with the texts that a gate is loaded from.

/// One fault: where, in which rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The text: `floor`, an institution (`ku.dk`), `zones`, `nodes` or `schema`.
    pub place: String,
    /// The rule's `@id`, where the fault is in a rule that has one.
    pub rule: Option<String>,
    /// What is wrong and what to do.
    pub what: String,
}

impl Problem {
    pub(crate) fn at(place: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), rule: None, what: what.into() }
    }

    pub(crate) fn of_rule(place: &str, rule: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), rule: Some(rule.to_owned()), what: what.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "{}: rule {rule}: {}", self.place, self.what),
            None => write!(f, "{}: {}", self.place, self.what),
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
