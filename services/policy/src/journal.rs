//! What the node's journal is told.

use std::sync::Arc;

use systir_assignment::RoomId;
use systir_journal::{
    DecidedAbout, DecidedAt, Journal, JournalDocuments, JournalEntry, JournalOutcome, JournalRoom,
};
use systir_reason::{Reason, Refusal};

use crate::authority::Authority;
use crate::known_decisions::DecidingEngine;
use crate::{Action, Decision, RoomAttributes, Subject};

/// Digits of the hash in a line, as many as are displayed elsewhere.
const HASH_DIGITS: usize = 12;

/// One outcome, for the journal.
#[derive(Clone, Copy, Debug)]
pub struct DecidedAction<'a> {
    /// Where it was decided.
    pub at: DecidedAt,
    /// The action.
    pub action: Action,
    /// Who would do it.
    pub actor: Actor<'a>,
    /// The other node that asked; empty for none.
    pub asked_by: &'a str,
}

/// Who would do an action. A participant has no name here.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// The node with this id.
    Node(&'a str),
    /// A holder of a token of this institution.
    Institution(&'a str),
}

impl<'a> DecidedAction<'a> {
    /// An action of a node that no other node asked for.
    #[must_use]
    pub const fn of_node(at: DecidedAt, action: Action, node: &'a str) -> Self {
        Self { at, action, actor: Actor::Node(node), asked_by: "" }
    }

    /// An action of a holder of a token of this institution.
    #[must_use]
    pub const fn of_participant(at: DecidedAt, action: Action, institution: &'a str) -> Self {
        Self { at, action, actor: Actor::Institution(institution), asked_by: "" }
    }

    /// The same, asked for by another node.
    #[must_use]
    pub const fn asked_by(self, node: &'a str) -> Self {
        Self { asked_by: node, ..self }
    }
}

impl Authority {
    /// Tells outcomes to this journal from now on. It is set once.
    pub fn journal_to(&self, journal: Arc<dyn Journal>) {
        let _ = self.journal.set(journal);
    }

    /// Journals how an action ended for a room.
    pub fn journal<T>(&self, decided: &DecidedAction<'_>, room: &RoomId, result: &Result<T, Refusal>) {
        if let Some(journal) = self.journal.get() {
            journal.record(self.entry(decided, &room.institution, Some(room), result.as_ref().err()));
        }
    }

    /// Journals a denial that ended what stood in a room.
    pub fn journal_denial(&self, decided: &DecidedAction<'_>, room: &RoomId, denial: &Decision) {
        if self.journal.get().is_some() {
            self.journal(decided, room, &Err::<(), _>(denial.refusal()));
        }
    }

    /// Journals how an action ended for an institution, where no room is meant.
    pub fn journal_institution<T>(
        &self,
        decided: &DecidedAction<'_>,
        institution: &str,
        result: &Result<T, Refusal>,
    ) {
        if let Some(journal) = self.journal.get() {
            journal.record(self.entry(decided, institution, None, result.as_ref().err()));
        }
    }

    /// Journals an outcome that is more than an action: `add` completes its entry.
    pub fn journal_with<T>(
        &self,
        decided: &DecidedAction<'_>,
        room: &RoomId,
        result: &Result<T, Refusal>,
        add: impl FnOnce(&mut JournalEntry),
    ) {
        if let Some(journal) = self.journal.get() {
            let mut entry = self.entry(decided, &room.institution, Some(room), result.as_ref().err());
            add(&mut entry);
            journal.record(entry);
        }
    }

    /// Journals that a signed document, `bundle of ku.dk, version 7`, was taken, or why not.
    pub fn journal_document(&self, document: &str, refused: Option<&'static str>) {
        let Some(journal) = self.journal.get() else { return };
        let (outcome, reason) = match refused {
            None => (JournalOutcome::Allowed, Reason::Allowed.as_str()),
            Some(reason) => (JournalOutcome::Refused, reason),
        };
        let mut entry = JournalEntry::new(DecidedAt::Document, outcome, reason);
        entry.about = Some(DecidedAbout::Document(document.to_owned()));
        entry.documents.directories = self.engine.load().directories().clone();
        journal.record(entry);
    }

    fn entry(
        &self,
        decided: &DecidedAction<'_>,
        institution: &str,
        room: Option<&RoomId>,
        refused: Option<&Refusal>,
    ) -> JournalEntry {
        let engine = self.engine.load();
        let attributes = match room {
            Some(room) => self.rooms.attributes(&engine.engine, room, None),
            None => vec![RoomAttributes::default()],
        };
        let outcome = if refused.is_some() { JournalOutcome::Refused } else { JournalOutcome::Allowed };
        let reason = refused.map_or(Reason::Allowed, |refusal| refusal.reason);
        let mut entry = JournalEntry::new(decided.at, outcome, reason.as_str());
        entry.action = Some(decided.action.as_str().to_owned());
        entry.asked_by = Some(decided.asked_by).filter(|node| !node.is_empty()).map(str::to_owned);
        let subject = match decided.actor {
            Actor::Node(node) => {
                entry.about = Some(DecidedAbout::Node(node.to_owned()));
                Subject::Node(node)
            }
            Actor::Institution(from) => {
                entry.about = Some(DecidedAbout::Institution(from.to_owned()));
                Subject::Participant { institution: from }
            }
        };
        // Another node may name an institution as it likes.
        let Some(statement) = engine.engine.statement(institution) else {
            entry.about = entry.about.filter(|_| matches!(decided.actor, Actor::Node(_)));
            return entry;
        };
        entry.institution = Some(institution.to_owned());
        entry.room = room.map(|room| room.tag.clone());
        entry.rules = match refused {
            // A denial by default lists its reason in place of a rule.
            Some(refusal) => {
                refusal.rules.iter().filter(|rule| **rule != refusal.reason.as_str()).cloned().collect()
            }
            None => deciding_rules(&engine, decided.action, institution, &attributes, subject),
        };
        entry.room_is = attributes.iter().map(|room| journal_room(*room)).collect();
        entry.documents = JournalDocuments {
            bundle: Some(statement.version.number),
            floor: Some(statement.floor_version),
            hash: Some(statement.version.hash.chars().take(HASH_DIGITS).collect()),
            directories: engine.directories().clone(),
        };
        entry
    }
}

fn journal_room(room: RoomAttributes) -> JournalRoom {
    JournalRoom { class: room.class.as_str().to_owned(), e2ee: room.e2ee }
}

/// The rules by which the action is allowed.
fn deciding_rules(
    engine: &DecidingEngine,
    action: Action,
    institution: &str,
    attributes: &[RoomAttributes],
    subject: Subject<'_>,
) -> Vec<String> {
    let decision = attributes.first().map(|room| engine.decide(action, institution, *room, subject));
    let rules = decision.filter(|decision| decision.allowed).map(|decision| decision.rules);
    rules.into_iter().flatten().map(|rule| rule.to_string()).collect()
}
