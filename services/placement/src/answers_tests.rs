use super::*;
use crate::input::{Assignment, Demand, RoomFacts, Verdict};
use crate::ladder::propose;

fn node(name: &str, home: bool) -> Candidate {
    let allow = |allowed| Verdict { allowed, tier: Some(0), rules: Vec::new(), why: String::new() };
    Candidate {
        node: name.to_owned(),
        load: Load { participants: 1, capacity: 4, cpu_permille: 0, age_ms: 5_000 },
        draining: false,
        alive: true,
        home: allow(home),
        spill: allow(true),
    }
}

fn room() -> RoomFacts {
    RoomFacts {
        institution: "ku.dk".to_owned(),
        name: "physics".to_owned(),
        assignment: Some(Assignment { home: "cph-1".to_owned(), spill: Vec::new() }),
    }
}

fn proposal() -> Proposal {
    propose(&room(), &Demand::default(), &[node("cph-1", true), node("sto-1", false)])
}

#[test]
fn full_is_said_only_when_nobody_could_have_room() {
    for (answers, reason) in [
        (&[Reason::Full, Reason::Full][..], Reason::ApprovedFull),
        (&[Reason::Full, Reason::PolicyDenied], Reason::ApprovedFull),
        (&[Reason::Full, Reason::Draining], Reason::ApprovedFull),
        (&[Reason::PolicyDenied, Reason::PolicyDenied], Reason::RulesDiffer),
        (&[Reason::Draining, Reason::PolicyDenied], Reason::RulesDiffer),
        (&[Reason::Draining, Reason::Draining], Reason::ApprovedUnavailable),
        (&[Reason::Full, Reason::NoAnswer], Reason::ApprovedUnavailable),
        (&[Reason::Internal, Reason::Full], Reason::ApprovedUnavailable),
        (&[Reason::Full, Reason::EpochOvertaken], Reason::ApprovedUnavailable),
        (&[Reason::Internal, Reason::PolicyDenied], Reason::ApprovedUnavailable),
        (&[Reason::Full, Reason::RegistryAway], Reason::RegistryAway),
        (&[Reason::RegistryAway, Reason::NoAnswer, Reason::Full], Reason::RegistryAway),
        (&[Reason::RegistryRefuses, Reason::Full], Reason::RegistryRefuses),
        (&[], Reason::ApprovedUnavailable),
    ] {
        let refusal = proposal().refused(answers);
        assert_eq!(refusal.reason, reason, "{answers:?}");
        let names_none = !refusal.sentence.contains("cph-1") && !refusal.sentence.contains("sto-1");
        assert!(refusal.sentence.contains("ku.dk") && names_none, "{}", refusal.sentence);
    }
}

#[test]
fn where_nobody_could_be_asked_that_is_the_reason() {
    let nobody = propose(&room(), &Demand::default(), &[]);
    assert_eq!(Some(nobody.refused(&[])), nobody.refusal);
}

#[test]
fn who_has_just_said_full_is_asked_last_for_a_moment_and_never_not_at_all() {
    let start = Instant::now();
    let mut recent = RecentlyFull::default();
    let order = |recent: &RecentlyFull, now| {
        let mut candidates = [node("cph-1", true), node("sto-1", false)];
        recent.adjust(&mut candidates, now);
        let steps = propose(&room(), &Demand::default(), &candidates).steps;
        steps.into_iter().map(|step| step.node).collect::<Vec<_>>()
    };
    assert_eq!(order(&recent, start), ["cph-1", "sto-1"]);
    recent.answered("cph-1", true, start);
    assert_eq!(order(&recent, start + REMEMBERED / 2), ["sto-1", "cph-1"]);
    assert_eq!(order(&recent, start + REMEMBERED), ["cph-1", "sto-1"], "it was long ago");
    recent.answered("cph-1", false, start + REMEMBERED / 2);
    assert_eq!(order(&recent, start + REMEMBERED / 2), ["cph-1", "sto-1"], "it gave a seat since");
}

#[test]
fn a_report_that_is_newer_than_what_was_recent_counts() {
    let start = Instant::now();
    let mut recent = RecentlyFull::default();
    recent.answered("cph-1", true, start);
    let now = start + Duration::from_millis(300);
    let load = |age_ms| recent.load("cph-1", Load { age_ms, ..node("cph-1", true).load }, now);
    assert_eq!(load(100).participants, 1);
    assert_eq!((load(400).participants, load(400).age_ms), (4, 300));
}

#[test]
fn what_is_no_longer_believed_is_not_kept() {
    let start = Instant::now();
    let mut recent = RecentlyFull::default();
    for n in 0..100 {
        recent.answered(&format!("node-{n}"), true, start + REMEMBERED * n);
    }
    assert_eq!(recent.at.len(), 1);
}
