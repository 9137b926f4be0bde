use systir_documents::next_join_number;
use systir_reason::Reason;

use super::*;
use crate::limits::{
    MAX_AHEAD_MS, MAX_BODY, MAX_OWNED_BYTES, MAX_OWNED_BYTES_OF_ALL_ROOMS, MAX_PARTICIPANTS, MAX_TOMBSTONES,
};

/// A clock for which no update is in the future.
const ANY_TIME: u64 = u64::MAX;
/// Some time, Unix milliseconds.
const NOW: u64 = 1_700_000_000_000;

/// The number that a gateway gives to the next join of an identity. `told`: that of the last one that it was told of.
fn next_epoch(room: &RoomState, identity: &str, told: u64, now_ms: u64) -> u64 {
    next_join_number(now_ms, room.last_join(identity).unwrap_or_default().max(told))
}

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn names(room: &RoomState) -> Vec<Sid> {
    room.participants().map(|p| p.sid).collect()
}

/// Two replicas, with ada on `cph-1`, and the update of her join.
fn pair() -> (RoomState, RoomState, Update) {
    let mut cph = RoomState::new("cph-1", 1);
    let sto = RoomState::new("sto-1", 1);
    let (update, changes) = cph.local_join("PA_a1", "ada", 10, body("v0"), Bytes::new()).unwrap();
    assert!(matches!(changes.as_slice(), [Change::Joined(p)] if p.identity == "ada" && p.owner == "cph-1"));
    (cph, sto, update)
}

#[test]
fn an_update_is_replicated_and_a_repeated_one_changes_nothing() {
    let (mut cph, mut sto, join) = pair();
    assert_eq!(sto.apply("cph-1", join.clone(), ANY_TIME).unwrap().changes.len(), 1);
    assert_eq!(sto.apply("cph-1", join.clone(), ANY_TIME).unwrap().changes, []);
    let (update, _) = cph.local_update("PA_a1", body("v1")).unwrap();
    let changes = sto.apply("cph-1", update, ANY_TIME).unwrap().changes;
    assert!(matches!(changes.as_slice(), [Change::Updated(p)] if p.body == "v1" && p.version.counter == 1));
    assert_eq!(sto.apply("cph-1", join, ANY_TIME).unwrap().changes, [], "an older version was applied");
    assert_eq!(sto.by_sid("PA_a1").unwrap().body, "v1");
}

/// The join of a participant of `sto-1`.
fn join_of(number: usize, body: Bytes) -> ParticipantRecord {
    ParticipantRecord {
        sid: format!("PA_{number}"),
        identity: format!("eve-{number}"),
        version: ParticipantVersion { epoch: 10, counter: 0 },
        state: RecordState::Live(body),
        ticket: Some(Bytes::from(vec![0; 1_000])),
    }
}

#[test]
fn one_node_makes_another_store_a_bounded_number_of_bytes_in_single_updates_and_in_a_snapshot() {
    let (mut cph, _, _) = pair();
    let large = Bytes::from(vec![0; MAX_BODY]);
    let (mut stored, mut refused) = (0, None);
    for number in 0..MAX_PARTICIPANTS {
        let record = join_of(number, large.clone());
        let seq = number as u64 + 1;
        match cph.apply(
            "sto-1",
            Update::Participant { owner: "sto-1".into(), incarnation: 7, seq, record },
            NOW,
        ) {
            Ok(_) => stored += MAX_BODY,
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused, Some(MergeError::TooMuch { from: "sto-1".into() }));
    assert!(stored <= MAX_OWNED_BYTES && stored > MAX_OWNED_BYTES / 2, "{stored} bytes");
    // A smaller state of a stored participant is taken.
    let mut smaller = join_of(0, body("v1"));
    smaller.version.counter = 1;
    let seq = 1 + MAX_PARTICIPANTS as u64;
    let update = Update::Participant { owner: "sto-1".into(), incarnation: 7, seq, record: smaller };
    assert_eq!(cph.apply("sto-1", update, NOW).unwrap().changes.len(), 1);
    let snapshot = |records| Update::Snapshot { owner: "osl-1".into(), incarnation: 7, seq: 1, records };
    let all = (0..100).map(|number| join_of(10_000 + number, large.clone())).collect();
    cph.link_opened("osl-1");
    let refused = cph.apply("osl-1", snapshot(all), NOW).unwrap_err();
    assert_eq!(refused, MergeError::TooMuch { from: "osl-1".into() });
    let left =
        |number| ParticipantRecord { state: RecordState::Removed, ticket: None, ..join_of(number, body("")) };
    let refused = cph.apply("osl-1", snapshot((20_000..30_000).map(left).collect()), NOW).unwrap_err();
    assert_eq!(refused, MergeError::TooMany { from: "osl-1".into() });
}

#[test]
fn one_node_makes_another_store_a_bounded_number_of_bytes_over_all_rooms() {
    const ROOMS: usize = 40;
    let large = Bytes::from(vec![0; MAX_BODY]);
    let totals = Arc::<ReplicaTotals>::default();
    let mut rooms: Vec<_> = (0..ROOMS).map(|_| RoomState::with_totals("cph-1", 1, totals.clone())).collect();
    let too_much = MergeError::TooMuch { from: "sto-1".into() };
    let single = |number: usize| {
        let (seq, record) = (number as u64 + 1, join_of(number, large.clone()));
        Update::Participant { owner: "sto-1".into(), incarnation: 7, seq, record }
    };
    let snapshot = |owner: &str| {
        let records =
            (0..MAX_OWNED_BYTES / MAX_BODY - 1).map(|number| join_of(number, large.clone())).collect();
        Update::Snapshot { owner: owner.into(), incarnation: 7, seq: 1, records }
    };
    let (mut stored, mut refused) = (0, 0);
    for (number, room) in rooms.iter_mut().enumerate() {
        if number % 2 == 0 {
            match room.apply("sto-1", snapshot("sto-1"), NOW) {
                Ok(_) => stored += MAX_OWNED_BYTES - 2 * MAX_BODY,
                Err(error) => {
                    assert_eq!(error, too_much);
                    refused += 1;
                }
            }
        }
        // As many more as fit.
        while room.apply("sto-1", single(1_000 + stored / MAX_BODY), NOW).is_ok() {
            stored += MAX_BODY;
        }
    }
    assert!(refused > 0 && stored <= MAX_OWNED_BYTES_OF_ALL_ROOMS, "{stored} bytes");
    assert!(stored > MAX_OWNED_BYTES_OF_ALL_ROOMS / 2, "{stored} bytes");
    let last = rooms.last_mut().unwrap();
    assert_eq!(last.apply("sto-1", single(9_000), NOW).unwrap_err(), too_much);
    // Another node is not affected.
    assert!(!last.apply("osl-1", snapshot("osl-1"), NOW).unwrap().changes.is_empty());
    // Rooms that end leave space.
    rooms.drain(..ROOMS / 2);
    let last = rooms.last_mut().unwrap();
    assert_eq!(last.apply("sto-1", single(9_000), NOW).unwrap().changes.len(), 1);
}

#[test]
fn a_room_of_a_thousand_on_one_node_fits_while_all_rejoin() {
    let (mut cph, mut sto) = (RoomState::new("cph-1", 1), RoomState::new("sto-1", 1));
    // A participant with 8 tracks has about 3 KB, and its ticket 1 KB.
    for number in 0..2_000_u64 {
        let identity = format!("student-{}@alumni.ku.dk", number / 2);
        let (body, ticket) = (Bytes::from(vec![0; 3_000]), Bytes::from(vec![0; 1_000]));
        let joined = cph.local_join(format!("PA_{number}"), identity, 10 + number, body, ticket);
        sto.apply("cph-1", joined.unwrap().0, ANY_TIME).unwrap();
    }
    assert_eq!(sto.participants().count(), 1_000);
}

#[test]
fn only_its_media_node_may_write_a_participant() {
    let (_, mut sto, join) = pair();
    let refused = sto.apply("aws-sto-1", join.clone(), ANY_TIME).unwrap_err();
    assert_eq!(refused, MergeError::NotOwner { from: "aws-sto-1".into(), owner: "cph-1".into() });
    sto.apply("cph-1", join, ANY_TIME).unwrap();
    // A node that writes the id as its own participant, or in this node's name, is refused too.
    let Update::Participant { record, .. } =
        RoomState::new("x", 1).local_join("PA_a1", "eve", 99, body(""), Bytes::new()).unwrap().0
    else {
        unreachable!()
    };
    let forged = |owner: &str| Update::Participant {
        owner: owner.into(),
        incarnation: 9,
        seq: 9,
        record: record.clone(),
    };
    assert!(matches!(
        sto.apply("aws-sto-1", forged("aws-sto-1"), ANY_TIME),
        Err(MergeError::SidTaken { .. })
    ));
    assert!(matches!(sto.apply("cph-1", forged("cph-1"), ANY_TIME), Err(MergeError::Rewritten { .. })));
    assert!(matches!(sto.apply("cph-1", forged("sto-1"), ANY_TIME), Err(MergeError::OwnName { .. })));
    assert_eq!(sto.by_identity("ada").unwrap().sid, "PA_a1");
}

#[test]
fn a_newer_join_of_an_identity_evicts_the_older_one_at_its_own_node() {
    let (mut cph, mut sto, ada_at_cph) = pair();
    let (ada_at_sto, _) = sto.local_join("PA_a2", "ada", 11, body("new"), Bytes::new()).unwrap();
    // sto-1 receives the older join: nothing changes and nothing is evicted here.
    assert_eq!(sto.apply("cph-1", ada_at_cph.clone(), ANY_TIME).unwrap().changes, []);
    let changes = cph.apply("sto-1", ada_at_sto, ANY_TIME).unwrap().changes;
    let [
        Change::Left { sid, .. },
        Change::Joined(joined),
        Change::Evicted { sid: evicted, winner, tombstone, .. },
    ] = changes.as_slice()
    else {
        panic!("{changes:?}")
    };
    assert_eq!((&**sid, &*joined.sid, &**evicted, &**winner), ("PA_a1", "PA_a2", "PA_a1", "PA_a2"));
    sto.apply("cph-1", tombstone.clone(), ANY_TIME).unwrap();
    let (_, left) = sto.local_remove("PA_a2").unwrap();
    assert_eq!(left.len(), 1);
    // The old update does not restore the evicted participant.
    assert_eq!(sto.apply("cph-1", ada_at_cph, ANY_TIME).unwrap().changes, []);
    assert_eq!(names(&sto), Vec::<Sid>::new());
}

#[test]
fn joins_with_equal_epochs_have_the_same_winner_on_all_replicas() {
    let (mut cph, mut sto, ada_at_cph) = pair();
    let (ada_at_sto, _) = sto.local_join("PA_a2", "ada", 10, body("new"), Bytes::new()).unwrap();
    cph.apply("sto-1", ada_at_sto, ANY_TIME).unwrap();
    sto.apply("cph-1", ada_at_cph, ANY_TIME).unwrap();
    assert_eq!((names(&cph), names(&sto)), (vec!["PA_a2".to_string()], vec!["PA_a2".to_string()]));
}

#[test]
fn a_second_join_on_the_same_node_evicts_the_first_at_once() {
    let (mut cph, ..) = pair();
    let epoch = next_epoch(&cph, "ada", 0, 5);
    assert_eq!(epoch, 11, "not greater than the known epoch");
    let (_, changes) = cph.local_join("PA_a2", "ada", epoch, body(""), Bytes::new()).unwrap();
    assert!(matches!(changes.last(), Some(Change::Evicted { sid, .. }) if sid == "PA_a1"));
    assert_eq!(cph.local_update("PA_a1", body("")), Err(LocalError::NotHere("PA_a1".into())));
    assert_eq!(
        cph.local_join("PA_a1", "bob", 1, body(""), Bytes::new()).unwrap_err(),
        LocalError::SidTaken("PA_a1".into())
    );
}

#[test]
fn participants_of_a_lost_node_leave_and_do_not_return_with_an_older_state() {
    let (mut cph, mut sto, join) = pair();
    let (update, _) = cph.local_update("PA_a1", body("v1")).unwrap();
    sto.apply("cph-1", update, ANY_TIME).unwrap();
    assert!(matches!(sto.lose_node("cph-1").as_slice(), [Change::Left { .. }]));
    assert_eq!(
        sto.apply("cph-1", join, ANY_TIME).unwrap().changes,
        [],
        "a late update of an older version was applied"
    );
    for update in cph.snapshot() {
        sto.apply("cph-1", update, ANY_TIME).unwrap();
    }
    assert_eq!(sto.by_identity("ada").unwrap().body, "v1");
    assert_eq!(sto.lose_node("nobody"), []);
    assert_eq!(sto.lose_node("sto-1"), []);
}

#[test]
fn a_snapshot_repairs_the_loss_of_an_update() {
    let (mut cph, mut sto, join) = pair();
    sto.apply("cph-1", join.clone(), ANY_TIME).unwrap();
    cph.local_remove("PA_a1").unwrap();
    cph.local_join("PA_b1", "bob", 20, body(""), Bytes::new()).unwrap();
    for update in cph.snapshot() {
        sto.apply("cph-1", update, ANY_TIME).unwrap();
    }
    assert_eq!(names(&sto), ["PA_b1"]);
    assert_eq!(sto.apply("cph-1", join, ANY_TIME).unwrap().changes, []);
}

#[test]
fn participants_of_an_earlier_incarnation_leave() {
    for incarnation in [0, 2] {
        let (_, mut sto, join) = pair();
        sto.apply("cph-1", join.clone(), ANY_TIME).unwrap();
        let mut restarted = RoomState::new("cph-1", incarnation);
        let (bob, _) = restarted.local_join("PA_b1", "bob", 20, body(""), Bytes::new()).unwrap();
        assert_eq!(sto.apply("cph-1", bob.clone(), ANY_TIME).unwrap().changes, [], "it is not announced yet");
        let snapshot = restarted.snapshot().remove(0);
        assert_eq!(
            sto.apply("cph-1", snapshot.clone(), ANY_TIME).unwrap().changes,
            [],
            "its link has not opened"
        );
        sto.link_opened("cph-1");
        let changes = sto.apply("cph-1", snapshot, ANY_TIME).unwrap().changes;
        assert_eq!(changes.len(), 2, "ada left, bob joined: {changes:?}");
        for late in [join, bob, RoomState::new("cph-1", 1).snapshot().remove(0)] {
            assert_eq!(sto.apply("cph-1", late, ANY_TIME).unwrap().changes, [], "a late update was applied");
        }
        assert_eq!(names(&sto), ["PA_b1"]);
    }
}

#[test]
fn after_a_rejoin_and_a_leave_the_earlier_join_on_a_dead_node_is_not_shown() {
    let (_dead, mut sto, join) = pair();
    sto.apply("cph-1", join, ANY_TIME).unwrap();
    // Her node dies. She joins here before that is detected, and leaves.
    let epoch = next_epoch(&sto, "ada", 0, 11);
    sto.local_join("PA_a2", "ada", epoch, body("back"), Bytes::new()).unwrap();
    assert_eq!(names(&sto), ["PA_a2"]);
    let (_, changes) = sto.local_remove("PA_a2").unwrap();
    assert!(matches!(changes.as_slice(), [Change::Left { sid, .. }] if sid == "PA_a2"), "{changes:?}");
    assert_eq!(names(&sto), [""; 0], "the earlier join is shown");
    assert_eq!(sto.by_sid("PA_a1"), None);
    let epoch = next_epoch(&sto, "ada", 0, 12);
    sto.local_join("PA_a3", "ada", epoch, body("again"), Bytes::new()).unwrap();
    assert_eq!(names(&sto), ["PA_a3"]);
}

#[test]
fn the_number_of_tombstones_is_bounded() {
    let mut cph = RoomState::new("cph-1", 1);
    for n in 0..MAX_TOMBSTONES + 50 {
        let sid = format!("PA_{n}");
        cph.local_join(sid.as_str(), sid.as_str(), 1, body(""), Bytes::new()).unwrap();
        cph.local_remove(&sid).unwrap();
    }
    let updates = cph.snapshot();
    let [Update::Snapshot { records, .. }] = updates.as_slice() else { panic!("{updates:?}") };
    assert_eq!(records.len(), MAX_TOMBSTONES);
    assert_eq!((cph.sids.len(), cph.owner_of.len()), (MAX_TOMBSTONES, MAX_TOMBSTONES));
}

#[test]
fn an_update_beyond_a_limit_is_refused_and_not_stored() {
    let (_, mut sto, _) = pair();
    let big = Bytes::from(vec![0; MAX_BODY + 1]);
    let mut cph = RoomState::new("cph-1", 1);
    assert!(matches!(
        cph.local_join("PA_a", "ada", 1, big.clone(), Bytes::new()),
        Err(LocalError::Limit(MergeError::TooLarge { .. }))
    ));
    let record = |sid: &str, state| ParticipantRecord {
        sid: sid.into(),
        identity: "ada".into(),
        version: ParticipantVersion { epoch: 1, counter: 0 },
        state,
        ticket: None,
    };
    let update =
        |record| Update::Snapshot { owner: "cph-1".into(), incarnation: 1, seq: 1, records: vec![record] };
    let mut refused = |record| sto.apply("cph-1", update(record), ANY_TIME).unwrap().refused;
    let too_large = refused(record("PA_a", RecordState::Live(big)));
    assert!(matches!(too_large.as_slice(), [MergeError::TooLarge { .. }]), "{too_large:?}");
    let malformed = refused(record("", RecordState::Removed));
    assert!(matches!(malformed.as_slice(), [MergeError::Malformed(_)]), "{malformed:?}");
    assert!(sto.owner_of.is_empty() && sto.sids.is_empty());
}

#[test]
fn metadata_is_written_by_the_home_node_and_fenced_by_the_epoch() {
    let (mut cph, mut sto, _) = pair();
    assert_eq!(cph.set_metadata(body("x")), Err(LocalError::NotHome));
    cph.set_home("cph-1", 1);
    let first = cph.set_metadata(body("lecture")).unwrap();
    assert!(matches!(sto.apply("cph-1", first.clone(), ANY_TIME), Err(MergeError::UnknownEpoch { .. })));
    sto.set_home("cph-1", 1);
    assert_eq!(
        sto.apply("cph-1", first.clone(), ANY_TIME).unwrap().changes,
        [Change::Metadata(body("lecture"))]
    );
    assert_eq!(sto.apply("cph-1", first.clone(), ANY_TIME).unwrap().changes, []);
    assert!(matches!(sto.apply("aws-sto-1", first.clone(), ANY_TIME), Err(MergeError::NotHome { .. })));

    let restated = sto.set_home("sto-1", 2).unwrap();
    assert!(matches!(
        sto.apply("cph-1", first, ANY_TIME),
        Err(MergeError::OldEpoch { epoch: 1, known: 2, .. })
    ));
    assert_eq!(cph.set_home("sto-1", 2), None);
    assert_eq!(
        cph.apply("sto-1", restated, ANY_TIME).unwrap().changes,
        [],
        "an equal value in a new epoch was reported as a change"
    );
    assert_eq!(cph.set_metadata(body("old home")), Err(LocalError::NotHome));
    let second = sto.set_metadata(body("exam")).unwrap();
    cph.apply("sto-1", second, ANY_TIME).unwrap();
    assert_eq!((cph.metadata(), cph.home()), (Some(&body("exam")), Some(("sto-1", 2))));
    assert_eq!(cph.set_home("cph-1", 1), None);
    assert_eq!(cph.home(), Some(("sto-1", 2)), "an old assignment was not ignored");
}

#[test]
fn a_home_that_restarts_in_its_epoch_writes_metadata_whatever_its_incarnation_is() {
    let (mut cph, mut sto, _) = pair();
    cph.set_home("cph-1", 1);
    sto.set_home("cph-1", 1);
    sto.apply("cph-1", cph.snapshot().remove(0), ANY_TIME).unwrap();
    let first = cph.set_metadata(body("lecture")).unwrap();
    sto.apply("cph-1", first.clone(), ANY_TIME).unwrap();
    let mut restarted = RoomState::new("cph-1", 0);
    restarted.set_home("cph-1", 1);
    let second = restarted.set_metadata(body("exam")).unwrap();
    sto.link_opened("cph-1");
    for update in restarted.snapshot() {
        sto.apply("cph-1", update, ANY_TIME).unwrap();
    }
    assert_eq!(sto.metadata(), Some(&body("exam")));
    for late in [first, second] {
        assert_eq!(sto.apply("cph-1", late, ANY_TIME).unwrap().changes, []);
    }
    assert_eq!(sto.metadata(), Some(&body("exam")));
}

#[test]
fn a_late_snapshot_does_not_remove_a_participant_that_joined_after_it() {
    let (mut cph, mut sto, _) = pair();
    let early = cph.snapshot();
    let (bob, _) = cph.local_join("PA_b1", "bob", 20, body(""), Bytes::new()).unwrap();
    sto.apply("cph-1", bob, ANY_TIME).unwrap();
    for update in early {
        sto.apply("cph-1", update, ANY_TIME).unwrap();
    }
    assert_eq!(names(&sto), ["PA_a1", "PA_b1"]);
}

#[test]
fn an_update_from_before_a_snapshot_does_not_restore_a_participant_without_a_tombstone() {
    let (mut cph, mut sto, ada) = pair();
    let early = cph.snapshot();
    cph.local_remove("PA_a1").unwrap();
    for n in 0..=MAX_TOMBSTONES {
        let sid = format!("PA_{n}");
        cph.local_join(sid.as_str(), sid.as_str(), 1, body(""), Bytes::new()).unwrap();
        cph.local_remove(&sid).unwrap();
    }
    for update in cph.snapshot() {
        sto.apply("cph-1", update, ANY_TIME).unwrap();
    }
    for late in early.into_iter().chain([ada]) {
        assert_eq!(sto.apply("cph-1", late, ANY_TIME).unwrap().changes, []);
    }
    assert_eq!(names(&sto), Vec::<Sid>::new());
}

#[test]
fn a_join_from_the_future_is_refused() {
    let mut cph = RoomState::new("cph-1", NOW);
    let mut hostile = RoomState::new("sto-1", NOW);
    cph.local_join("PA_ada", "ada", NOW, body("here"), Bytes::new()).unwrap();
    let far = NOW + MAX_AHEAD_MS + 1;
    let (forged, _) = hostile.local_join("PA_hostile", "ada", far, body("there"), Bytes::new()).unwrap();
    let refused = cph.apply("sto-1", forged, NOW).unwrap_err();
    assert_eq!((refused.reason(), names(&cph)), (Reason::StateFutureTime, vec!["PA_ada".to_owned()]));
    let snapshot = hostile.snapshot().remove(0);
    let refused = cph.apply("sto-1", snapshot, NOW).unwrap().refused;
    assert_eq!(refused, [MergeError::FromTheFuture { from: "sto-1".into() }]);
    // A clock that is slightly ahead does no harm: the next join here still wins.
    let mut fast = RoomState::new("oslo-1", NOW);
    let (early, _) = fast.local_join("PA_fast", "ada", NOW + 60_000, body("there"), Bytes::new()).unwrap();
    cph.apply("oslo-1", early, NOW).unwrap();
    assert_eq!(names(&cph), ["PA_fast"]);
    let epoch = next_epoch(&cph, "ada", 0, NOW + 5);
    cph.local_join("PA_again", "ada", epoch, body("again"), Bytes::new()).unwrap();
    assert_eq!(names(&cph), ["PA_again"]);
}

/// `cph-1`, where ada has been since [`NOW`]; `sto-1`; and the time on `sto-1`, whose clock is `ms` behind 5
/// s later.
fn behind(ms: u64) -> (RoomState, RoomState, u64) {
    let mut cph = RoomState::new("cph-1", 1);
    cph.local_join("PA_old", "ada", NOW, body("old"), Bytes::new()).unwrap();
    (cph, RoomState::new("sto-1", 1), NOW + 5_000 - ms)
}

#[test]
fn a_later_join_wins_on_a_node_whose_clock_is_minutes_behind_and_whose_link_is_not_open_yet() {
    let (mut cph, mut sto, there) = behind(200_000);
    // Ada joins through `cph-1` as gateway, which knows her earlier join.
    let gateway_join = cph.last_join("ada").unwrap();
    let epoch = next_epoch(&sto, "ada", gateway_join, there);
    let (update, _) = sto.local_join("PA_new", "ada", epoch, body("new"), Bytes::new()).unwrap();
    let changes = cph.apply("sto-1", update, NOW + 5_000).unwrap().changes;
    assert!(changes.iter().any(|change| matches!(change, Change::Evicted { sid, .. } if sid == "PA_old")));
    assert_eq!(names(&cph), ["PA_new"]);
    assert_eq!(names(&sto), ["PA_new"]);
    // Then she joins at `cph-1` again. `sto-1` accepts that once its clock is correct.
    let epoch = next_epoch(&cph, "ada", 0, NOW + 5_000);
    let (update, _) = cph.local_join("PA_back", "ada", epoch, body("back"), Bytes::new()).unwrap();
    assert_eq!(names(&cph), ["PA_back"]);
    assert!(sto.apply("cph-1", update, NOW + 5_000).unwrap().changes.len() > 1);
    assert_eq!(names(&sto), ["PA_back"]);
}

#[test]
fn a_ticket_stays_until_another_one_is_written() {
    let ticket_in = |update: &Update| match update {
        Update::Participant { record, .. } => record.ticket.clone(),
        Update::Snapshot { records, .. } => records[0].ticket.clone(),
        Update::Metadata { .. } => None,
    };
    let (mut cph, mut sto) = (RoomState::new("cph-1", 1), RoomState::new("sto-1", 1));
    let (join, _) = cph.local_join("PA_a1", "ada", 10, body("v0"), body("first")).unwrap();
    assert_eq!(ticket_in(&join), Some(body("first")));
    sto.apply("cph-1", join, ANY_TIME).unwrap();
    let (update, _) = cph.local_update("PA_a1", body("v1")).unwrap();
    assert_eq!(ticket_in(&update), None);
    assert_eq!(ticket_in(&cph.snapshot()[0]), Some(body("first")));
    sto.apply("cph-1", update, ANY_TIME).unwrap();
    let (renewal, changes) = cph.local_renewal("PA_a1", body("v1"), body("second")).unwrap();
    assert_eq!((ticket_in(&renewal), changes), (Some(body("second")), Vec::new()));
    assert_eq!(sto.apply("cph-1", renewal, ANY_TIME).unwrap().changes, [], "a renewal is shown");
    assert_eq!(ticket_in(&cph.snapshot()[0]), Some(body("second")));
    assert_eq!(sto.by_sid("PA_a1").map(|one| one.version), cph.by_sid("PA_a1").map(|one| one.version));
}

#[test]
fn a_refused_record_of_a_snapshot_changes_nothing_and_the_others_are_applied() {
    let (mut cph, mut sto, join) = pair();
    sto.apply("cph-1", join, ANY_TIME).unwrap();
    cph.local_join("PA_b1", "bob", 20, body(""), Bytes::new()).unwrap();
    cph.local_update("PA_a1", body("v1")).unwrap();
    let Update::Snapshot { owner, incarnation, seq, mut records } = cph.snapshot().remove(0) else {
        unreachable!()
    };
    for record in &mut records {
        if record.sid == "PA_a1" {
            record.identity = "eve".to_owned();
            record.state = RecordState::Refused;
        }
    }
    sto.apply("cph-1", Update::Snapshot { owner, incarnation, seq, records }, ANY_TIME).unwrap();
    assert_eq!(names(&sto), ["PA_a1", "PA_b1"]);
    assert_eq!(sto.by_identity("ada").unwrap().body, "v0");
}

#[test]
fn a_lost_participant_returns_with_a_newer_write() {
    let (mut cph, mut sto, join) = pair();
    sto.apply("cph-1", join, ANY_TIME).unwrap();
    assert!(matches!(sto.lose_participant("cph-1", "PA_a1").as_slice(), [Change::Left { .. }]));
    assert_eq!(sto.lose_participant("cph-1", "PA_a1"), []);
    let (update, _) = cph.local_update("PA_a1", body("v1")).unwrap();
    assert!(matches!(sto.apply("cph-1", update, ANY_TIME).unwrap().changes.as_slice(), [Change::Joined(_)]));
}

#[test]
fn a_snapshot_is_applied_without_the_records_that_are_refused() {
    let (mut cph, _, _) = pair();
    let mut sto = RoomState::new("sto-1", 1);
    // `PA_taken` is of chen here, and the clock of a gateway of `sto-1` is far ahead.
    cph.local_join("PA_taken", "chen", NOW, body("here"), Bytes::new()).unwrap();
    sto.local_join("PA_taken", "eve", NOW, body("there"), Bytes::new()).unwrap();
    sto.local_join("PA_late", "gita", NOW + MAX_AHEAD_MS + 1, body("there"), Bytes::new()).unwrap();
    sto.local_join("PA_b1", "bob", NOW, body("there"), Bytes::new()).unwrap();
    let applied = cph.apply("sto-1", sto.snapshot().remove(0), NOW).unwrap();
    let reasons: Vec<Reason> = applied.refused.iter().map(MergeError::reason).collect();
    assert_eq!(reasons, [Reason::StateFutureTime, Reason::StateSidTaken]);
    assert_eq!(names(&cph), ["PA_a1", "PA_b1", "PA_taken"]);
    assert_eq!(cph.by_sid("PA_taken").unwrap().identity, "chen");
    // What it knows of a participant stays, whatever the snapshot says of it.
    let Update::Snapshot { owner, incarnation, mut records, .. } = sto.snapshot().remove(0) else {
        unreachable!()
    };
    records.retain(|record| record.sid == "PA_b1");
    records[0].identity = "hans".to_owned();
    let rewritten = Update::Snapshot { owner, incarnation, seq: 9, records };
    let refused = cph.apply("sto-1", rewritten, NOW).unwrap().refused;
    assert!(matches!(refused.as_slice(), [MergeError::Rewritten { .. }]), "{refused:?}");
    assert_eq!(cph.by_sid("PA_b1").unwrap().identity, "bob");
}
