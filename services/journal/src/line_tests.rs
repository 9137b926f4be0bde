use proptest::prelude::*;

use super::*;
use crate::{
    AnsweredSeat, DecidedAbout, DecidedAt, JournalCandidate, JournalDocuments, JournalOutcome,
    JournalPlacement, JournalRole, JournalRoom, PlacedParticipant, PlacedRoom,
};

/// 9999-12-31T23:59:59.999Z.
const LAST: u64 = 253_402_300_799_999;

fn role() -> impl Strategy<Value = JournalRole> {
    (any::<bool>(), any::<Option<u32>>(), proptest::collection::vec(".{0,8}", 0..3))
        .prop_map(|(allowed, tier, rules)| JournalRole { allowed, tier, rules })
}

fn candidate() -> impl Strategy<Value = JournalCandidate> {
    (".{0,8}", role(), role(), any::<[u32; 3]>(), any::<Option<u64>>(), any::<[bool; 3]>()).prop_map(
        |(node, home, spill, load, reported_ms_ago, [draining, offline, no_room_key])| {
            let [participants, capacity, cpu_permille] = load;
            JournalCandidate {
                node,
                home,
                spill,
                participants,
                capacity,
                cpu_permille,
                reported_ms_ago,
                draining,
                offline,
                no_room_key,
            }
        },
    )
}

fn placement() -> impl Strategy<Value = JournalPlacement> {
    (
        any::<[bool; 4]>(),
        proptest::option::of((".{0,8}", proptest::collection::vec(".{0,8}", 0..3))),
        proptest::collection::vec(candidate(), 0..4),
        0_usize..9,
        proptest::collection::vec((".{0,8}", ".{0,8}"), 0..3),
    )
        .prop_map(|([hidden, recorder, guest, view_only], carried_by, candidates, left_out, answers)| {
            JournalPlacement {
                participant: PlacedParticipant { hidden, recorder, guest, view_only },
                carried_by: carried_by.map(|(home, spill)| PlacedRoom { home, spill }),
                candidates,
                candidates_left_out: left_out,
                answers: answers.into_iter().map(|(node, reason)| AnsweredSeat { node, reason }).collect(),
            }
        })
}

fn about() -> impl Strategy<Value = DecidedAbout> {
    let kinds = [DecidedAbout::Node, DecidedAbout::Institution, DecidedAbout::Document];
    (0..kinds.len(), ".{0,8}").prop_map(move |(kind, name)| kinds[kind](name))
}

fn entry() -> impl Strategy<Value = JournalEntry> {
    let at = [DecidedAt::Placement, DecidedAt::Seat, DecidedAt::GrantOffer, DecidedAt::Document];
    let outcome = [JournalOutcome::Allowed, JournalOutcome::Refused];
    let words = proptest::array::uniform4(proptest::option::of(".{0,20}"));
    let rooms = proptest::collection::vec((".{0,8}", any::<bool>()), 0..3);
    let versions = (any::<Option<u64>>(), any::<Option<u64>>(), proptest::option::of(".{0,8}"));
    (
        (0..at.len(), any::<bool>(), ".{0,8}", proptest::collection::vec(".{0,8}", 0..3)),
        words,
        proptest::option::of(about()),
        rooms,
        (versions, proptest::collection::btree_map(".{0,8}", any::<u64>(), 0..3)),
        proptest::option::of(placement()),
    )
        .prop_map(move |(head, words, about, rooms, (versions, directories), placement)| {
            let (place, allowed, reason, rules) = head;
            let [action, asked_by, institution, room] = words;
            let (bundle, floor, hash) = versions;
            JournalEntry {
                rules,
                action,
                about,
                asked_by,
                institution,
                room,
                room_is: rooms.into_iter().map(|(class, e2ee)| JournalRoom { class, e2ee }).collect(),
                documents: JournalDocuments { bundle, floor, hash, directories },
                placement,
                ..JournalEntry::new(at[place], outcome[usize::from(!allowed)], &reason)
            }
        })
}

fn gap() -> impl Strategy<Value = JournalGap> {
    let reasons = [MissingReason::Queue, MissingReason::Disk, MissingReason::DayLimit];
    (0..=LAST, 0..=LAST, any::<[Option<u64>; 3]>()).prop_map(move |(from_ms, to_ms, counts)| {
        let count = reasons.into_iter().zip(counts).filter_map(|(reason, count)| Some((reason, count?)));
        JournalGap { from_ms, to_ms, count: count.collect() }
    })
}

fn line() -> impl Strategy<Value = JournalLine> {
    let event = prop_oneof![
        entry().prop_map(|entry| JournalEvent::Entry(Box::new(entry))),
        gap().prop_map(JournalEvent::Missing),
    ];
    (0..=LAST, ".{0,8}", event).prop_map(|(time_ms, node, event)| JournalLine { time_ms, node, event })
}

proptest! {
    #[test]
    fn a_line_is_one_line_and_is_read_as_it_was_written(line in line()) {
        let text = line.to_text();
        prop_assert!(!text.contains(['\n', '\r']), "{text}");
        prop_assert_eq!(JournalLine::parse(&text), Ok(line));
    }

    #[test]
    fn no_part_of_a_line_is_taken_for_a_line(line in line(), cut in 0.0..1.0_f64) {
        let text = line.to_text();
        let end = (text.len() as f64 * cut) as usize;
        if let Some(part) = text.get(..end) {
            prop_assert!(JournalLine::parse(part).is_err(), "{part}");
        }
    }

    #[test]
    fn no_text_panics(text in "[{}\":,a-z0-9\\[\\]]{0,80}") {
        let _ = JournalLine::parse(&text);
    }
}

#[test]
fn a_line_of_a_later_version_is_read() {
    let text = r#"{"time":"2026-11-29T08:00:00.000Z","node":"cph-1","at":"teleport","outcome":"refused","reason":"new",
        "mood":"good"}"#;
    let JournalEvent::Entry(entry) = JournalLine::parse(text).unwrap().event else { panic!("a gap") };
    assert_eq!((entry.at, entry.reason.as_str()), (DecidedAt::Other, "new"));
}

#[test]
fn a_join_among_very_many_nodes_stays_one_line_of_bounded_length() {
    let candidate = JournalCandidate { node: "n".repeat(4096), ..JournalCandidate::default() };
    let placement =
        JournalPlacement { candidates: vec![candidate; 64], candidates_left_out: 2, ..Default::default() };
    let entry = JournalEntry {
        placement: Some(placement),
        ..JournalEntry::new(DecidedAt::Placement, JournalOutcome::Allowed, "home")
    };
    let line = JournalLine { time_ms: 0, node: "cph-1".to_owned(), event: JournalEvent::Entry(entry.into()) };
    let text = line.to_text();
    assert!(text.len() < MAX_LINE_BYTES, "{}", text.len());
    let JournalEvent::Entry(entry) = JournalLine::parse(&text).unwrap().event else { panic!("a gap") };
    assert_eq!(entry.placement.unwrap().candidates_left_out, 66);
}

/// Written anew, a candidate has fields that the line of another writer left out.
#[test]
fn a_line_of_another_writer_that_counts_all_its_candidates_is_shortened() {
    let candidate = r#"{"node":"n","participants":0,"capacity":0,"cpu_permille":0}"#;
    let candidates = vec![candidate; 1_000].join(",");
    let text = format!(
        r#"{{"time":"2026-11-29T08:00:00.000Z","node":"cph-1","at":"placement","outcome":"allowed","reason":"home",
        "placement":{{"participant":{{}},"candidates_left_out":{},"candidates":[{candidates}]}}}}"#,
        usize::MAX
    );
    let shorter = JournalLine::parse(&text).unwrap().to_text();
    assert!(shorter.len() < MAX_LINE_BYTES, "{}", shorter.len());
    let JournalEvent::Entry(entry) = JournalLine::parse(&shorter).unwrap().event else { panic!("a gap") };
    assert_eq!(entry.placement.unwrap().candidates_left_out, usize::MAX);
}

#[test]
fn gaps_add_up() {
    let first = JournalGap::one(MissingReason::Queue, 5);
    let gap =
        first.and(JournalGap::one(MissingReason::Disk, 3)).and(JournalGap::one(MissingReason::Queue, 9));
    assert_eq!((gap.from_ms, gap.to_ms, gap.total()), (3, 9, 3));
    assert_eq!(gap.count[&MissingReason::Queue], 2);
}
