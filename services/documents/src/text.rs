//! Reads and writes the TOML of a document's text.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::value::Datetime;
use toml::{Spanned, de::Error};

use crate::characters::is_deceptive;
use crate::error::DocumentError;
use crate::lifetime::{Lifetime, rfc3339, seconds};

/// Longest line of a written list, characters.
const MAX_LINE: usize = 100;

/// The TOML after the first line of a document.
#[derive(Clone, Copy)]
pub(crate) struct TomlText<'a>(pub(crate) &'a str);

impl TomlText<'_> {
    /// Reads the TOML.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, DocumentError> {
        toml::from_str(self.0).map_err(|error: Error| {
            // Without a place of its own, such an error is about the whole text.
            let line = error.span().filter(|span| span.end > 0).map(|span| self.line(span.start));
            DocumentError::new(line, error.message().trim().replace('\n', "; "))
        })
    }

    /// An error at this value.
    pub(crate) fn wrong<T>(self, at: &Spanned<T>, problem: impl Into<String>) -> DocumentError {
        DocumentError::new(Some(self.line(at.span().start)), problem)
    }

    /// The value, if `check` accepts it.
    pub(crate) fn checked(
        self,
        value: Spanned<String>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, DocumentError> {
        match check(value.get_ref()) {
            Ok(()) => Ok(value.into_inner()),
            Err(problem) => Err(self.wrong(&value, problem)),
        }
    }

    /// The values as a set or list, if `check` accepts each.
    pub(crate) fn each_checked<C: FromIterator<String>>(
        self,
        values: Vec<Spanned<String>>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<C, DocumentError> {
        values.into_iter().map(|value| self.checked(value, &check)).collect()
    }

    /// A version: from 1.
    pub(crate) fn version(self, version: &Spanned<u64>) -> Result<u64, DocumentError> {
        match *version.get_ref() {
            0 => Err(self.wrong(version, "the first version is 1")),
            version => Ok(version),
        }
    }

    /// The dates.
    pub(crate) fn lifetime(self, dates: &DatesText) -> Result<Lifetime, DocumentError> {
        let at =
            |date: &Spanned<Datetime>| seconds(date.get_ref()).map_err(|problem| self.wrong(date, problem));
        let lifetime = Lifetime {
            issued: at(&dates.issued)?,
            renew_by: at(&dates.renew_by)?,
            not_after: at(&dates.not_after)?,
        };
        if lifetime.issued > lifetime.renew_by {
            return Err(self.wrong(&dates.renew_by, "renew_by is before issued"));
        }
        if lifetime.renew_by > lifetime.not_after {
            return Err(self.wrong(&dates.not_after, "not_after is before renew_by"));
        }
        Ok(lifetime)
    }

    /// The line at which the Cedar text begins.
    pub(crate) fn policy_line(self) -> Option<usize> {
        #[derive(Deserialize)]
        struct WithPolicy {
            policy: PolicyTable,
        }
        let WithPolicy { policy } = toml::from_str(self.0).ok()?;
        let span = policy.cedar.span();
        // A newline after the opening quotes does not belong to the text.
        let quoted = self.0.get(span.clone())?;
        let begins_below = quoted.starts_with("'''\n") || quoted.starts_with("\"\"\"\n");
        Some(self.line(span.start) + usize::from(begins_below))
    }

    // The line in the whole document, whose first line is not TOML.
    fn line(self, offset: usize) -> usize {
        self.0.get(..offset.min(self.0.len())).unwrap_or_default().matches('\n').count() + 2
    }
}

/// The three dates of a document.
pub(crate) struct DatesText {
    pub(crate) issued: Spanned<Datetime>,
    pub(crate) renew_by: Spanned<Datetime>,
    pub(crate) not_after: Spanned<Datetime>,
}

/// The policy of a bundle or floor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyTable {
    pub(crate) cedar: Spanned<String>,
}

/// `version` and the dates, as lines.
pub(crate) fn write_head(out: &mut String, version: u64, lifetime: &Lifetime) {
    out.push_str(&format!("version = {version}\n"));
    let Lifetime { issued, renew_by, not_after } = lifetime;
    for (key, date) in [("issued", issued), ("renew_by", renew_by), ("not_after", not_after)] {
        out.push_str(&format!("{key} = {}\n", rfc3339(*date)));
    }
}

/// The table `[policy]`.
pub(crate) fn write_policy(out: &mut String, cedar: &str) {
    out.push_str(&format!("\n[policy]\ncedar = {}\n", block(cedar)));
}

/// A key: bare, or in quotes if it must be.
pub(crate) fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if is_bare { name.to_owned() } else { quoted(name) }
}

/// A string on one line.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text, true))
}

/// A string of several lines: as it is, if TOML has a form for that.
pub(crate) fn block(text: &str) -> String {
    let as_it_is = !text.contains("'''") && !text.ends_with('\'') && !text.contains(is_deceptive);
    if as_it_is { format!("'''\n{text}'''") } else { format!("\"\"\"\n{}\"\"\"", escaped(text, false)) }
}

/// A string as it is written, if it fits on one line.
pub(crate) fn literal(text: &str) -> String {
    let as_it_is = !text.contains(['\'', '\n']) && !text.contains(is_deceptive);
    if as_it_is { format!("'{text}'") } else { block(text) }
}

/// A list of strings, on several lines if it is long.
pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    let one_line = format!("[{}]", items.join(", "));
    if one_line.chars().count() <= MAX_LINE {
        return one_line;
    }
    let (mut out, mut line) = (String::from("[\n"), String::new());
    for item in items {
        if !line.is_empty() && line.chars().count() + item.chars().count() > MAX_LINE {
            out.push_str(&format!("   {line}\n"));
            line.clear();
        }
        line.push_str(&format!(" {item},"));
    }
    out.push_str(&format!("   {line}\n]"));
    out
}

fn escaped(text: &str, newlines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' if newlines => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_deceptive(c) => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> toml::Value {
        let table: toml::Table = toml::from_str(&format!("a = {value}\n")).unwrap();
        table["a"].clone()
    }

    #[test]
    fn a_policy_is_written_as_it_is() {
        assert_eq!(block("permit;\n"), "'''\npermit;\n'''");
        assert_eq!(block("a\tb"), "\"\"\"\na\\tb\"\"\"");
        assert_eq!(block("'''"), "\"\"\"\n'''\"\"\"");
    }

    #[test]
    fn a_long_list_is_written_on_several_lines() {
        let items: Vec<String> = (0..40).map(|n| format!("host-{n}")).collect();
        let text = list(items.iter().map(String::as_str));
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.len() <= 110), "{text}");
        assert_eq!(read(&text).as_array().unwrap().len(), 40);
        assert_eq!(list(["a", "b"]), "[\"a\", \"b\"]");
        assert_eq!(list([]), "[]");
    }

    proptest! {
        #[test]
        fn any_string_is_read_as_it_was_written(text in "(?s).{0,60}", mixed in "[ab'\"\\\\\n\t\r\u{202e}]{0,12}") {
            for text in [&text, &mixed] {
                for written in [quoted(text), block(text), literal(text)] {
                    prop_assert!(!written.contains(is_deceptive));
                    let read = read(&written);
                    prop_assert_eq!(read.as_str(), Some(text.as_str()));
                }
            }
        }

        #[test]
        fn any_list_is_read_as_it_was_written(items in proptest::collection::vec("\\PC{0,40}", 0..12)) {
            let read = read(&list(items.iter().map(String::as_str)));
            let read: Vec<&str> = read.as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
            prop_assert_eq!(read, items);
        }
    }
}
