use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::{CarriedRoom, Drain, DrainAction, DrainSettings, DrainState, HomeRole, NodeView, RelayedClient};

const STEP: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(600);

/// Time until the report of a node counts a participant who was asked: a rejoin and a report.
const REPORT_AFTER: Duration = Duration::from_millis(2_500);

/// A room of which other nodes are home.
fn room(name: &str, participants: u32, nodes: &[&str]) -> CarriedRoom {
    CarriedRoom {
        room: name.to_owned(),
        participants,
        home: HomeRole::Elsewhere,
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
    }
}

fn home_of(name: &str, participants: u32, successors: &[&str], stays_as_spill: bool) -> CarriedRoom {
    let nodes: Vec<String> = successors.iter().map(|node| (*node).to_owned()).collect();
    CarriedRoom {
        home: HomeRole::Here { successors: nodes.clone(), stays_as_spill },
        nodes,
        ..room(name, participants, &[])
    }
}

fn view(rooms: Vec<CarriedRoom>, seats: &[(&str, u32)]) -> NodeView {
    let free_seats = seats.iter().map(|(node, free)| ((*node).to_owned(), *free)).collect();
    NodeView { rooms, free_seats, reports_arrive: true, ..NodeView::default() }
}

fn drain(per_second: u32, notice: Duration, now: Instant) -> Drain {
    Drain::new(DrainSettings { per_second, notice }, now + DEADLINE, [1; 32], now)
}

/// A node in a cluster: participants who are asked take a seat elsewhere, which is reported later.
struct Cluster {
    view: NodeView,
    now: Instant,
    /// Seats as they are, while those of the view are reported.
    seats: BTreeMap<String, u32>,
    /// Seats that are reported later.
    taken: Vec<(Instant, String)>,
    asked: Vec<Instant>,
    /// Participants who found no seat.
    refused: u32,
}

impl Cluster {
    fn new(view: NodeView, now: Instant) -> Self {
        let seats = view.free_seats.clone();
        Self { view, now, seats, taken: Vec::new(), asked: Vec::new(), refused: 0 }
    }

    fn rejoin(&mut self, nodes: &[String]) {
        self.asked.push(self.now);
        let free = nodes.iter().find(|node| self.seats.get(*node).is_some_and(|free| *free > 0));
        match free.cloned() {
            Some(node) => {
                *self.seats.entry(node.clone()).or_default() -= 1;
                self.taken.push((self.now + REPORT_AFTER, node));
            }
            None => self.refused += 1,
        }
    }

    fn step(&mut self, drain: &mut Drain) {
        let now = self.now;
        self.taken.retain(|(at, node)| {
            if *at > now {
                return true;
            }
            *self.view.free_seats.entry(node.clone()).or_default() -= 1;
            false
        });
        for action in drain.step(&self.view.clone(), now) {
            match action {
                DrainAction::AskParticipants { room, count } => {
                    let known = self.view.rooms.iter_mut().find(|known| known.room == room).unwrap();
                    let count = count.min(known.participants);
                    known.participants -= count;
                    let nodes = known.nodes.clone();
                    (0..count).for_each(|_| self.rejoin(&nodes));
                }
                DrainAction::AskClient { id } => {
                    self.asked.push(now);
                    self.view.relayed.retain(|client| client.id != id);
                }
                DrainAction::HandOver { room, .. } => {
                    self.view.rooms.iter_mut().find(|known| known.room == room).unwrap().home =
                        HomeRole::Elsewhere;
                    drain.handed_over(&room, true, now);
                }
            }
        }
        self.now += STEP;
    }

    fn run(&mut self, drain: &mut Drain, steps: u32) {
        for _ in 0..steps {
            self.step(drain);
        }
    }
}

fn asked(actions: &[DrainAction]) -> u32 {
    let counts = actions.iter().map(|action| match action {
        DrainAction::AskParticipants { count, .. } => *count,
        DrainAction::AskClient { .. } => 1,
        DrainAction::HandOver { .. } => 0,
    });
    counts.sum()
}

#[test]
fn a_node_that_carries_nobody_is_drained_at_once() {
    let now = Instant::now();
    let mut drain = drain(10, Duration::from_secs(5), now);
    assert!(drain.step(&NodeView::default(), now).is_empty());
    assert_eq!(drain.progress().state, DrainState::Drained);
}

#[test]
fn nobody_is_asked_before_load_balancers_have_noticed() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::from_secs(5), start);
    let view = view(vec![room("a", 3, &["sto-1"])], &[("sto-1", 9)]);
    assert!(drain.step(&view, start + Duration::from_secs(4)).is_empty());
    assert_eq!(drain.progress().state, DrainState::Notice);
    assert_eq!(asked(&drain.step(&view, start + Duration::from_secs(5))), 1);
    assert_eq!(drain.progress().state, DrainState::Moving);
}

#[test]
fn the_home_role_is_handed_over_first_and_during_the_notice() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::from_secs(1), start);
    let home = view(vec![home_of("a", 1, &["sto-1"], true)], &[("sto-1", 9)]);
    let hand_over = DrainAction::HandOver { room: "a".to_owned(), successors: vec!["sto-1".to_owned()] };
    assert_eq!(drain.step(&home, start), [hand_over]);
    let later = start + Duration::from_secs(2);
    assert!(drain.step(&home, later).is_empty(), "participants stay until it was handed over");
    assert_eq!(drain.progress().homes, 1);
    drain.handed_over("a", true, later);
    let spill = view(vec![room("a", 1, &["sto-1"])], &[("sto-1", 9)]);
    assert_eq!(asked(&drain.step(&spill, later)), 1);
    assert_eq!((drain.progress().homes, drain.progress().handed_over), (0, 1));
}

#[test]
fn a_node_that_may_not_be_spill_node_moves_its_participants_before_it_hands_over() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::ZERO, start);
    let home = |participants| view(vec![home_of("a", participants, &["sto-1"], false)], &[("sto-1", 9)]);
    let moved = DrainAction::AskParticipants { room: "a".to_owned(), count: 1 };
    assert_eq!(drain.step(&home(1), start), [moved]);
    assert!(matches!(drain.step(&home(0), start)[..], [DrainAction::HandOver { .. }]));
}

#[test]
fn a_hand_over_that_fails_is_tried_again_with_growing_pauses_and_then_holds_nobody() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::ZERO, start);
    let home = view(vec![home_of("a", 1, &["sto-1"], true)], &[("sto-1", 9)]);
    let (mut now, mut attempts) = (start, Vec::new());
    while now < start + Duration::from_secs(60) {
        let actions = drain.step(&home, now);
        if matches!(actions[..], [DrainAction::HandOver { .. }]) {
            attempts.push(now);
            drain.handed_over("a", false, now);
        } else if asked(&actions) > 0 {
            break;
        }
        now += STEP;
    }
    assert_eq!(attempts.len(), 4);
    let pauses: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    assert!(now < start + Duration::from_secs(15), "its participant was moved all the same");
    assert_eq!((drain.progress().homes, drain.progress().homes_kept), (0, 1));
}

#[test]
fn a_room_without_another_possible_home_keeps_its_home_and_its_participants_move() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::ZERO, start);
    let only = CarriedRoom { nodes: vec!["sto-1".to_owned()], ..home_of("a", 1, &[], true) };
    assert_eq!(asked(&drain.step(&view(vec![only.clone()], &[("sto-1", 1)]), start)), 1);
    let empty = CarriedRoom { participants: 0, ..only };
    drain.step(&view(vec![empty], &[("sto-1", 1)]), start);
    assert_eq!((drain.progress().state, drain.progress().homes_kept), (DrainState::Drained, 1));
}

#[test]
fn without_a_free_seat_participants_stay_until_the_deadline_and_the_operator_is_told() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::ZERO, start);
    let full = view(vec![room("a", 3, &["sto-1"]), room("b", 2, &[])], &[("sto-1", 0), ("osl-1", 9)]);
    let before = start + DEADLINE - STEP;
    assert!(drain.step(&full, start).is_empty() && drain.step(&full, before).is_empty());
    assert_eq!((drain.progress().wait_for_seats, drain.progress().state), (5, DrainState::Moving));
    assert_eq!(asked(&drain.step(&full, start + DEADLINE)), 5);
    assert_eq!(drain.progress().state, DrainState::Overdue);
}

#[test]
fn small_rooms_move_first() {
    let start = Instant::now();
    let mut drain = drain(1, Duration::ZERO, start);
    let rooms = vec![room("large", 9, &["sto-1"]), room("small", 2, &["sto-1"])];
    let first = drain.step(&view(rooms, &[("sto-1", 20)]), start);
    assert_eq!(first, [DrainAction::AskParticipants { room: "small".to_owned(), count: 1 }]);
}

#[test]
fn without_new_reports_no_more_are_asked_than_seats_were_free() {
    let start = Instant::now();
    let mut drain = drain(100, Duration::ZERO, start);
    let mut view = view(vec![room("a", 9, &["sto-1"])], &[("sto-1", 2)]);
    view.reports_arrive = false;
    let steps = (0..100).map(|step| asked(&drain.step(&view, start + STEP * step)));
    assert_eq!(steps.sum::<u32>(), 2);
}

#[test]
fn nobody_takes_the_seat_of_a_participant_who_has_no_other_node() {
    let start = Instant::now();
    let mut drain = drain(100, Duration::ZERO, start);
    let rooms = vec![room("one-node", 1, &["sto-1"]), room("two-nodes", 2, &["sto-1", "hel-1"])];
    let mut view = view(rooms, &[("sto-1", 1), ("hel-1", 1)]);
    let first = DrainAction::AskParticipants { room: "one-node".to_owned(), count: 1 };
    assert_eq!(drain.step(&view, start), [first]);
    // Once sto-1 reports that it is full, nobody can take a seat there.
    view.rooms.remove(0);
    view.free_seats.insert("sto-1".to_owned(), 0);
    assert_eq!(asked(&drain.step(&view, start + STEP)), 1);
}

#[test]
fn clients_who_come_back_to_this_gateway_are_asked_again_at_the_deadline_only() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::ZERO, start);
    let with = |ids: &[u64]| NodeView {
        relayed: ids.iter().map(|id| RelayedClient { id: *id, other_gateway: true }).collect(),
        ..NodeView::default()
    };
    assert_eq!(drain.step(&with(&[7]), start), [DrainAction::AskClient { id: 7 }]);
    for step in 1..20 {
        assert!(drain.step(&with(&[8]), start + STEP * step).is_empty());
    }
    assert_eq!(drain.progress().came_back, 1);
    assert_eq!(drain.step(&with(&[8]), start + DEADLINE), [DrainAction::AskClient { id: 8 }]);
    assert!(
        drain.step(&with(&[9]), start + DEADLINE + STEP).is_empty(),
        "there it stays until the node ends"
    );
}

#[test]
fn clients_stay_while_no_other_gateway_is_up() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::ZERO, start);
    let client = RelayedClient { id: 1, other_gateway: false };
    let alone = NodeView { relayed: vec![client], ..NodeView::default() };
    assert!(drain.step(&alone, start).is_empty());
    assert_eq!((drain.progress().wait_for_gateway, drain.progress().state), (1, DrainState::Moving));
}

#[test]
fn a_seat_that_was_reserved_before_holds_the_end() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::ZERO, start);
    let reserved = NodeView { reserved: 1, ..NodeView::default() };
    assert!(drain.step(&reserved, start).is_empty());
    assert_eq!((drain.progress().state, drain.progress().participants), (DrainState::Moving, 1));
}

#[test]
fn a_shorter_deadline_counts_at_once() {
    let start = Instant::now();
    let mut drain = drain(10, Duration::from_secs(5), start);
    let full = view(vec![room("a", 3, &[])], &[]);
    assert!(drain.step(&full, start).is_empty());
    drain.set_deadline(start + STEP);
    assert_eq!(asked(&drain.step(&full, start + STEP)), 3);
}

prop_compose! {
    fn any_room()(number in 0..1000_u32, participants in 0..12_u32, nodes in 0..8_u8, home in 0..4_u8) -> CarriedRoom {
        let nodes: Vec<&str> =
            [(1, "sto-1"), (2, "osl-1"), (4, "hel-1")].iter().filter(|(bit, _)| nodes & bit != 0).map(|(_, node)| *node).collect();
        let name = format!("room-{number}");
        match home {
            0 => CarriedRoom { nodes: room("", 0, &nodes).nodes, ..home_of(&name, participants, &nodes, true) },
            1 => CarriedRoom { nodes: room("", 0, &nodes).nodes, ..home_of(&name, participants, &nodes, false) },
            _ => room(&name, participants, &nodes),
        }
    }
}

fn any_view() -> impl Strategy<Value = NodeView> {
    let rooms = proptest::collection::btree_map(0..6_u8, any_room(), 0..6);
    (rooms, [0..20_u32, 0..20_u32, 0..20_u32], 0..10_u64).prop_map(|(rooms, [sto, osl, hel], clients)| {
        let rooms = rooms.into_iter().map(|(key, room)| CarriedRoom { room: format!("room-{key}"), ..room });
        let relayed = (0..clients).map(|id| RelayedClient { id, other_gateway: true }).collect();
        NodeView { relayed, ..view(rooms.collect(), &[("sto-1", sto), ("osl-1", osl), ("hel-1", hel)]) }
    })
}

proptest! {
    #[test]
    fn nobody_who_is_asked_before_the_deadline_is_without_a_seat(
        carried in any_view(), per_second in 1..50_u32,
    ) {
        let start = Instant::now();
        let mut drain = drain(per_second, Duration::ZERO, start);
        let mut cluster = Cluster::new(carried, start);
        cluster.run(&mut drain, 2_000);
        prop_assert_eq!(cluster.refused, 0);
    }

    #[test]
    fn with_enough_seats_everybody_has_left_and_every_home_role_is_handed_over(
        carried in any_view(), per_second in 1..50_u32,
    ) {
        let start = Instant::now();
        let mut carried = carried;
        carried.free_seats.values_mut().for_each(|free| *free = 100);
        for room in carried.rooms.iter_mut().filter(|room| room.nodes.is_empty()) {
            room.nodes.push("sto-1".to_owned());
        }
        let mut drain = drain(per_second, Duration::from_secs(1), start);
        let mut cluster = Cluster::new(carried, start);
        cluster.run(&mut drain, 2_000);
        prop_assert_eq!(drain.progress().state, DrainState::Drained);
        prop_assert_eq!(cluster.refused, 0);
    }

    #[test]
    fn no_second_sees_far_more_asked_than_the_rate(carried in any_view(), per_second in 1..50_u32) {
        let start = Instant::now();
        let mut drain = drain(per_second, Duration::ZERO, start);
        let mut cluster = Cluster::new(carried, start);
        cluster.run(&mut drain, 500);
        for (index, at) in cluster.asked.iter().enumerate() {
            let within = cluster.asked[index..].iter().take_while(|other| **other < *at + Duration::from_secs(1));
            // Jitter halves an interval at most, and a pause of a quarter of a second is made up for.
            prop_assert!(within.count() <= (per_second as usize * 5).div_ceil(2) + 2);
        }
    }

    #[test]
    fn at_the_deadline_nobody_is_left_whatever_the_seats(carried in any_view(), per_second in 1..50_u32) {
        let start = Instant::now();
        let mut drain = drain(per_second, Duration::ZERO, start);
        drain.set_deadline(start + Duration::from_secs(2));
        let mut cluster = Cluster::new(carried, start);
        cluster.run(&mut drain, 20);
        prop_assert_eq!(cluster.view.rooms.iter().map(|room| room.participants).sum::<u32>(), 0);
        prop_assert!(cluster.view.relayed.is_empty());
    }
}
