//! The sentence of a rule: text with placeholders in braces, `the machine is owned by {host}`.

use crate::action::Action;
use crate::node::{NodeAttribute, NodeFacts};

/// A parsed `@why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentence(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Node(NodeAttribute),
    Institution,
    ParticipantInstitution,
    Action,
}

/// The values for a sentence's placeholders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentenceValues<'a> {
    pub(crate) institution: &'a str,
    pub(crate) action: Action,
    pub(crate) node: Option<&'a NodeFacts>,
    pub(crate) participant: Option<&'a str>,
}

impl std::fmt::Display for Sentence {
    /// The sentence as it is written in the rule, with its placeholders.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Node(NodeAttribute::Id) => f.write_str("{node}")?,
                Piece::Node(attribute) => write!(f, "{{{}}}", attribute.as_str())?,
                Piece::Institution => f.write_str("{institution}")?,
                Piece::ParticipantInstitution => f.write_str("{participant_institution}")?,
                Piece::Action => f.write_str("{action}")?,
            }
        }
        Ok(())
    }
}

impl Sentence {
    /// Parses `text`. `on_node` and `by_participant` tell which kinds of request the rule can decide: it may use only
    /// placeholders that all of them have.
    pub(crate) fn parse(text: &str, on_node: bool, by_participant: bool) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("its @why is empty; write a sentence that states what the rule means".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, tail)) = after.split_once('}') else {
                return Err("its @why has a '{' without a '}'".to_owned());
            };
            pieces.push(Piece::Text(before.to_owned()));
            let (piece, known) = match name {
                "institution" => (Piece::Institution, true),
                "action" => (Piece::Action, true),
                "participant_institution" => (Piece::ParticipantInstitution, !on_node),
                "node" => (Piece::Node(NodeAttribute::Id), !by_participant),
                _ => match NodeAttribute::ALL.into_iter().find(|attribute| attribute.as_str() == name) {
                    Some(attribute) => (Piece::Node(attribute), !by_participant),
                    None => {
                        return Err(format!("its @why quotes {{{name}}}, which is not a known placeholder"));
                    }
                },
            };
            if !known {
                return Err(format!(
                    "its @why quotes {{{name}}}, which not every action of the rule has a value for"
                ));
            }
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The sentence with the values of one request.
    pub(crate) fn render(&self, values: &SentenceValues<'_>) -> String {
        let mut sentence = String::with_capacity(96);
        for piece in &self.0 {
            sentence.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Node(attribute) => values.node.map_or("", |facts| facts.get(*attribute)),
                Piece::Institution => values.institution,
                Piece::ParticipantInstitution => values.participant.unwrap_or_default(),
                Piece::Action => values.action.as_str(),
            });
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_shown_as_it_is_written() {
        for text in [
            "{node} is in {country}",
            "{institution}: {action} by {operator}",
            "no placeholder",
            "{host}{site}",
        ] {
            assert_eq!(Sentence::parse(text, true, false).unwrap().to_string(), text);
        }
        let text = "{participant_institution} joins {institution}";
        assert_eq!(Sentence::parse(text, false, true).unwrap().to_string(), text);
    }
}
