//! `systirctl audit` and `systirctl policy what-if`.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use std::collections::BTreeMap;

use systir_journal::{
    AnsweredSeat, DecidedAbout, DecidedAt, JournalCandidate, JournalDocuments, JournalEntry, JournalEvent,
    JournalGap, JournalLine, JournalOutcome, JournalPlacement, JournalRole, JournalRoom, MissingReason,
    PlacedParticipant, PlacedRoom,
};

#[allow(dead_code, reason = "each test file uses a part")]
mod common;

use common::Folder;

/// 2026-11-29T08:00:00Z.
const START_MS: u64 = 1_795_939_200_000;
const FILE: &str = "state/journal/decisions-2026-11-29.0.jsonl";

fn entry(
    at: DecidedAt,
    outcome: JournalOutcome,
    reason: &str,
    action: &str,
    about: DecidedAbout,
) -> JournalEntry {
    JournalEntry {
        action: Some(action.to_owned()),
        about: Some(about),
        institution: Some("ku.dk".to_owned()),
        room: Some("AQx7-lecture-sealed".to_owned()),
        room_is: vec![JournalRoom { class: "standard".to_owned(), e2ee: false }],
        documents: JournalDocuments {
            bundle: Some(1),
            floor: Some(1),
            hash: None,
            directories: [("nordunet".to_owned(), 1)].into(),
        },
        ..JournalEntry::new(at, outcome, reason)
    }
}

fn node(name: &str) -> DecidedAbout {
    DecidedAbout::Node(name.to_owned())
}

fn candidate(name: &str, home: bool, spill: Option<u32>, participants: u32) -> JournalCandidate {
    JournalCandidate {
        node: name.to_owned(),
        home: JournalRole { allowed: home, ..JournalRole::default() },
        spill: JournalRole { allowed: spill.is_some(), tier: spill, rules: Vec::new() },
        participants,
        capacity: 4,
        reported_ms_ago: Some(0),
        ..JournalCandidate::default()
    }
}

/// A join at cph-1 to a room of cph-1, while it and sto-1 carry so many participants.
fn placement(at_home: u32, at_sister: u32) -> JournalPlacement {
    JournalPlacement {
        participant: PlacedParticipant::default(),
        carried_by: Some(PlacedRoom { home: "cph-1".to_owned(), spill: Vec::new() }),
        candidates: vec![
            candidate("cph-1", true, Some(1), at_home),
            candidate("sto-1", false, Some(1), at_sister),
            candidate("aws-sto-1", false, None, 0),
        ],
        ..JournalPlacement::default()
    }
}

fn placed(there: &str, placement: JournalPlacement) -> JournalEntry {
    let (action, reason, rule) = match there {
        "cph-1" => ("home", "home", "ku-home-denmark"),
        _ => ("spill", "spill-approved", "ku-spill-nordic"),
    };
    JournalEntry {
        rules: vec![rule.to_owned()],
        placement: Some(placement),
        ..entry(DecidedAt::Placement, JournalOutcome::Allowed, reason, action, node(there))
    }
}

/// A join that every approved node refused, because it was full.
fn refused() -> JournalEntry {
    let answers = ["sto-1", "cph-1"]
        .map(|node| AnsweredSeat { node: node.to_owned(), reason: "full".to_owned() })
        .to_vec();
    let about = DecidedAbout::Institution("ku.dk".to_owned());
    JournalEntry {
        placement: Some(JournalPlacement { answers, ..placement(4, 4) }),
        rules: vec!["ku-host-controlled-from-eea".to_owned()],
        ..entry(DecidedAt::Placement, JournalOutcome::Refused, "approved-full", "join", about)
    }
}

fn opening_refused() -> JournalEntry {
    JournalEntry {
        rules: vec!["ku-host-controlled-from-eea".to_owned()],
        asked_by: Some("aws-sto-1".to_owned()),
        ..entry(DecidedAt::RoomOpening, JournalOutcome::Refused, "forbidden", "spill", node("aws-sto-1"))
    }
}

/// A journal with these decisions, one each second.
fn write(folder: &Folder, entries: Vec<JournalEntry>) -> String {
    let events = entries.into_iter().map(|entry| JournalEvent::Entry(entry.into()));
    write_events(folder, events.collect())
}

fn write_events(folder: &Folder, events: Vec<JournalEvent>) -> String {
    let lines = events.into_iter().zip(0..).map(|(event, second)| {
        let time_ms = START_MS + second * 1000;
        JournalLine { time_ms, node: "cph-1".to_owned(), event }.to_text() + "\n"
    });
    let text: String = lines.collect();
    std::fs::create_dir_all(folder.at("state/journal")).unwrap();
    folder.write(FILE, &text);
    text
}

fn story(folder: &Folder) -> String {
    let gap = JournalGap {
        from_ms: START_MS + 3200,
        to_ms: START_MS + 3900,
        count: BTreeMap::from([(MissingReason::Queue, 3), (MissingReason::Disk, 2)]),
    };
    let entries =
        [placed("cph-1", placement(0, 0)), placed("sto-1", placement(4, 0)), refused(), opening_refused()];
    let events = entries.map(|entry| JournalEvent::Entry(entry.into()));
    write_events(folder, events.into_iter().chain([JournalEvent::Missing(gap)]).collect())
}

#[test]
fn an_audit_shows_each_decision_and_counts_them_by_rule_and_reason() {
    let folder = Folder::new();
    story(&folder);
    let shown = folder.run("audit state");
    for expected in [
        "2026-11-29T08:00:01.000Z",
        "spill-approved",
        "ku-spill-nordic",
        "approved-full",
        "AQx7-lecture…",
        "5 missing",
        "queue: 3, disk: 2",
        "2 allowed, 2 refused, 5 missing in the journal",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    // The columns of all rows begin at the same place.
    let rows: Vec<&str> = shown.lines().filter(|line| line.contains("2026-11-29T08")).collect();
    let column = |row: &&str| row.chars().take_while(|letter| *letter != 'c').count();
    assert_eq!(rows.iter().map(column).collect::<std::collections::BTreeSet<_>>().len(), 1, "{shown}");

    let all = folder.json("audit state/journal");
    assert_eq!((all["allowed"].as_u64(), all["refused"].as_u64()), (Some(2), Some(2)));
    assert_eq!(all["lines"].as_array().unwrap().len(), 5);
    let forbidden =
        all["summary"].as_array().unwrap().iter().find(|row| row["reason"] == "forbidden").unwrap();
    assert_eq!(
        (forbidden["rule"].as_str(), &forbidden["count"]),
        (Some("ku-host-controlled-from-eea"), &1.into())
    );
}

#[test]
fn an_audit_is_of_a_period_an_outcome_an_action_or_a_room() {
    let folder = Folder::new();
    story(&folder);
    let count = |line: &str| {
        let found = folder.json(&format!("audit {FILE} {line}"));
        let count = |outcome: &str| found[outcome].as_u64().unwrap();
        count("allowed") + count("refused")
    };
    assert_eq!(count("--since 2026-11-29T08:00:01Z"), 3);
    assert_eq!(count("--until 2026-11-29T08:00:01Z"), 1);
    assert_eq!(count("--since 2026-11-30"), 0);
    assert_eq!(count("--outcome refused"), 2);
    assert_eq!(count("--action spill"), 2);
    assert_eq!(count("--action spill --outcome allowed"), 1);
    assert_eq!(count("--room AQx7"), 4);
    assert_eq!(count("--room AQx7-lecture-sealed"), 4);
    assert_eq!(count("--room BQ"), 0);
    assert_eq!(folder.json(&format!("audit {FILE} --last 2"))["left_out"], 3);
    for wrong in ["--since yesterday", "--outcome perhaps", "--action teleport"] {
        folder.fail(64, &format!("audit {FILE} {wrong}"));
    }
    folder.fail(64, "audit");
}

#[test]
fn an_unreadable_line_is_told_with_its_place_and_ends_nothing() {
    let folder = Folder::new();
    let text = story(&folder);
    let lines: Vec<&str> = text.lines().collect();
    let long = "x".repeat(100_000);
    let broken = format!("{}\n{}\n{long}\n{}\n", lines[0], &lines[1][..40], lines[2]);
    let mut bytes = broken.into_bytes();
    bytes.extend_from_slice(b"\xff\xfe\n");
    bytes.extend_from_slice(&lines[3].as_bytes()[..30]);
    std::fs::write(folder.at(FILE), bytes).unwrap();
    let error = folder.fail(1, &format!("audit {FILE}"));
    for (line, what) in [(2, "EOF"), (3, "longer than"), (5, "UTF-8"), (6, "EOF")] {
        let place = format!("{FILE}:{line}: this line cannot be read");
        let told =
            error.lines().find(|line| line.contains(&place)).unwrap_or_else(|| panic!("{place}: {error}"));
        assert!(told.contains(what), "{told}");
    }
    assert_eq!(error.lines().count(), 4, "{error}");
    let missing = folder.fail(1, "audit keys");
    assert!(missing.contains("keys") && missing.contains("cannot be read"), "{missing}");
    std::fs::create_dir(folder.at("empty")).unwrap();
    let empty = folder.fail(1, "audit empty");
    assert!(empty.contains("empty has no journal"), "{empty}");
}

#[test]
fn a_line_of_another_node_does_not_control_the_terminal_when_it_is_told_to_be_unreadable() {
    let folder = Folder::new();
    let line = r#"{"time":"2026-11-29T08:00:00.000Z","node":"cph-1","at":"seat","outcome":"\u001b[2J\nx:1: \u009b1m"}"#;
    folder.write("one.jsonl", line);
    let error = folder.fail(1, "audit one.jsonl");
    assert!(error.contains("one.jsonl:1: this line cannot be read: unknown variant"), "{error}");
    let text = error.strip_suffix('\n').unwrap();
    assert!(!text.contains(char::is_control), "{text:?}");
}

fn documents(folder: &Folder) -> String {
    folder.build_bundle(1, "old.note");
    folder.build_floor("floor.note");
    folder.build_directory("nodes.note");
    "--floor floor.note --directory nodes.note".to_owned()
}

#[test]
fn the_same_policy_changes_nothing() {
    let folder = Folder::new();
    let with = documents(&folder);
    story(&folder);
    let found = folder.json(&format!("policy what-if state/journal old.note {with}"));
    assert_eq!(found["changes"], serde_json::json!([]), "{found:#}");
    assert_eq!(found["counts"]["same"], 4, "{found:#}");
    assert_eq!(found["missing"], 5);
}

#[test]
fn a_stricter_policy_would_have_refused_the_spill() {
    let folder = Folder::new();
    let with = documents(&folder);
    story(&folder);
    folder.change(
        "ku.dk.cedar",
        "resource.country in Zone::\"Nordic\"",
        "resource.country == Country::\"DK\"",
    );
    folder.build_bundle(2, "new.note");
    let line = format!("policy what-if {FILE} new.note {with}");
    let found = folder.json(&line);
    let changes = found["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{found:#}");
    let change = &changes[0];
    assert_eq!(
        (&change["change"], &change["was"], &change["was_reason"]),
        (&"refused".into(), &"allowed".into(), &"spill-approved".into())
    );
    assert_eq!(change["reason"], "approved-full");
    assert!(change["why"].as_str().unwrap().contains("ku.dk does not approve sto-1 for spill"), "{change:#}");
    assert_eq!(
        found["counts"],
        serde_json::json!({
            "same": 3, "refused": 1, "let-in": 0, "elsewhere": 0, "other-institution": 0, "not-replayed": 0,
        })
    );
    let shown = folder.run(&line);
    assert!(shown.contains("refused (approved-full)"), "{shown}");
    assert!(shown.contains("1 would be refused, 0 let in, 0 placed elsewhere; 3 the same"), "{shown}");
    assert!(shown.contains("note: 5 decisions are missing in the journal"), "{shown}");
    // A home with free seats would have taken the participant.
    write(&folder, vec![placed("sto-1", placement(3, 0))]);
    let found = folder.json(&line);
    assert_eq!(
        (&found["changes"][0]["change"], &found["changes"][0]["there"]),
        (&"elsewhere".into(), &"cph-1".into()),
        "{found:#}"
    );
}

/// The journal's decisions were made on a Sunday.
#[test]
fn each_decision_is_made_anew_at_its_own_time() {
    let folder = Folder::new();
    let with = documents(&folder);
    story(&folder);
    let nordic = "resource.country in Zone::\"Nordic\"";
    for (version, days, refused) in
        [(2, "[Weekday::\"sat\", Weekday::\"sun\"]", 0), (3, "[Weekday::\"mon\", Weekday::\"tue\"]", 1)]
    {
        let limited = format!("{nordic} && context.weekday in {days}");
        folder.change("ku.dk.cedar", nordic, &limited);
        let new = format!("new-{version}.note");
        folder.build_bundle(version, &new);
        let found = folder.json(&format!("policy what-if {FILE} {new} {with}"));
        assert_eq!(found["counts"]["refused"], refused, "{days}: {found:#}");
        folder.change("ku.dk.cedar", &limited, nordic);
    }
}

#[test]
fn a_looser_policy_would_have_let_in_who_was_refused() {
    let folder = Folder::new();
    let with = documents(&folder);
    story(&folder);
    folder.change("ku.dk.cedar", "unless { resource.host_controlled_from in Zone::\"EEA\" }", "unless { resource.host_controlled_from in Zone::\"EEA\" || resource.host_controlled_from == Country::\"US\" }");
    folder.change(
        "ku.dk.cedar",
        "resource.own_machine &&\n  resource.country in Zone",
        "resource.country in Zone",
    );
    folder.build_bundle(2, "new.note");
    let found = folder.json(&format!("policy what-if state new.note {with}"));
    let changes = found["changes"].as_array().unwrap();
    let of = |at: &str| {
        changes.iter().find(|change| change["at"] == at).unwrap_or_else(|| panic!("{at}: {found:#}"))
    };
    assert_eq!(
        (&of("placement")["change"], &of("placement")["there"]),
        (&"let-in".into(), &"aws-sto-1".into())
    );
    assert_eq!(of("room-opening")["change"], "let-in");
    assert_eq!(of("placement")["rules"], serde_json::json!(["ku-spill-nordic"]));
    assert_eq!(changes.len(), 2, "{found:#}");
}

#[test]
fn what_cannot_be_decided_anew_is_counted_and_other_directories_are_noted() {
    let folder = Folder::new();
    let with = documents(&folder);
    let full = entry(DecidedAt::Seat, JournalOutcome::Refused, "full", "spill", node("sto-1"));
    let other = JournalEntry { institution: Some("kth.se".to_owned()), ..opening_refused() };
    let document = JournalEntry {
        about: Some(DecidedAbout::Document("bundle of ku.dk, version 1".to_owned())),
        ..JournalEntry::new(DecidedAt::Document, JournalOutcome::Allowed, "allowed")
    };
    let mut newer = placed("cph-1", placement(0, 0));
    newer.documents.directories.insert("nordunet".to_owned(), 9);
    write(&folder, vec![full, other, document, newer]);
    let found = folder.json(&format!("policy what-if state old.note {with}"));
    let counts = &found["counts"];
    assert_eq!(
        (&counts["not-replayed"], &counts["other-institution"], &counts["same"]),
        (&2.into(), &1.into(), &1.into()),
        "{found:#}"
    );
    assert!(
        found["notes"][0].as_str().unwrap().contains("version 9 of the directory of nordunet"),
        "{found:#}"
    );
    folder.fail(64, "policy what-if state old.note");
    let missing = folder.fail(1, &format!("policy what-if state gone.note {with}"));
    assert!(missing.contains("gone.note"), "{missing}");
}
