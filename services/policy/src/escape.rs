//! Untrusted names in sentences.

/// An untrusted name for use in a sentence: escaped, and cut to 128 characters.
pub(crate) fn escaped(name: &str) -> String {
    const MAX_CHARS: usize = 128;
    let mut escaped: String = name.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        escaped.push('…');
    }
    escaped
}
