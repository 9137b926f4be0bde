//! A refusal with its reason: one type from the seat book to the HTTP answer. Between nodes the sentence
//! is for operators; placement writes the one for participants.

use std::fmt;

use crate::Reason;

/// A refusal with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason code, for programs.
    pub reason: Reason,
    /// What happened and what to do, in a sentence.
    pub sentence: String,
    /// Ids of the policy rules that decided; empty when policy did not decide.
    pub rules: Vec<String>,
}

impl Refusal {
    /// A refusal that no policy rule decided.
    #[must_use]
    pub fn new(reason: Reason, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into(), rules: Vec::new() }
    }

    /// The same refusal, decided by these policy rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Vec<String>) -> Self {
        self.rules = rules;
        self
    }
}

/// The sentence, then the code and the deciding rules in brackets.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}", self.sentence, self.reason)?;
        if !self.rules.is_empty() {
            write!(f, ": {}", self.rules.join(", "))?;
        }
        f.write_str("]")
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_displays_its_sentence_code_and_rules() {
        let refusal = Refusal::new(Reason::Forbidden, "the machine is leased");
        assert_eq!(refusal.to_string(), "the machine is leased [forbidden]");
        let refusal = refusal.with_rules(vec!["own-machines".to_owned(), "eea".to_owned()]);
        assert_eq!(refusal.to_string(), "the machine is leased [forbidden: own-machines, eea]");
    }
}
