//! Errors of the configuration with their place: file, line and column, or environment variable.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::variable;

/// A field and what is wrong with it. The field is named as in the configuration: `node.capacity`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The field; empty when the error is not about one field.
    pub field: String,
    /// What is wrong and what to do. Never contains the value of a secret.
    pub problem: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A field's error with its place; `systir-relay` prints it and exits with status 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// Line and column of the field, both from 1, if it is in the file.
    pub at: Option<(usize, usize)>,
    /// The environment variable that sets the field, if one does.
    pub variable: Option<String>,
    /// The field and what is wrong with it.
    pub error: FieldError,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, self.at) {
            (Some(variable), _) => write!(f, "{variable} (environment): ")?,
            (None, Some((line, column))) => write!(f, "{}:{line}:{column}: ", self.file.display())?,
            (None, None) => write!(f, "{}: ", self.file.display())?,
        }
        if !self.error.field.is_empty() {
            write!(f, "{}: ", self.error.field)?;
        }
        f.write_str(&self.error.problem)
    }
}

impl ConfigError {
    /// Finds the place of the field. Reads the file again, which is fine on the way to the exit.
    pub fn locate(file: &Path, error: FieldError) -> Self {
        let variable = variable(&error.field);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Self { file: file.to_owned(), at: place(&text, &error.field), variable, error }
    }

    pub(super) fn at(file: &Path, text: &str, offset: usize, error: FieldError) -> Self {
        Self { file: file.to_owned(), at: Some(position(text, offset)), variable: None, error }
    }
}

/// Line and column of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Line and column of a field, or of its section when the field is missing.
fn place(text: &str, field: &str) -> Option<(usize, usize)> {
    let table = DeTable::parse(text).ok()?;
    let offset = find(table.get_ref(), field)?;
    Some(position(text, offset))
}

// Keys may contain dots (`policy.institutions.ku.dk`), so each key is matched as a whole.
fn find(table: &DeTable<'_>, field: &str) -> Option<usize> {
    table.iter().find_map(|(key, value)| {
        let rest = field.strip_prefix(key.get_ref().as_ref())?;
        if rest.is_empty() {
            return Some(key.span().start);
        }
        let rest = rest.strip_prefix('.')?;
        Some(inner(value).and_then(|table| find(table, rest)).unwrap_or(key.span().start))
    })
}

fn inner<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Option<&'a DeTable<'i>> {
    value.get_ref().as_table()
}
