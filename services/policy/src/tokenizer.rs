//! Splits Cedar text into tokens, to find zones outside strings and comments and to bound what is parsed.

use std::ops::Range;

/// One token and its byte range. White space and comments are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CedarToken<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
    pub(crate) range: Range<usize>,
}

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Letters, digits, underscores.
    Word,
    /// A string literal with its quotes; an unterminated one extends to the end of the text.
    Text,
    /// `::`
    Path,
    /// Any other single character.
    Mark,
}

/// The tokens of `source`, in order. Never fails: malformed text is left for Cedar to refuse.
pub(crate) fn tokens(source: &str) -> impl Iterator<Item = CedarToken<'_>> {
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
                // Cedar ends a comment at either character.
                at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                continue;
            }
            let (kind, length) = if first == '"' {
                (TokenKind::Text, text_length(rest))
            } else if rest.starts_with("::") {
                (TokenKind::Path, 2)
            } else if is_word(first) {
                (TokenKind::Word, rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
            } else {
                (TokenKind::Mark, first.len_utf8())
            };
            let range = at..at + length;
            at = range.end;
            return Some(CedarToken { kind, text: source.get(range.clone())?, range });
        }
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Length in bytes of the string literal at the start of `rest`, quotes included.
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
    fn strings_are_one_token_and_comments_are_skipped() {
        let source = "a::\"x\\\" y // z\" // b \"c\n<= \"open";
        let found: Vec<_> = tokens(source).map(|t| (t.kind, t.text)).collect();
        assert_eq!(
            found,
            [
                (TokenKind::Word, "a"),
                (TokenKind::Path, "::"),
                (TokenKind::Text, "\"x\\\" y // z\""),
                (TokenKind::Mark, "<"),
                (TokenKind::Mark, "="),
                (TokenKind::Text, "\"open"),
            ]
        );
    }
}
