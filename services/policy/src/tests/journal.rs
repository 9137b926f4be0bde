//! What the journal is told.

use std::sync::{Arc, Mutex};

use systir_assignment::RoomId;
use systir_journal::{DecidedAbout, DecidedAt, Journal, JournalEntry, JournalOutcome};
use systir_reason::{Reason, Refusal};
use systir_room_tag::test_keys::{keys, room};

use super::*;
use crate::{Authority, DecidedAction};

#[derive(Debug, Default)]
struct Told(Mutex<Vec<JournalEntry>>);

impl Journal for Told {
    fn record(&self, entry: JournalEntry) {
        self.0.lock().unwrap().push(entry);
    }
}

fn journaled(tell: impl FnOnce(&Authority)) -> JournalEntry {
    let authority = Authority::new(demo_engine(), "cph-1", Arc::default());
    authority.use_room_keys(keys());
    let told = Arc::new(Told::default());
    authority.journal_to(told.clone());
    tell(&authority);
    let mut entries = told.0.lock().unwrap().split_off(0);
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[test]
fn what_is_let_in_is_journaled_with_its_rule_the_class_and_the_documents() {
    let decided = DecidedAction::of_node(DecidedAt::Seat, Action::Spill, "sto-1").asked_by("cph-1");
    let entry = journaled(|authority| authority.journal(&decided, &room("exam-1"), &Ok::<_, Refusal>(())));
    assert_eq!((entry.outcome, entry.reason.as_str()), (JournalOutcome::Allowed, "allowed"));
    assert_eq!(entry.rules, ["ku-spill-nordic"]);
    assert_eq!(entry.about, Some(DecidedAbout::Node("sto-1".to_owned())));
    assert_eq!(entry.asked_by.as_deref(), Some("cph-1"));
    assert_eq!(entry.room, Some(room("exam-1").tag));
    assert_eq!(entry.room_is.iter().map(|one| one.class.as_str()).collect::<Vec<_>>(), ["confidential"]);
    assert!(entry.documents.bundle.is_some() && entry.documents.floor.is_some(), "{entry:?}");
    assert_eq!(entry.documents.directories.len(), 1);
    assert_eq!(entry.documents.hash.map(|hash| hash.len()), Some(12));
}

#[test]
fn what_is_kept_out_is_journaled_with_the_reason_and_the_rules_of_the_refusal() {
    let decided = DecidedAction::of_node(DecidedAt::RoomOpening, Action::Spill, "aws-sto-1");
    let denied = |authority: &Authority| authority.node(Action::Spill, &room("lecture"), "aws-sto-1");
    let entry =
        journaled(|authority| authority.journal_denial(&decided, &room("lecture"), &denied(authority)));
    assert_eq!((entry.outcome, entry.reason.as_str()), (JournalOutcome::Refused, "forbidden"));
    assert_eq!(entry.rules, ["ku-host-controlled-from-eea"]);
    // A reason in place of a rule is no rule; a full node refuses by none.
    let default = Refusal::new(Reason::NoRule, "none").with_rules(vec!["no-rule".to_owned()]);
    let entry = journaled(|authority| authority.journal(&decided, &room("lecture"), &Err::<(), _>(default)));
    assert_eq!(entry.rules, Vec::<String>::new());
}

#[test]
fn an_institution_that_another_node_made_up_is_not_in_the_journal() {
    let made_up = RoomId::new("Anna Andersen, room 4", "AAAA");
    let decided = DecidedAction::of_node(DecidedAt::Seat, Action::Spill, "sto-1").asked_by("sto-1");
    let refused = || Err::<(), _>(Refusal::new(Reason::UnknownInstitution, "no policy"));
    let entry = journaled(|authority| authority.journal(&decided, &made_up, &refused()));
    assert_eq!((&entry.institution, &entry.room), (&None, &None));
    assert!(!format!("{entry:?}").contains("Anna"));
    let decided = DecidedAction::of_participant(DecidedAt::Placement, Action::Join, "Anna");
    let entry = journaled(|authority| authority.journal_institution(&decided, "Anna", &refused()));
    assert!(!format!("{entry:?}").contains("Anna"));
}
