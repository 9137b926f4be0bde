//! Cedar's tokens, as far as needed to find a zone outside strings and comments and to bound what the parser is fed.

use std::ops::Range;

/// One token and where it stands (bytes). Space and comments are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) range: Range<usize>,
}

/// What sort of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Letters, digits, underscores.
    Word,
    /// A string literal with its quotes; an unterminated one runs to the end.
    Text,
    /// `::`
    Path,
    /// Any other single character.
    Mark,
}

/// The tokens of `source`, in order. Never fails: what Cedar would refuse is left for Cedar to refuse.
pub(crate) fn tokens(source: &str) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = source.get(at..)?;
            let first = rest.chars().next()?;
            if first.is_whitespace() {
                at += first.len_utf8();
                continue;
            }
            if rest.starts_with("//") {
                // Cedar ends a comment at either.
                at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                continue;
            }
            let (kind, length) = if first == '"' {
                (Kind::Text, text_length(rest))
            } else if rest.starts_with("::") {
                (Kind::Path, 2)
            } else if is_word(first) {
                (Kind::Word, rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
            } else {
                (Kind::Mark, first.len_utf8())
            };
            let range = at..at + length;
            at = range.end;
            return Some(Token { kind, text: source.get(range.clone())?, range });
        }
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Bytes of the string literal that `rest` starts with, quotes included.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_hide_what_is_in_them() {
        let source = "a::\"x\\\" y // z\" // b \"c\n<= \"open";
        let found: Vec<_> = tokens(source).map(|t| (t.kind, t.text)).collect();
        assert_eq!(
            found,
            [
                (Kind::Word, "a"),
                (Kind::Path, "::"),
                (Kind::Text, "\"x\\\" y // z\""),
                (Kind::Mark, "<"),
                (Kind::Mark, "="),
                (Kind::Text, "\"open"),
            ]
        );
    }
}
