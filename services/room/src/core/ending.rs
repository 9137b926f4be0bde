//! The end of a room on this node, and what keeps it from ending while somebody is in it.

use std::time::{Duration, Instant};

use systir_media_control::Command;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::Message;
use super::actor::Actor;
use super::inbox::FromLinks;

/// An empty room is kept this long, for those who come back.
const LINGER: Duration = Duration::from_secs(20);

/// How often a room with people tries at most to be written into the registry again.
const ASSIGN_AGAIN: Duration = Duration::from_secs(2);

/// A room that is on its way out of the registry: first the record, so that no other node asks for
/// the room again, then the links.
#[derive(Debug)]
pub(super) struct Leaving {
    /// May the room end? Told once the registry has answered, or did not.
    answer: oneshot::Receiver<bool>,
}

impl Actor {
    /// Is the room over? Home stays while another node carries the room: it orders it.
    pub(super) fn is_over(&mut self) -> bool {
        let empty = self.members.is_empty() && !self.shared.has_seats(&self.id);
        let Some(leaving) = &mut self.leaves else {
            let needed = self.assignment.home == *self.shared.name && !self.assignment.spill.is_empty();
            if empty && !needed && self.empty_since.is_some_and(|since| since.elapsed() > LINGER) {
                self.leave();
            }
            return false;
        };
        let may_end = match leaving.answer.try_recv() {
            Err(TryRecvError::Empty) => return false,
            Ok(may_end) => may_end,
            Err(TryRecvError::Closed) => true,
        };
        if !(may_end && empty) {
            // Somebody came meanwhile: the room goes on, and is assigned again.
            self.leaves = None;
            self.view_changed();
        }
        may_end && empty
    }

    fn leave(&mut self) {
        let (tell, answer) = oneshot::channel();
        self.leaves = Some(Leaving { answer });
        let (shared, id, mailbox) = (self.shared.clone(), self.id.clone(), self.mailbox.clone());
        self.shared.tasks.spawn(async move {
            let _ = tell.send(crate::rooms::leave_assignment(&shared, &id).await);
            // The room looks at once instead of with its next tick.
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.try_send(Message::Look);
            }
        });
    }

    /// A room with people whose record is gone, or no longer names this node, is written again.
    pub(super) fn stay_assigned(&mut self, now: Instant) {
        if self.members.is_empty() || self.leaves.is_some() || now < self.assign_again {
            return;
        }
        self.assign_again = now + ASSIGN_AGAIN.mul_f64(rand::random_range(1.0..1.5));
        let view = self.shared.registry.view();
        // Without the store's word nothing is missed.
        let known = view.room(&self.id).is_some_and(|known| known.value.has(&self.shared.name));
        if known || view.away_since().is_some() {
            return;
        }
        let (shared, last) = (self.shared.clone(), self.assignment.clone());
        self.shared.tasks.spawn(async move { crate::rooms::assign_again(&shared, last).await });
    }

    /// Closes the room on the links, in the registry when the node stops, and at the worker.
    /// Whoever arrives meanwhile finds a new room.
    pub(super) async fn end(mut self, mut inbox: mpsc::Receiver<Message>) {
        for node in self.peers.keys() {
            self.shared.links().drop_room(&self.wire_key, node);
        }
        for event in self.links.close() {
            if let FromLinks::Opened { node, .. } = event {
                self.shared.links().drop_room(&self.wire_key, &node);
            }
        }
        inbox.close();
        self.shared.rooms.remove(&self.id, self.key);
        while let Some(message) = inbox.recv().await {
            self.pass_on(message);
        }
        self.end_members(livekit_protocol::DisconnectReason::ServerShutdown);
        self.command(Command::CloseRoom { room: self.key });
        self.shared.metrics.rooms.dec();
        if self.shared.stop.is_cancelled() {
            crate::rooms::leave_assignment(&self.shared, &self.id).await;
        }
        if !self.orders.flush().await {
            tracing::error!(worker = self.worker_index, "a worker took nothing for 30 s; its rooms are lost");
        }
    }

    /// A message that came after the room's end.
    fn pass_on(&self, message: Message) {
        let Message::Arrive(arrival) = message else { return };
        let (shared, assignment) = (self.shared.clone(), self.assignment.clone());
        self.shared.tasks.spawn(async move {
            let join_id = arrival.join_id.clone();
            if shared.stop.is_cancelled() || shared.rooms.arrive(&shared, &assignment, arrival).await.is_err()
            {
                shared.release_reservation(&join_id);
            }
        });
    }
}
