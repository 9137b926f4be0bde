//! The text format of documents that nodes sign: lines `key value`, in a fixed order, after a first line that names the
//! type. Nodes make and check such documents at each join, so that they have no freedom of form and no TOML.

use crate::characters::escaped;
use crate::error::DocumentError;
use crate::format::{FirstLine, check_first_line};

/// Writes the lines of a document.
pub(crate) struct FieldWriter(String);

impl FieldWriter {
    /// A text whose first line names the type.
    pub(crate) fn new(first_line: &str) -> Self {
        Self(format!("{first_line}\n"))
    }

    /// Adds a line. The value must have no newline.
    pub(crate) fn field(&mut self, key: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!("{key} {value}\n"));
    }

    /// Adds a line with the values of a list; `-` when it is empty.
    pub(crate) fn list<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        let values: Vec<&str> = values.into_iter().collect();
        self.field(key, if values.is_empty() { "-".to_owned() } else { values.join(" ") });
    }

    /// The text.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// Reads the lines of a document, in order.
pub(crate) struct FieldReader<'a> {
    lines: std::str::SplitTerminator<'a, char>,
    line: usize,
}

impl<'a> FieldReader<'a> {
    /// Reads a text whose first line must be this one.
    pub(crate) fn new(text: &'a str, first_line: &str) -> Result<Self, DocumentError> {
        // Not `lines`, which accepts "\r\n" too: a document has one form only.
        let mut reader = Self { lines: text.split_terminator('\n'), line: 0 };
        let line = reader.next_line().unwrap_or_default();
        match check_first_line(line, first_line) {
            Ok(()) => Ok(reader),
            Err(FirstLine::Unsupported(unsupported)) => Err(unsupported),
            Err(FirstLine::Other) => {
                Err(reader.wrong(format!("the first line of this document is \"{first_line}\"")))
            }
        }
    }

    fn next_line(&mut self) -> Option<&'a str> {
        self.line += 1;
        self.lines.next()
    }

    /// An error at the line that was read last.
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> DocumentError {
        DocumentError::new(Some(self.line), problem)
    }

    /// The value of the next line, whose key must be this one.
    pub(crate) fn field(&mut self, key: &str) -> Result<&'a str, DocumentError> {
        let line = self.next_line().unwrap_or_default();
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
        let value = value.filter(|value| !value.is_empty() && value.trim() == *value);
        value.ok_or_else(|| {
            self.wrong(format!("\"{key}\" and its value must be here, not \"{}\"", escaped(line)))
        })
    }

    /// The value of the next line, if `check` accepts it.
    pub(crate) fn checked(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, DocumentError> {
        let value = self.field(key)?;
        check(value).map_err(|problem| self.wrong(problem))?;
        Ok(value.to_owned())
    }

    /// The number in the next line, in its shortest decimal form.
    pub(crate) fn number(&mut self, key: &str) -> Result<u64, DocumentError> {
        let value = self.field(key)?;
        let number = value.parse().ok().filter(|number: &u64| number.to_string() == value);
        number.ok_or_else(|| self.wrong(format!("\"{key}\" is not a number: \"{}\"", escaped(value))))
    }

    /// The list in the next line, ascending and without repetition, if `check` accepts each value.
    pub(crate) fn list<C: FromIterator<String>>(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<C, DocumentError> {
        let value = self.field(key)?;
        let values: Vec<&str> = if value == "-" { Vec::new() } else { value.split(' ').collect() };
        if !values.is_sorted_by(|a, b| a < b) {
            return Err(self.wrong(format!("the values of \"{key}\" are not ascending")));
        }
        let checked = values.into_iter().map(|value| check(value).map(|()| value.to_owned()));
        checked.collect::<Result<C, String>>().map_err(|problem| self.wrong(problem))
    }

    /// Nothing may follow.
    pub(crate) fn end(mut self) -> Result<(), DocumentError> {
        match self.next_line() {
            None => Ok(()),
            Some(line) => {
                Err(self.wrong(format!("nothing may follow the last field, but \"{}\" does", escaped(line))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::check_name;

    fn read(text: &str) -> Result<(String, u64, Vec<String>), DocumentError> {
        let mut fields = FieldReader::new(text, "systir.org/test/v1")?;
        let read =
            (fields.checked("name", check_name)?, fields.number("count")?, fields.list("nodes", check_name)?);
        fields.end()?;
        Ok(read)
    }

    #[test]
    fn a_line_that_ends_with_a_carriage_return_is_refused() {
        let text = "systir.org/test/v1\nname ku.dk\ncount 7\nnodes cph-1\n";
        assert!(read(text).is_ok());
        for line in ["v1", "ku.dk", "7", "cph-1"] {
            let other = text.replace(&format!("{line}\n"), &format!("{line}\r\n"));
            assert!(read(&other).is_err(), "{line}");
        }
    }

    #[test]
    fn fields_are_read_as_they_were_written() {
        for nodes in [vec![], vec!["cph-1"], vec!["cph-1", "sto-1"]] {
            let mut text = FieldWriter::new("systir.org/test/v1");
            text.field("name", "ku.dk");
            text.field("count", 7);
            text.list("nodes", nodes.iter().copied());
            let expected = ("ku.dk".to_owned(), 7, nodes.iter().map(|node| (*node).to_owned()).collect());
            assert_eq!(read(&text.finish()), Ok(expected));
        }
    }

    #[test]
    fn each_other_form_is_refused_at_its_line() {
        let refused = |text: &str| read(text).unwrap_err().line;
        let first = "systir.org/test/v1";
        assert_eq!(refused(""), Some(1));
        assert_eq!(refused("systir.org/test/v2\nname a\n"), Some(1));
        assert_eq!(refused(&format!("{first}\ncount 7\nname a\nnodes -\n")), Some(2), "another order");
        for name in ["name", "name ", "name  a", "name a ", "Name a", "name A"] {
            assert_eq!(refused(&format!("{first}\n{name}\ncount 7\nnodes -\n")), Some(2), "{name}");
        }
        for count in ["+7", "07", "-7", "7.0", "18446744073709551616", "x"] {
            assert_eq!(refused(&format!("{first}\nname a\ncount {count}\nnodes -\n")), Some(3), "{count}");
        }
        for nodes in ["b a", "a a", "a  b", "a B", "- a"] {
            assert_eq!(refused(&format!("{first}\nname a\ncount 7\nnodes {nodes}\n")), Some(4), "{nodes}");
        }
        assert_eq!(refused(&format!("{first}\nname a\ncount 7\nnodes -\n\n")), Some(5));
    }
}
