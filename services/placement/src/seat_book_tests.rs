use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn request<'a>(room: &'a str, identity: &'a str, join_id: &'a str) -> SeatRequest<'a> {
    SeatRequest { institution: "ku.dk", room, identity, join_id, elsewhere: 0 }
}

#[test]
fn one_token_takes_no_more_seats_of_a_room_than_its_quota() {
    let now = Instant::now();
    let mut book = SeatBook::new(10, SeatQuotas::default());
    for (identity, join) in [("anna", "1"), ("anna#screen", "2"), ("anna#slides", "3"), ("anna#x", "4")] {
        book.reserve(request("physics", identity, join), now).unwrap();
    }
    let refused = book.reserve(request("physics", "anna#y", "5"), now).unwrap_err();
    assert_eq!(refused.reason, Reason::IdentityQuota);
    assert_eq!(book.reserve(request("physics", "anna", "6"), now).unwrap_err().reason, Reason::IdentityQuota);
    assert!(book.reserve(request("physics", "anna", "1"), now).is_ok(), "the same join asks again");
    assert!(book.reserve(request("law", "anna", "7"), now).is_ok(), "another room");
    assert!(book.reserve(request("physics", "bo", "8"), now).is_ok(), "another participant");
    book.release("2");
    assert!(book.reserve(request("physics", "anna#y", "9"), now).is_ok());
}

#[test]
fn connections_on_other_nodes_count_for_the_quota_of_a_token() {
    let now = Instant::now();
    let mut book = SeatBook::new(10, SeatQuotas::default());
    let known = |elsewhere| SeatRequest { elsewhere, ..request("physics", "anna", "1") };
    assert_eq!(book.reserve(known(4), now).unwrap_err().reason, Reason::IdentityQuota);
    book.reserve(known(3), now).unwrap();
    // What this gateway relays counts at once, and not twice once the room knows it.
    book.release("1");
    for identity in ["anna", "anna#screen", "anna#slides"] {
        book.relay(request("physics", identity, ""), now).unwrap();
    }
    book.reserve(known(3), now).unwrap();
    assert_eq!(book.relay(request("physics", "anna", ""), now).unwrap_err().reason, Reason::IdentityQuota);
    assert!(book.would_relay(request("physics", "anna", ""), now).is_err());
    book.end_relayed("physics", "anna#slides");
    book.relay(request("physics", "anna#x", ""), now).unwrap();
    assert!(book.relay(request("law", "anna", ""), now).is_ok(), "another room");
    for _ in 0..3 {
        book.end_relayed("physics", "anna");
    }
    book.end_relayed("physics", "anna");
    assert!(book.would_relay(request("physics", "anna", ""), now).is_ok());
}

#[test]
fn an_institution_takes_no_more_seats_than_its_quota_and_leaves_the_others_theirs() {
    let now = Instant::now();
    let quotas = SeatQuotas { institutions: HashMap::from([("ku.dk".to_owned(), 2)]), ..Default::default() };
    let mut book = SeatBook::new(4, quotas);
    for join in ["1", "2"] {
        book.reserve(request("physics", join, join), now).unwrap();
        book.commit("physics", join).unwrap();
    }
    let refused = book.reserve(request("law", "3", "3"), now).unwrap_err();
    assert_eq!(refused.reason, Reason::InstitutionQuota);
    assert!(book.reserve(request("physics", "1", "rejoins"), now).is_ok(), "in exchange for its old seat");
    let other = SeatRequest { institution: "uio.no", ..request("history", "4", "4") };
    assert!(book.reserve(other, now).is_ok());
}

#[test]
fn a_repeated_reservation_takes_one_seat() {
    let now = Instant::now();
    let mut book = SeatBook::new(1, SeatQuotas::default());
    book.reserve(request("physics", "a", "a"), now).unwrap();
    let again = book.reserve(request("physics", "a", "a"), now + Duration::from_secs(9)).unwrap();
    assert_eq!((again.used, again.expires), (1, Some(now + Duration::from_secs(19))));
    assert_eq!(book.reserve(request("law", "a", "a"), now), Err(other_room()));
    assert_eq!(book.reserve(request("physics", "b", "b"), now), Err(full(1, 1)));
}

#[test]
fn a_reservation_expires_unless_it_is_committed() {
    let now = Instant::now();
    let mut book = SeatBook::new(2, SeatQuotas::default());
    book.reserve(request("physics", "commits", "commits"), now).unwrap();
    book.reserve(request("physics", "expires", "expires"), now).unwrap();
    book.commit("physics", "commits").unwrap();
    assert_eq!(book.next_expiry(), Some(now + RESERVATION_TTL));
    assert_eq!(book.expire(now + RESERVATION_TTL), ["expires"]);
    assert_eq!((book.used(), book.used_by("physics"), book.next_expiry()), (1, 1, None));
    assert_eq!(book.commit("physics", "expires"), Err(NoReservation));
    assert!(book.release("commits") && !book.release("commits"));
}

#[test]
fn a_draining_node_keeps_its_seats_and_admits_no_new_participant() {
    let now = Instant::now();
    let mut book = SeatBook::new(2, SeatQuotas::default());
    book.reserve(request("physics", "a", "a"), now).unwrap();
    book.set_draining(true);
    assert_eq!(book.reserve(request("physics", "b", "b"), now), Err(draining()));
    assert!(book.reserve(request("physics", "a", "a"), now).is_ok());
    assert!(book.commit("physics", "a").is_ok());
}

#[test]
fn a_lowered_capacity_removes_no_participant() {
    let now = Instant::now();
    let mut book = SeatBook::new(3, SeatQuotas::default());
    for join in ["a", "b", "c"] {
        book.reserve(request("physics", join, join), now).unwrap();
        book.commit("physics", join).unwrap();
    }
    book.set_capacity(1);
    assert_eq!(book.used(), 3);
    book.release("a");
    assert_eq!(book.reserve(request("physics", "d", "d"), now), Err(full(1, 2)));
}

#[test]
fn a_participant_that_rejoins_a_full_node_gets_a_seat_in_exchange_for_its_old_one() {
    let now = Instant::now();
    let mut book = SeatBook::new(2, SeatQuotas::default());
    for (identity, join) in [("anna", "1"), ("bo", "2")] {
        book.reserve(request("physics", identity, join), now).unwrap();
        book.commit("physics", join).unwrap();
    }
    let full = Err(full(2, 2));
    assert_eq!(book.reserve(request("physics", "chen", "3"), now), full);
    assert_eq!(
        book.reserve(request("law", "anna", "4"), now),
        full,
        "a seat in another room gives none in this one"
    );
    assert_eq!(book.reserve(request("physics", "anna", "5"), now).unwrap().used, 2);
    assert_eq!(book.reserve(request("physics", "anna", "6"), now), full, "one seat for one seat");
    book.commit("physics", "5").unwrap();
    assert!(book.release("1"), "the room keeps the newer one");
    assert_eq!((book.used(), book.reserve(request("physics", "chen", "7"), now)), (2, full));
    assert!(book.release("5"));
    assert_eq!(book.used(), 1);
}

#[test]
fn an_exchange_that_expires_leaves_the_old_seat() {
    let now = Instant::now();
    let mut book = SeatBook::new(1, SeatQuotas::default());
    book.reserve(request("physics", "anna", "1"), now).unwrap();
    assert!(
        book.reserve(request("physics", "anna", "2"), now).is_err(),
        "the first reservation is not committed yet"
    );
    book.commit("physics", "1").unwrap();
    book.reserve(request("physics", "anna", "3"), now).unwrap();
    assert_eq!(book.expire(now + RESERVATION_TTL), ["3"]);
    assert_eq!(book.used(), 1);
    book.release("1");
    assert_eq!(book.used(), 0);
    assert!(book.reserve(request("physics", "bo", "4"), now).is_ok());
}

#[derive(Debug, Clone)]
enum Op {
    Reserve(u8, u8),
    Commit(u8),
    Release(u8),
    Expire,
    Wait(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3u8, 0..12u8).prop_map(|(room, join)| Op::Reserve(room, join)),
        2 => (0..12u8).prop_map(Op::Commit),
        1 => (0..12u8).prop_map(Op::Release),
        1 => Just(Op::Expire),
        2 => (0..8_000u16).prop_map(Op::Wait),
    ]
}

proptest! {
    /// Against a model that keeps (room, deadline) per join.
    #[test]
    fn seats_used_never_exceed_the_capacity(capacity in 0..6u32, ops in prop::collection::vec(op(), 1..200)) {
        let mut now = Instant::now();
        let mut book = SeatBook::new(capacity, SeatQuotas::default());
        let mut model: HashMap<u8, (u8, Option<Instant>)> = HashMap::new();
        for op in ops {
            match op {
                Op::Reserve(room, join) => {
                    model.retain(|_, (_, until)| until.is_none_or(|until| until > now));
                    let answer = book.reserve(request(&room.to_string(), &join.to_string(), &join.to_string()), now);
                    let is_full = model.len() as u32 >= capacity;
                    match model.get_mut(&join) {
                        Some((held, _)) if *held != room => prop_assert_eq!(answer, Err(other_room())),
                        Some((_, until)) => {
                            if until.is_some() { *until = Some(now + RESERVATION_TTL) }
                            prop_assert_eq!(answer.unwrap().expires, *until);
                        }
                        None if is_full => {
                            prop_assert_eq!(answer, Err(full(capacity, capacity)))
                        }
                        None => {
                            prop_assert!(answer.is_ok());
                            model.insert(join, (room, Some(now + RESERVATION_TTL)));
                        }
                    }
                }
                Op::Commit(join) => {
                    let room = model.get(&join).map_or(0, |(room, _)| *room);
                    let held = model.get(&join).is_some_and(|(_, until)| until.is_some());
                    prop_assert_eq!(book.commit("another room", &join.to_string()), Err(NoReservation));
                    let answer = book.commit(&room.to_string(), &join.to_string());
                    prop_assert_eq!(answer.is_ok(), held, "one reservation admits one participant");
                    if let Some((_, until)) = model.get_mut(&join) { *until = None }
                }
                Op::Release(join) => {
                    prop_assert_eq!(book.release(&join.to_string()), model.remove(&join).is_some());
                }
                Op::Expire => {
                    model.retain(|_, (_, until)| until.is_none_or(|until| until > now));
                    book.expire(now);
                }
                Op::Wait(ms) => now += Duration::from_millis(ms.into()),
            }
            prop_assert!(book.used() <= capacity);
            prop_assert_eq!(book.used() as usize, model.len());
            prop_assert_eq!(book.next_expiry(), model.values().filter_map(|(_, until)| *until).min());
        }
    }
}
