use super::*;
use crate::input::Demand;
use crate::ladder::propose;
use crate::test_input::{node, room};

#[test]
fn a_recently_full_node_is_asked_last_for_a_moment_but_still_asked() {
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
    assert_eq!(order(&recent, start + FULL_FOR / 2), ["sto-1", "cph-1"]);
    assert_eq!(order(&recent, start + FULL_FOR), ["cph-1", "sto-1"], "long enough ago");
    recent.answered("cph-1", false, start + FULL_FOR / 2);
    assert_eq!(order(&recent, start + FULL_FOR / 2), ["cph-1", "sto-1"], "it has given a seat since");
}

#[test]
fn a_load_report_newer_than_the_answer_counts() {
    let start = Instant::now();
    let mut recent = RecentlyFull::default();
    recent.answered("cph-1", true, start);
    let now = start + Duration::from_millis(300);
    let load = |age_ms| recent.load("cph-1", LoadReport { age_ms, ..node("cph-1", true).load }, now);
    assert_eq!(load(100).participants, 1);
    assert_eq!((load(400).participants, load(400).age_ms), (4, 300));
}

#[test]
fn expired_entries_are_removed() {
    let start = Instant::now();
    let mut recent = RecentlyFull::default();
    for n in 0..100 {
        recent.answered(&format!("node-{n}"), true, start + FULL_FOR * n);
    }
    assert_eq!(recent.full_since.len(), 1);
}
