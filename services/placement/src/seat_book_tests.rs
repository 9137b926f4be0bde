use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[test]
fn a_retried_question_takes_one_seat() {
    let now = Instant::now();
    let mut book = SeatBook::new(1);
    book.reserve("physics", "a", "a", now).unwrap();
    let again = book.reserve("physics", "a", "a", now + Duration::from_secs(9)).unwrap();
    assert_eq!((again.used, again.expires), (1, Some(now + Duration::from_secs(19))));
    assert_eq!(book.reserve("law", "a", "a", now), Err(other_room()));
    assert_eq!(book.reserve("physics", "b", "b", now), Err(full(1, 1)));
}

#[test]
fn a_promise_not_taken_up_falls_free_and_a_taken_one_does_not() {
    let now = Instant::now();
    let mut book = SeatBook::new(2);
    book.reserve("physics", "comes", "comes", now).unwrap();
    book.reserve("physics", "stays away", "stays away", now).unwrap();
    book.commit("physics", "comes").unwrap();
    assert_eq!(book.next_expiry(), Some(now + RESERVATION_TTL));
    assert_eq!(book.expire(now + RESERVATION_TTL), ["stays away"]);
    assert_eq!((book.used(), book.used_by("physics"), book.next_expiry()), (1, 1, None));
    assert_eq!(book.commit("physics", "stays away"), Err(NoReservation));
    assert!(book.release("comes") && !book.release("comes"));
}

#[test]
fn a_draining_node_keeps_its_people_and_admits_nobody() {
    let now = Instant::now();
    let mut book = SeatBook::new(2);
    book.reserve("physics", "a", "a", now).unwrap();
    book.set_draining(true);
    assert_eq!(book.reserve("physics", "b", "b", now), Err(draining()));
    assert!(book.reserve("physics", "a", "a", now).is_ok());
    assert!(book.commit("physics", "a").is_ok());
}

#[test]
fn a_lowered_capacity_sends_nobody_away() {
    let now = Instant::now();
    let mut book = SeatBook::new(3);
    for join in ["a", "b", "c"] {
        book.reserve("physics", join, join, now).unwrap();
        book.commit("physics", join).unwrap();
    }
    book.set_capacity(1);
    assert_eq!(book.used(), 3);
    book.release("a");
    assert_eq!(book.reserve("physics", "d", "d", now), Err(full(1, 2)));
}

#[test]
fn whoever_comes_back_to_a_full_node_exchanges_the_seat_that_they_still_have() {
    let now = Instant::now();
    let mut book = SeatBook::new(2);
    for (who, join) in [("anna", "1"), ("bo", "2")] {
        book.reserve("physics", who, join, now).unwrap();
        book.commit("physics", join).unwrap();
    }
    let full = Err(full(2, 2));
    assert_eq!(book.reserve("physics", "chen", "3", now), full);
    assert_eq!(book.reserve("law", "anna", "4", now), full, "a seat of another room is no seat of this one");
    assert_eq!(book.reserve("physics", "anna", "5", now).unwrap().used, 2);
    assert_eq!(book.reserve("physics", "anna", "6", now), full, "one seat for one seat");
    book.commit("physics", "5").unwrap();
    assert!(book.release("1"), "the room keeps the newer one");
    assert_eq!((book.used(), book.reserve("physics", "chen", "7", now)), (2, full));
    assert!(book.release("5"));
    assert_eq!(book.used(), 1);
}

#[test]
fn an_exchange_that_is_not_taken_up_costs_nobody_a_seat() {
    let now = Instant::now();
    let mut book = SeatBook::new(1);
    book.reserve("physics", "anna", "1", now).unwrap();
    assert!(book.reserve("physics", "anna", "2", now).is_err(), "the first one has not come yet");
    book.commit("physics", "1").unwrap();
    book.reserve("physics", "anna", "3", now).unwrap();
    assert_eq!(book.expire(now + RESERVATION_TTL), ["3"]);
    assert_eq!(book.used(), 1);
    book.release("1");
    assert_eq!(book.used(), 0);
    assert!(book.reserve("physics", "bo", "4", now).is_ok());
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
        let mut book = SeatBook::new(capacity);
        let mut model: HashMap<u8, (u8, Option<Instant>)> = HashMap::new();
        for op in ops {
            match op {
                Op::Reserve(room, join) => {
                    model.retain(|_, (_, until)| until.is_none_or(|until| until > now));
                    let answer = book.reserve(&room.to_string(), &join.to_string(), &join.to_string(), now);
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
