//! The journal of real decisions of whole nodes.

use std::fs;
use std::path::{Path, PathBuf};

use systir_journal::{DecidedAbout, DecidedAt, JournalEntry, JournalEvent, JournalLine, JournalOutcome};

use super::admission::used;
use super::*;

fn folder(cluster: &TestCluster, node: &str) -> PathBuf {
    cluster.config(node, 1).policy.state.join("journal")
}

fn text(folder: &Path) -> String {
    let mut files: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

fn entries(folder: &Path) -> Vec<JournalEntry> {
    let line = |line: &str| match JournalLine::parse(line).unwrap().event {
        JournalEvent::Entry(entry) => *entry,
        JournalEvent::Missing(gap) => panic!("{gap:?}"),
    };
    text(folder).lines().map(line).collect()
}

fn find(
    entries: &[JournalEntry],
    at: DecidedAt,
    outcome: JournalOutcome,
) -> impl Iterator<Item = &JournalEntry> {
    entries.iter().filter(move |entry| entry.at == at && entry.outcome == outcome)
}

fn one(entries: &[JournalEntry], at: DecidedAt, outcome: JournalOutcome) -> &JournalEntry {
    let found: Vec<_> = find(entries, at, outcome).collect();
    assert_eq!(found.len(), 1, "{at:?} {outcome:?}: {entries:#?}");
    found[0]
}

fn about(node: &str) -> Option<DecidedAbout> {
    Some(DecidedAbout::Node(node.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_in_and_kept_out_is_in_the_journal_with_its_rule_and_without_names() {
    let cluster = TestCluster::new();
    let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 1).await);
    let mut anna = TestParticipant::join(&home, "anna-the-first").await;
    let _bob = TestParticipant::join(&home, "bob-the-second").await;
    anna.until_sees("bob-the-second").await;
    assert_eq!((used(&home), used(&sister)), (1, 1));
    let refused = TestParticipant::try_join(&home, grants("chen-the-third")).await.err().unwrap();
    assert_eq!(refused.reason, Reason::ApprovedFull, "{refused}");
    let hidden = Grants { recorder: true, ..grants("dora-the-fourth") };
    let refused = TestParticipant::try_join(&home, hidden).await.err().unwrap();
    assert_eq!(refused.reason, Reason::NoRule, "{refused}");
    home.stop().await;
    sister.stop().await;

    let at_home = entries(&folder(&cluster, "cph-1"));
    let placed: Vec<_> = find(&at_home, DecidedAt::Placement, JournalOutcome::Allowed).collect();
    let [first, second] = placed.as_slice() else { panic!("{at_home:#?}") };
    assert_eq!((first.action.as_deref(), &first.about), (Some("home"), &about("cph-1")));
    assert_eq!(first.rules, ["ku-home-denmark"]);
    assert_eq!((second.action.as_deref(), &second.about), (Some("spill"), &about("sto-1")));
    assert_eq!(
        (second.rules.as_slice(), second.reason.as_str()),
        (["ku-spill-nordic".to_owned()].as_slice(), "spill-approved")
    );
    assert_eq!(second.room.as_deref(), Some(room().tag.as_str()));
    assert_eq!(second.institution.as_deref(), Some("ku.dk"));
    let documents = &second.documents;
    assert_eq!((documents.bundle, documents.floor), (Some(1), Some(1)), "{documents:?}");
    assert_eq!(documents.directories.keys().collect::<Vec<_>>(), ["nordunet"]);
    let placement = second.placement.as_ref().unwrap();
    assert_eq!(placement.carried_by.as_ref().unwrap().home, "cph-1");
    let full = placement.candidates.iter().find(|one| one.node == "cph-1").unwrap();
    assert_eq!((full.participants, full.capacity, full.home.allowed), (1, 1, true));

    let kept_out: Vec<_> = find(&at_home, DecidedAt::Placement, JournalOutcome::Refused).collect();
    let [full, recorder] = kept_out.as_slice() else { panic!("{at_home:#?}") };
    assert_eq!((full.reason.as_str(), full.action.as_deref()), ("approved-full", Some("join")));
    let answers = &full.placement.as_ref().unwrap().answers;
    assert!(answers.iter().all(|answer| answer.reason == "full") && answers.len() == 2, "{answers:?}");
    assert_eq!((recorder.reason.as_str(), recorder.action.as_deref()), ("no-rule", Some("join-recorder")));
    assert_eq!(recorder.about, Some(DecidedAbout::Institution("ku.dk".to_owned())));

    let made = one(&at_home, DecidedAt::Home, JournalOutcome::Allowed);
    assert_eq!(
        (made.rules.as_slice(), &made.about),
        (["ku-home-denmark".to_owned()].as_slice(), &about("cph-1"))
    );
    let opened = find(&at_home, DecidedAt::RoomOpening, JournalOutcome::Allowed).next().unwrap();
    assert_eq!((&opened.about, opened.asked_by.as_deref()), (&about("sto-1"), Some("sto-1")));

    let there = entries(&folder(&cluster, "sto-1"));
    let seat = one(&there, DecidedAt::Seat, JournalOutcome::Allowed);
    assert_eq!((seat.asked_by.as_deref(), seat.action.as_deref()), (Some("cph-1"), Some("spill")));
    assert_eq!(one(&there, DecidedAt::Seat, JournalOutcome::Refused).reason, "full");
    assert_eq!(one(&there, DecidedAt::Session, JournalOutcome::Allowed).rules, ["ku-spill-nordic"]);
    let followed = find(&there, DecidedAt::GrantOffer, JournalOutcome::Allowed).next().unwrap();
    assert_eq!(followed.about, about("cph-1"));

    for node in ["cph-1", "sto-1"] {
        let text = text(&folder(&cluster, node));
        for name in ["anna", "bob", "chen", "dora", "lecture"] {
            assert!(!text.contains(name), "{node}: {name} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_whom_a_new_policy_ends_is_in_the_journal() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 2).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    cluster.publish_rules(2, |rules| {
        rules.replace("action == Action::\"join\"", "action == Action::\"join-hidden\"")
    });
    anna.until("the end", |message| matches!(message, ServerMessage::Leave(_))).await;
    home.stop().await;
    let entries = entries(&folder(&cluster, "cph-1"));
    let ended = one(&entries, DecidedAt::Standing, JournalOutcome::Refused);
    assert_eq!((ended.action.as_deref(), ended.reason.as_str()), (Some("join"), "no-rule"));
    let taken = one(&entries, DecidedAt::Document, JournalOutcome::Allowed);
    assert_eq!(taken.about, Some(DecidedAbout::Document("bundle of ku.dk, version 2".to_owned())));
}
