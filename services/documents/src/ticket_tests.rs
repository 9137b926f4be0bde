use proptest::prelude::*;

use super::*;

/// Some time, Unix milliseconds.
const NOW: u64 = 1_800_000_000_000;

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&format!("cph-{number}/2026"), [number; 32]).unwrap()
}

fn ticket() -> Ticket {
    Ticket {
        gateway: "cph-1".to_owned(),
        institution: "ku.dk".to_owned(),
        room: "a3UuZGs/bGVjdHVyZQ".to_owned(),
        room_sid: "RM_x".to_owned(),
        identity: "Åse L.".to_owned(),
        participant_sid: "PA_a1".to_owned(),
        join_number: NOW,
        kind: 0,
        hidden: false,
        recorder: false,
        permissions: [TicketPermission::Publish, TicketPermission::Subscribe].into(),
        sources: Some([TicketSource::Camera, TicketSource::Microphone].into()),
        media_node: "sto-1".to_owned(),
        issued_ms: NOW,
        not_after_ms: NOW + MAX_TICKET_LIFE_MS,
    }
}

fn with(change: impl FnOnce(&mut Ticket)) -> Ticket {
    let mut changed = ticket();
    change(&mut changed);
    changed
}

#[test]
fn a_ticket_is_read_with_one_of_its_gateways_keys() {
    let note = ticket().sign(&key(1)).unwrap();
    assert_eq!(Ticket::verify(&note, &[key(2).public(), key(1).public()]), Ok(ticket()));
    assert_eq!(Ticket::verify(&note, &[key(2).public()]), Err(TicketRefused::Signature));
    assert_eq!(Ticket::verify(&note, &[]), Err(TicketRefused::Signature));
    // A directory may give the key another name.
    let renamed = PublicKey::new("node", *key(1).public().as_bytes()).unwrap();
    assert_eq!(Ticket::verify(&note, &[renamed]), Ok(ticket()));
}

#[test]
fn a_ticket_has_one_signature() {
    let mut note = Note::parse(&ticket().sign(&key(1)).unwrap()).unwrap();
    note.add_signature(&key(2)).unwrap();
    let keys = [key(1).public(), key(2).public()];
    assert_eq!(Ticket::verify(&note.to_string(), &keys), Err(TicketRefused::Signatures(2)));
}

#[test]
fn a_check_comes_before_the_signature_and_its_error_is_returned() {
    let note = ticket().sign(&key(1)).unwrap();
    let refused = Ticket::verify_if(&note, |_| Err::<Vec<PublicKey>, _>(TicketRefused::Expired));
    assert_eq!(refused, Err(TicketRefused::Expired));
    let keys = || Ok::<_, TicketRefused>(vec![key(1).public()]);
    assert_eq!(Ticket::verify_if(&note, |_| keys()), Ok((ticket(), key(1).public())));
}

#[test]
fn only_a_current_ticket_counts() {
    let at = |now| ticket().check_time(now);
    assert_eq!(at(NOW), Ok(()));
    assert_eq!(at(NOW + TICKET_CLOCK_MS), Ok(()));
    assert_eq!(at(NOW - TICKET_CLOCK_MS), Ok(()));
    assert_eq!(at(NOW + TICKET_CLOCK_MS + 1), Err(TicketRefused::NotCurrent(300)));
    assert_eq!(at(NOW - TICKET_CLOCK_MS - 1_000), Err(TicketRefused::NotCurrent(301)));
    // The media node shows it to others until it is renewed.
    let shown_at = |now| ticket().check_shown(now);
    let oldest = NOW + TICKET_RENEWAL_MS.end + TICKET_CLOCK_MS;
    assert_eq!([NOW - TICKET_CLOCK_MS, oldest].map(shown_at), [Ok(()), Ok(())]);
    assert_eq!(shown_at(oldest + 1), Err(TicketRefused::NotCurrent(480)));
    assert_eq!(shown_at(NOW - TICKET_CLOCK_MS - 1_000), Err(TicketRefused::NotCurrent(301)));
    let short = with(|ticket| ticket.not_after_ms = NOW + 10);
    assert_eq!(short.check_shown(NOW + 10), Err(TicketRefused::Expired));
    assert_eq!(short.check_time(NOW + 9), Ok(()));
    assert_eq!(short.check_time(NOW + 10), Err(TicketRefused::Expired));
    assert_eq!(short.check_past(NOW + 100 * TICKET_CLOCK_MS), Ok(()));
    assert!(short.check_past(NOW - TICKET_CLOCK_MS - 1).is_err());
}

#[test]
fn a_renewed_ticket_differs_in_its_times_only() {
    let renewed = with(|ticket| (ticket.issued_ms, ticket.not_after_ms) = (NOW + 1, NOW + 2));
    assert!(renewed.renews(&ticket()));
    for other in [
        with(|ticket| ticket.identity = "eve".to_owned()),
        with(|ticket| ticket.hidden = true),
        with(|ticket| ticket.join_number += 1),
        with(|ticket| ticket.sources = None),
        with(|ticket| ticket.media_node = "cph-1".to_owned()),
    ] {
        assert!(!other.renews(&ticket()));
    }
}

#[test]
fn what_a_ticket_cannot_say_is_not_signed() {
    for wrong in [
        with(|ticket| ticket.identity = String::new()),
        with(|ticket| ticket.identity = "x".repeat(MAX_IDENTITY + 1)),
        with(|ticket| ticket.gateway = "cph 1".to_owned()),
        with(|ticket| ticket.participant_sid = "PA_".to_owned()),
        with(|ticket| ticket.participant_sid = "a1".to_owned()),
        with(|ticket| ticket.room = "a\nb".to_owned()),
        with(|ticket| ticket.not_after_ms += 1),
        with(|ticket| ticket.not_after_ms = ticket.issued_ms),
        with(|ticket| ticket.join_number += MAX_JOIN_AHEAD_MS + 1),
    ] {
        assert!(matches!(wrong.sign(&key(1)), Err(TicketRefused::Text(_))), "{wrong:?}");
    }
    assert!(with(|ticket| ticket.join_number += MAX_JOIN_AHEAD_MS).sign(&key(1)).is_ok());
}

#[test]
fn a_text_has_one_form() {
    let text = ticket().to_text();
    assert_eq!(Ticket::parse(&text), Ok(ticket()));
    for (from, to) in [
        ("hidden no", "hidden false"),
        ("kind 0", "kind 4294967296"),
        ("publish subscribe", "subscribe publish"),
        ("publish subscribe", "publish fly"),
        ("camera microphone", "all camera"),
        ("%C3%85se", "%c3%85se"),
        ("room_sid RM_x\n", ""),
        ("not_after", "extra 1\nnot_after"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(Ticket::parse(&text.replace(from, to)).is_err(), "{to}");
    }
    assert!(Ticket::parse(&format!("{text}x 1\n")).is_err());
}

#[test]
fn the_next_join_wins_against_the_last_one_within_a_limit() {
    assert_eq!(next_join_number(NOW, 0), NOW);
    assert_eq!(next_join_number(NOW, NOW - 5), NOW);
    assert_eq!(next_join_number(NOW, NOW + 5), NOW + 6);
    assert_eq!(next_join_number(NOW, NOW + MAX_JOIN_AHEAD_MS), NOW + MAX_JOIN_AHEAD_MS);
    assert_eq!(next_join_number(NOW, u64::MAX), NOW + MAX_JOIN_AHEAD_MS);
}

fn any_ticket() -> impl Strategy<Value = Ticket> {
    let names =
        ("[a-z0-9][a-z0-9._-]{0,8}", "[a-z0-9][a-z0-9.]{0,8}", "[A-Za-z0-9_-]{1,9}/[A-Za-z0-9_-]{1,9}");
    let sids = ("RM_[A-Za-z0-9]{1,9}", "PA_[A-Za-z0-9]{1,9}", "\\PC{1,12}|[\\x00-\\x7f]{1,12}");
    let permissions = proptest::sample::subsequence(TicketPermission::ALL, 0..=6);
    let sources = proptest::option::of(proptest::sample::subsequence(TicketSource::ALL, 0..=4));
    let numbers = (0..1_u64 << 62, 1..=MAX_TICKET_LIFE_MS, any::<u32>(), any::<[bool; 2]>());
    (names, sids, permissions, sources, numbers).prop_map(|(names, sids, permissions, sources, numbers)| {
        let (issued_ms, life, kind, [hidden, recorder]) = numbers;
        Ticket {
            gateway: names.0.clone(),
            institution: names.1,
            room: names.2,
            room_sid: sids.0,
            identity: sids.2,
            participant_sid: sids.1,
            join_number: issued_ms,
            kind,
            hidden,
            recorder,
            permissions: permissions.into_iter().collect(),
            sources: sources.map(|sources| sources.into_iter().collect()),
            media_node: names.0,
            issued_ms,
            not_after_ms: issued_ms + life,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_no_changed_byte_is_accepted(ticket in any_ticket(), flip in 1_u8..128) {
        let note = ticket.sign(&key(1)).unwrap();
        let keys = [key(1).public()];
        prop_assert_eq!(Ticket::verify(&note, &keys), Ok(ticket));
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= flip;
            if let Ok(changed) = std::str::from_utf8(&changed) {
                prop_assert!(Ticket::verify(changed, &keys).is_err(), "byte {} of {}", at, note);
            }
        }
    }
}
