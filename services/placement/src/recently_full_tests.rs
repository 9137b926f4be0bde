use super::*;
use crate::input::Demand;
use crate::ladder::propose;
use crate::test_input::{node, room};

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
