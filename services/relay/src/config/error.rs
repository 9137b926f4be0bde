//! What is wrong with a configuration, and where: the file, line and column, or the variable.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::variable;

/// A field and what is wrong with it. The field is as an operator writes it: `node.capacity`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Fault {
    /// Which field.
    pub field: String,
    /// What is wrong and what to do. Never a secret's value.
    pub problem: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A fault with its place; `systir-relay` prints it and exits with 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column in it, both from 1, where one is to blame.
    pub at: Option<(usize, usize)>,
    /// The environment variable to blame, if it is one.
    pub variable: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, self.at) {
            (Some(variable), _) => write!(f, "{variable} (environment): ")?,
            (None, Some((line, column))) => write!(f, "{}:{line}:{column}: ", self.file.display())?,
            (None, None) => write!(f, "{}: ", self.file.display())?,
        }
        if !self.fault.field.is_empty() {
            write!(f, "{}: ", self.fault.field)?;
        }
        f.write_str(&self.fault.problem)
    }
}

impl ConfigError {
    /// Looks up where the field stands. The file is read again for that: this is the way to the exit.
    pub fn locate(file: &Path, fault: Fault) -> Self {
        let variable = variable(&fault.field);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Self { file: file.to_owned(), at: place(&text, &fault.field), variable, fault }
    }

    pub(super) fn at(file: &Path, text: &str, offset: usize, fault: Fault) -> Self {
        Self { file: file.to_owned(), at: Some(position(text, offset)), variable: None, fault }
    }
}

/// Line and column of a byte.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Where a field stands; its section, when the field itself is missing.
fn place(text: &str, field: &str) -> Option<(usize, usize)> {
    let table = DeTable::parse(text).ok()?;
    let offset = find(table.get_ref(), field)?;
    Some(position(text, offset))
}

// Names may hold dots themselves (`policy.institutions.ku.dk`), so keys are matched whole.
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

/// The line, from 1, of the `id` of an entry of a list of tables (`[[node]]`).
pub(crate) fn line_of_entry(text: &str, list: &str, id: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let entries = table.get_ref().get(list)?.get_ref().as_array()?;
    let ids = entries.iter().filter_map(|entry| inner(entry)?.get("id"));
    let found = ids.into_iter().find(|value| value.get_ref().as_str() == Some(id))?;
    Some(position(text, found.span().start).0)
}

fn inner<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Option<&'a DeTable<'i>> {
    value.get_ref().as_table()
}
