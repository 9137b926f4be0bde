//! Names compared without regard to case and compatibility variants: "Exam-1", "ｅｘａｍ-1" and "exam-1" are equal.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// `name` in its case-folded NFKC form. Each decision on a room asks for it, and nearly all names are ASCII, which need no
/// tables.
pub(crate) fn caseless(name: &str) -> String {
    if name.is_ascii() { name.to_ascii_lowercase() } else { full_caseless(name) }
}

/// As Unicode's NFKC_Casefold (UAX #31, UAX #44): canonically decomposed, folded and normalised twice, because either step
/// can undo the other, without characters that are not displayed.
fn full_caseless(name: &str) -> String {
    let (fold, ignorable) = (CaseMapper::new(), CodePointSetData::new::<DefaultIgnorableCodePoint>());
    let displayed: String = name.chars().filter(|c| !ignorable.contains(*c)).collect();
    let mut text = DecomposingNormalizer::new_nfd().normalize(&displayed).into_owned();
    for _ in 0..2 {
        let folded = fold.fold_string(&text);
        text = ComposingNormalizer::new_nfkc().normalize(&folded).into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_width_ligatures_and_invisible_characters_make_no_difference() {
        for (name, expected) in [
            ("Exam-1", "exam-1"),
            ("\u{ff25}\u{ff38}\u{ff21}\u{ff2d}-1", "exam-1"),
            ("ex\u{200b}am\u{ad}-1", "exam-1"),
            ("STRASSE", "strasse"),
            ("stra\u{df}e", "strasse"),
            ("o\u{fb03}ce", "office"),
            ("A\u{30a}rhus", "\u{e5}rhus"),
            ("\u{212b}rhus", "\u{e5}rhus"),
            (
                "\u{39f}\u{394}\u{3a5}\u{3a3}\u{3a3}\u{395}\u{3a5}\u{3c2}",
                "\u{3bf}\u{3b4}\u{3c5}\u{3c3}\u{3c3}\u{3b5}\u{3c5}\u{3c3}",
            ),
            // Folding alone would leave a combining iota.
            ("\u{1fb3}", "\u{3b1}\u{3b9}"),
            ("", ""),
        ] {
            assert_eq!(caseless(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn ascii_names_need_no_tables(name in "[\\x00-\\x7f]{0,40}") {
            prop_assert_eq!(caseless(&name), full_caseless(&name));
        }

        #[test]
        fn the_form_of_a_form_is_the_form(name in any::<String>()) {
            let once = caseless(&name);
            prop_assert_eq!(caseless(&once), once);
        }

        #[test]
        fn case_makes_no_difference(name in "\\PC{0,20}") {
            prop_assert_eq!(caseless(&name.to_uppercase()), caseless(&caseless(&name).to_uppercase()));
        }
    }
}
