//! Characters that a signed text must not contain.

/// A character that can make a text look different from what it says: a control character other than a newline
/// (C2SP signed-note refuses those of ASCII), or an invisible one, such as a mark that changes the direction of text.
pub(crate) fn is_deceptive(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first deceptive character of a text and its line, from 1.
pub(crate) fn first_deceptive(text: &str) -> Option<(usize, char)> {
    text.split('\n')
        .zip(1..)
        .find_map(|(line, number)| line.chars().find(|c| is_deceptive(*c)).map(|found| (number, found)))
}

/// What is wrong with a text that has this character.
pub(crate) fn deceptive_problem(character: char) -> String {
    format!(
        "the character {} is not allowed in a signed text; replace tabs by spaces, and remove control characters and \
         invisible ones",
        character.escape_unicode()
    )
}

/// An untrusted name for use in a message: escaped, and cut to 128 characters.
pub(crate) fn escaped(name: &str) -> String {
    const MAX_CHARS: usize = 128;
    let mut escaped: String = name.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        escaped.push('…');
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_carriage_returns_and_marks_of_direction_are_found_with_their_line() {
        assert_eq!(first_deceptive("a\nb\n"), None);
        assert_eq!(first_deceptive("Ærø, Åland, 北京 — \u{1f600}\n"), None);
        for wrong in ['\t', '\r', '\0', '\u{7f}', '\u{85}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}'] {
            assert_eq!(first_deceptive(&format!("a\nb{wrong}\n")), Some((2, wrong)));
        }
    }

    #[test]
    fn an_untrusted_name_is_cut_and_escaped() {
        assert_eq!(escaped("a\n\"b\""), "a\\n\\\"b\\\"");
        assert_eq!(escaped(&"x".repeat(200)).chars().count(), 129);
    }
}
