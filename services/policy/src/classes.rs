//! Room classes: which rooms are confidential or require end-to-end encryption, by patterns of their names.

use systir_documents::RoomClassRule;

use crate::caseless::caseless;
use crate::problem::Problem;
use crate::request::{RoomAttributes, RoomClass};

/// Longest room name that patterns are matched against, bytes; tokens allow 256. A longer one has the strictest class.
const MAX_NAME_BYTES: usize = 1024;

/// The patterns of one bundle.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomClasses(Vec<NamePattern>);

/// A pattern: its texts between wildcards, in the form that [`caseless`] gives.
#[derive(Clone, Debug)]
struct NamePattern {
    texts: Vec<String>,
    attributes: RoomAttributes,
}

impl RoomClasses {
    /// The patterns of a bundle. `place` names it in problems.
    pub(crate) fn new(place: &str, rules: &[RoomClassRule]) -> Result<Self, Vec<Problem>> {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        for rule in rules {
            match NamePattern::new(rule) {
                Ok(pattern) => patterns.push(pattern),
                Err(what) => problems.push(Problem::at(
                    place,
                    format!("the room class for the pattern {:?} {what}", rule.pattern),
                )),
            }
        }
        if problems.is_empty() { Ok(Self(patterns)) } else { Err(problems) }
    }

    /// What the patterns say of the room with this name. Of several that match, the strictest value counts.
    pub(crate) fn of(&self, name: &str) -> RoomAttributes {
        if name.len() > MAX_NAME_BYTES {
            return RoomAttributes { class: RoomClass::Confidential, e2ee: true };
        }
        if self.0.is_empty() {
            return RoomAttributes::default();
        }
        let name = caseless(name);
        let matching = self.0.iter().filter(|pattern| pattern.matches(&name));
        matching.fold(RoomAttributes::default(), |known, pattern| known.stricter(pattern.attributes))
    }
}

impl NamePattern {
    fn new(rule: &RoomClassRule) -> Result<Self, String> {
        let class = RoomClass::named(&rule.class).ok_or_else(|| {
            format!("names the class {:?}; the classes are standard and confidential", rule.class)
        })?;
        let texts: Vec<String> = rule.pattern.split('*').map(caseless).collect();
        if texts.iter().any(|text| text.contains('*')) {
            return Err("has a variant of '*', which is no wildcard: write '*'".to_owned());
        }
        if rule.pattern.is_empty() || (texts.len() == 1 && texts.iter().all(String::is_empty)) {
            return Err("is empty; write \"*\" for all rooms".to_owned());
        }
        Ok(Self { texts, attributes: RoomAttributes { class, e2ee: rule.e2ee } })
    }

    /// Does a name in the form of [`caseless`] match as a whole? Each text between wildcards is searched once, from left
    /// to right, so the time is that of a few searches.
    fn matches(&self, name: &str) -> bool {
        let [first, between @ .., last] = self.texts.as_slice() else {
            return self.texts.first().is_some_and(|text| text == name);
        };
        let Some(mut rest) = name.strip_prefix(first.as_str()) else { return false };
        for text in between {
            match rest.split_once(text.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, class: &str, e2ee: bool) -> RoomClassRule {
        RoomClassRule { pattern: pattern.to_owned(), class: class.to_owned(), e2ee }
    }

    fn classes(rules: &[RoomClassRule]) -> RoomClasses {
        RoomClasses::new("bundle of ku.dk", rules).unwrap()
    }

    #[test]
    fn a_star_matches_any_text_and_nothing_else_is_a_wildcard() {
        for (pattern, matching, others) in [
            ("exam-*", &["exam-1", "EXAM-", "\u{ff25}xam-*x"][..], &["exam", "my exam-1"][..]),
            ("*", &["", "x"], &[]),
            ("a*b*c", &["abc", "a-b-b-c", "abcbc"], &["ab", "acb", "abcd"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("board", &["Board"], &["boards", "aboard"]),
            ("exam-?", &["exam-?"], &["exam-1"]),
            ("stra\u{df}e*", &["STRASSE 1"], &["strase"]),
        ] {
            let classes = classes(&[rule(pattern, "confidential", false)]);
            for (names, expected) in [(matching, RoomClass::Confidential), (others, RoomClass::Standard)] {
                for name in names {
                    assert_eq!(classes.of(name).class, expected, "{pattern} {name}");
                }
            }
        }
    }

    #[test]
    fn of_several_matching_patterns_the_strictest_values_count() {
        let classes = classes(&[
            rule("exam-*", "confidential", false),
            rule("*-open", "standard", false),
            rule("*e2ee*", "standard", true),
        ]);
        let of = |name| {
            let RoomAttributes { class, e2ee } = classes.of(name);
            (class, e2ee)
        };
        assert_eq!(of("exam-open"), (RoomClass::Confidential, false));
        assert_eq!(of("exam-e2ee"), (RoomClass::Confidential, true));
        assert_eq!(of("e2ee-open"), (RoomClass::Standard, true));
        assert_eq!(of("lecture"), (RoomClass::Standard, false));
        assert_eq!(of(&"x".repeat(2000)), (RoomClass::Confidential, true), "too long for any token");
    }

    #[test]
    fn a_wrong_pattern_or_class_is_refused() {
        for (wrong, expected) in [
            (rule("x", "secret", false), "the classes are standard and confidential"),
            (rule("", "standard", false), "is empty"),
            (rule("\u{200b}", "standard", false), "is empty"),
            (rule("exam\u{ff0a}", "standard", false), "a variant of '*'"),
        ] {
            let problems = RoomClasses::new("bundle of ku.dk", &[wrong]).unwrap_err();
            let text = problems.first().unwrap().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
