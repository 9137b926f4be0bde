//! The state machine of a drain.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::action::DrainAction;
use crate::hand_overs::HandOvers;
use crate::pace::Pace;
use crate::progress::{DrainProgress, DrainState};
use crate::seats_in_use_soon::SeatsInUseSoon;
use crate::view::{CarriedRoom, HomeRole, NodeView};

/// How a node drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// Participants and clients asked to reconnect each second, on average.
    pub per_second: u32,
    /// Time from the start until the first is asked to reconnect: load balancers notice meanwhile that the node is not ready.
    pub notice: Duration,
}

/// The drain of one node.
#[derive(Debug)]
pub struct Drain {
    deadline: Instant,
    /// When the first is asked to reconnect.
    moves_from: Instant,
    rng: StdRng,
    pace: Pace,
    hand_overs: HandOvers,
    seats: SeatsInUseSoon,
    /// Clients with a lower number are asked to reconnect; the others came through this gateway after that.
    clients_below: Option<u64>,
    /// Was everybody asked who was left at the deadline?
    overdue: bool,
    asked_participants: u32,
    asked_clients: u32,
    progress: DrainProgress,
}

impl Drain {
    /// Begins a drain. The seed is the source of its jitter.
    #[must_use]
    pub fn new(settings: DrainSettings, deadline: Instant, seed: [u8; 32], now: Instant) -> Self {
        let moves_from = now + settings.notice;
        Self {
            deadline,
            moves_from,
            rng: StdRng::from_seed(seed),
            pace: Pace::new(settings.per_second, moves_from),
            hand_overs: HandOvers::default(),
            seats: SeatsInUseSoon::default(),
            clients_below: None,
            overdue: false,
            asked_participants: 0,
            asked_clients: 0,
            progress: DrainProgress::default(),
        }
    }

    /// Changes the deadline. After the deadline has passed it changes nothing.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// How far the drain was at the last step.
    #[must_use]
    pub fn progress(&self) -> DrainProgress {
        self.progress
    }

    /// A hand-over that this drain wanted has ended.
    pub fn handed_over(&mut self, room: &str, handed_over: bool, now: Instant) {
        self.hand_overs.ended(room, handed_over, now, &mut self.rng);
    }

    /// What to do now. Call it some times a second.
    pub fn step(&mut self, view: &NodeView, now: Instant) -> Vec<DrainAction> {
        self.hand_overs.retain(&view.rooms);
        let mut actions = self.hand_overs.begin(&view.rooms, now);
        if self.overdue || now >= self.deadline {
            self.ask_the_rest(view, &mut actions);
        } else if now >= self.moves_from {
            self.ask_in_turn(view, now, &mut actions);
        }
        self.progress = self.look(view, now);
        actions
    }

    /// Asks as many as the rate allows: participants first, those of small rooms before those of large ones.
    fn ask_in_turn(&mut self, view: &NodeView, now: Instant, actions: &mut Vec<DrainAction>) {
        let newest = view.relayed.iter().map(|client| client.id).max();
        let below = *self.clients_below.get_or_insert_with(|| newest.map_or(0, |id| id + 1));
        self.seats.settle(view, now);
        let mut rooms: Vec<&CarriedRoom> = view.rooms.iter().filter(|room| room.participants > 0).collect();
        rooms.sort_by_key(|room| (room.participants, &room.room));
        let mut asked: BTreeMap<&str, u32> = BTreeMap::new();
        let mut clients = view.relayed.iter().filter(|client| client.id < below && client.other_gateway);
        while self.pace.is_due(now) {
            let next = rooms.iter().find(|room| {
                let left = room.participants > asked.get(room.room.as_str()).copied().unwrap_or_default();
                let movable = left && !self.hand_overs.holds_participants(room);
                movable && self.seats.has_free(&room.nodes, view)
            });
            if let Some(room) = next {
                self.seats.take(&room.nodes, now);
                *asked.entry(room.room.as_str()).or_default() += 1;
                self.asked_participants += 1;
            } else if let Some(client) = clients.next() {
                self.asked_clients += 1;
                actions.push(DrainAction::AskClient { id: client.id });
            } else {
                break;
            }
            self.pace.take(now, &mut self.rng);
        }
        let asked = asked.into_iter();
        actions
            .extend(asked.map(|(room, count)| DrainAction::AskParticipants { room: room.to_owned(), count }));
    }

    /// Asks everybody who is left: of the clients, those who were there at the deadline.
    fn ask_the_rest(&mut self, view: &NodeView, actions: &mut Vec<DrainAction>) {
        for room in view.rooms.iter().filter(|room| room.participants > 0) {
            self.asked_participants = self.asked_participants.saturating_add(room.participants);
            actions.push(DrainAction::AskParticipants { room: room.room.clone(), count: room.participants });
        }
        if !std::mem::replace(&mut self.overdue, true) {
            for client in &view.relayed {
                self.asked_clients += 1;
                actions.push(DrainAction::AskClient { id: client.id });
            }
            self.clients_below = view.relayed.iter().map(|client| client.id + 1).max().or(Some(0));
        }
    }

    fn look(&self, view: &NodeView, now: Instant) -> DrainProgress {
        let sum = |counts: &mut dyn Iterator<Item = u32>| counts.fold(0, u32::saturating_add);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let carried = sum(&mut view.rooms.iter().map(|room| room.participants));
        let homes = count(view.rooms.iter().filter(|room| self.hand_overs.is_pending(room)).count());
        let kept = view
            .rooms
            .iter()
            .filter(|room| matches!(room.home, HomeRole::Here { .. }) && !self.hand_overs.is_pending(room));
        let has_seat = |node: &String| view.free_seats.get(node).is_some_and(|free| *free > 0);
        let without_seat = view.rooms.iter().filter(|room| !room.nodes.iter().any(has_seat));
        let came_back =
            view.relayed.iter().filter(|client| self.clients_below.is_some_and(|below| client.id >= below));
        let came_back = count(came_back.count());
        let alone = view.relayed.iter().filter(|client| !client.other_gateway).count();
        let mut progress = DrainProgress {
            state: DrainState::Notice,
            participants: carried.saturating_add(view.reserved),
            clients: count(view.relayed.len()),
            homes,
            homes_kept: count(kept.count()),
            wait_for_seats: sum(&mut without_seat.map(|room| room.participants)),
            wait_for_gateway: count(alone),
            came_back,
            asked_participants: self.asked_participants,
            asked_clients: self.asked_clients,
            handed_over: self.hand_overs.done,
            seconds_left: self.deadline.saturating_duration_since(now).as_secs(),
        };
        progress.state = if progress.left() == 0 {
            DrainState::Drained
        } else if self.overdue {
            DrainState::Overdue
        } else if now >= self.moves_from {
            DrainState::Moving
        } else {
            DrainState::Notice
        };
        progress
    }
}
