//! The drain of this node: passes the planner what the node carries, and does what it wants. `systir-drain` decides.

mod metrics;
mod node_view;
mod relayed;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use systir_admission::Admission;
use systir_assignment::RoomId;
use systir_drain::{Drain, DrainAction, DrainProgress, DrainSettings, DrainState};
use systir_placement::Seats;
use systir_registry::Assignments;
use systir_room_runtime::Rooms;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::DrainSection;
use crate::metrics::Readiness;

pub(crate) use metrics::DrainMetrics;
pub(crate) use relayed::RelayedClients;

/// How often the planner is asked.
const STEP: Duration = Duration::from_millis(200);

/// Hand-overs that wait to be counted.
const HAND_OVERS: usize = 64;

/// The parts of the node that a drain looks at and acts on.
#[derive(Debug)]
pub(crate) struct DrainedNode {
    pub(crate) node: String,
    pub(crate) seats: Arc<Seats>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) relayed: Arc<RelayedClients>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<DrainMetrics>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// A drain that is running.
#[derive(Debug)]
struct Running {
    deadline: watch::Sender<Instant>,
    /// Does the node end after it?
    stops: bool,
    _ends_with_this: DropGuard,
}

/// The process ends after this drain, so it cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node ends after this drain, because it got a signal; start it again instead")]
pub(crate) struct NodeStops;

/// Starts, watches and ends the drain of this node.
#[derive(Debug)]
pub(crate) struct NodeDrain {
    parts: DrainedNode,
    settings: DrainSettings,
    deadline: Duration,
    running: Mutex<Option<Running>>,
    /// How far the drain is; none while the node does not drain.
    progress: watch::Sender<Option<DrainProgress>>,
}

impl NodeDrain {
    pub(crate) fn new(parts: DrainedNode, config: &DrainSection) -> Arc<Self> {
        let notice = Duration::from_secs(config.notice_seconds);
        Arc::new(Self {
            settings: DrainSettings { per_second: config.per_second, notice },
            deadline: Duration::from_secs(config.deadline_seconds),
            parts,
            running: Mutex::default(),
            progress: watch::Sender::new(None),
        })
    }

    pub(crate) fn node(&self) -> &str {
        &self.parts.node
    }

    // A poisoned lock is safe to use: its value is replaced as a whole.
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the drain is, and whether the node ends after it; none while the node does not drain.
    pub(crate) fn progress(&self) -> Option<(DrainProgress, bool)> {
        let progress = *self.progress.borrow();
        progress.map(|progress| (progress, self.running().as_ref().is_some_and(|running| running.stops)))
    }

    /// Begins a drain, by default with the configured deadline. If one is running, it gets the new deadline. `stops`: the
    /// node ends after it.
    pub(crate) fn begin(self: &Arc<Self>, deadline: Option<Duration>, stops: bool) {
        let now = Instant::now();
        let wanted = now + deadline.unwrap_or(self.deadline);
        let mut running = self.running();
        if let Some(running) = running.as_mut() {
            running.stops |= stops;
            running.deadline.send_modify(|known| {
                // A signal does not extend the deadline that an operator chose.
                *known = if stops { wanted.min(*known) } else { wanted };
            });
            return;
        }
        tracing::info!(seconds = (wanted - now).as_secs(), "the node drains");
        self.parts.readiness.draining.store(true, Ordering::Relaxed);
        self.parts.seats.set_draining(true);
        self.progress.send_replace(Some(DrainProgress::default()));
        let (deadline, ended) = (watch::Sender::new(wanted), CancellationToken::new());
        let drain = Drain::new(self.settings, wanted, rand::random(), now);
        let run = self.clone().run(drain, deadline.subscribe());
        let (stop, cancelled) = (self.parts.stop.clone(), ended.clone());
        self.parts.tasks.spawn(async move {
            tokio::select! {
                () = run => {}
                () = cancelled.cancelled_owned() => {}
                () = stop.cancelled_owned() => {}
            }
        });
        *running = Some(Running { deadline, stops, _ends_with_this: ended.drop_guard() });
    }

    /// Ends a drain: the node admits participants and rooms again. Who left does not come back by itself.
    ///
    /// # Errors
    /// When the node ends after the drain.
    pub(crate) fn undo(&self) -> Result<(), NodeStops> {
        let mut running = self.running();
        if running.as_ref().is_some_and(|running| running.stops) {
            return Err(NodeStops);
        }
        if running.take().is_some() {
            self.parts.seats.set_draining(false);
            self.parts.readiness.draining.store(false, Ordering::Relaxed);
            self.progress.send_replace(None);
            self.parts.metrics.show(false, &DrainProgress::default());
            tracing::info!("the drain was ended; the node accepts joins again");
        }
        Ok(())
    }

    /// Returns when nobody is left, or when the deadline has passed and the rest was asked to reconnect.
    pub(crate) async fn finished(&self) {
        let is_over = |state| matches!(state, DrainState::Drained | DrainState::Overdue);
        let mut progress = self.progress.subscribe();
        let _ = progress.wait_for(|progress| progress.is_some_and(|progress| is_over(progress.state))).await;
    }

    async fn run(self: Arc<Self>, mut drain: Drain, deadline: watch::Receiver<Instant>) {
        let (ended, mut hand_overs) = mpsc::channel::<(String, bool)>(HAND_OVERS);
        let mut steps = tokio::time::interval(STEP);
        loop {
            tokio::select! {
                _ = steps.tick() => {}
                Some((room, handed_over)) = hand_overs.recv() => {
                    drain.handed_over(&room, handed_over, Instant::now());
                    continue;
                }
            }
            drain.set_deadline(*deadline.borrow());
            let view = self.parts.view();
            for action in drain.step(&view, Instant::now()) {
                self.act(action, &ended);
            }
            self.show(drain.progress());
        }
    }

    fn act(&self, action: DrainAction, ended: &mpsc::Sender<(String, bool)>) {
        match action {
            DrainAction::AskParticipants { room, count } => {
                let room = RoomId::from_key(&room).and_then(|room| self.parts.rooms.get(&room));
                // A busy room is asked again at a later step: its participants are still here.
                let _taken = room.is_some_and(|room| room.ask_to_reconnect(count));
            }
            DrainAction::AskClient { id } => self.parts.relayed.ask(id),
            DrainAction::HandOver { room, successors } => {
                let (assignments, ended) = (self.parts.assignments.clone(), ended.clone());
                self.parts.tasks.spawn(async move {
                    let handed_over = hand_over(&assignments, &room, &successors).await;
                    // The drain may have ended.
                    let _ = ended.send((room, handed_over)).await;
                });
            }
        }
    }

    /// Shows the progress in metrics and, when something changed that concerns the operator, in the log.
    fn show(&self, progress: DrainProgress) {
        let before = {
            let running = self.running();
            // The drain may have been undone.
            let Some(before) = self.progress.borrow().filter(|_| running.is_some()) else { return };
            self.parts.metrics.show(true, &progress);
            self.progress.send_replace(Some(progress));
            before
        };
        let DrainProgress { participants, clients, homes, .. } = progress;
        if before.state != progress.state {
            let state = progress.state.as_str();
            tracing::info!(state, participants, clients, homes, "the drain goes on");
        }
        if before.wait_for_seats == 0 && progress.wait_for_seats > 0 {
            let waiting = progress.wait_for_seats;
            tracing::warn!(
                waiting,
                "participants stay until the deadline of the drain: no approved node has a free seat"
            );
        }
        if before.wait_for_gateway == 0 && progress.wait_for_gateway > 0 {
            let waiting = progress.wait_for_gateway;
            tracing::warn!(waiting, "clients stay until the deadline of the drain: no other gateway is up");
        }
        if before.came_back == 0 && progress.came_back > 0 {
            tracing::warn!(
                "clients came back to this gateway: their URL, or a load balancer, still leads here; they stay until the \
                 deadline of the drain"
            );
        }
    }
}

/// Hands the home role of a room over to the first node that takes it.
async fn hand_over(assignments: &Assignments, room: &str, successors: &[String]) -> bool {
    let Some(room) = RoomId::from_key(room) else { return false };
    for node in successors {
        match assignments.hand_over(&room, node).await {
            Ok(_) => return true,
            Err(refusal) => {
                tracing::info!(node, why = refusal.sentence, "a node did not take the home role of a room");
            }
        }
    }
    false
}
