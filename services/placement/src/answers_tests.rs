use super::*;
use crate::facts::{Assignment, Demand, RoomFacts, Verdict};
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
    use Answer::*;
    use RefusalReason as Reason;
    for (answers, reason) in [
        (&[Full, Full][..], Reason::ApprovedFull),
        (&[Full, Denied], Reason::ApprovedFull),
        (&[Full, Draining], Reason::ApprovedFull),
        (&[Denied, Denied], Reason::RulesDiffer),
        (&[Draining, Denied], Reason::RulesDiffer),
        (&[Draining, Draining], Reason::ApprovedUnavailable),
        (&[Full, Silent], Reason::ApprovedUnavailable),
        (&[Undecided, Full], Reason::ApprovedUnavailable),
        (&[Full, Overtaken], Reason::ApprovedUnavailable),
        (&[Undecided, Denied], Reason::ApprovedUnavailable),
        (&[Full, RegistryAway], Reason::RegistryAway),
        (&[RegistryAway, Silent, Full], Reason::RegistryAway),
        (&[RegistryRefuses, Full], Reason::RegistryRefuses),
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
    let mut heard = HeardFull::default();
    let order = |heard: &HeardFull, now| {
        let mut candidates = [node("cph-1", true), node("sto-1", false)];
        heard.believe(&mut candidates, now);
        let steps = propose(&room(), &Demand::default(), &candidates).steps;
        steps.into_iter().map(|step| step.node).collect::<Vec<_>>()
    };
    assert_eq!(order(&heard, start), ["cph-1", "sto-1"]);
    heard.heard("cph-1", true, start);
    assert_eq!(order(&heard, start + BELIEVED / 2), ["sto-1", "cph-1"]);
    assert_eq!(order(&heard, start + BELIEVED), ["cph-1", "sto-1"], "it was long ago");
    heard.heard("cph-1", false, start + BELIEVED / 2);
    assert_eq!(order(&heard, start + BELIEVED / 2), ["cph-1", "sto-1"], "it gave a seat since");
}

#[test]
fn a_report_that_is_newer_than_what_was_heard_counts() {
    let start = Instant::now();
    let mut heard = HeardFull::default();
    heard.heard("cph-1", true, start);
    let now = start + Duration::from_millis(300);
    let load = |age_ms| heard.load("cph-1", Load { age_ms, ..node("cph-1", true).load }, now);
    assert_eq!(load(100).participants, 1);
    assert_eq!((load(400).participants, load(400).age_ms), (4, 300));
}

#[test]
fn what_is_no_longer_believed_is_not_kept() {
    let start = Instant::now();
    let mut heard = HeardFull::default();
    for n in 0..100 {
        heard.heard(&format!("node-{n}"), true, start + BELIEVED * n);
    }
    assert_eq!(heard.at.len(), 1);
}
