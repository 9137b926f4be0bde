//! A home hands its role over: another node signs the next epoch because this node, the home, asks it to, over its own
//! connection. Nobody has to be out of reach for that, and etcd may be.

use std::time::Duration;

use systir_assignment::{Assignment, RoomId};
use systir_grants::GrantRefusal;
use systir_reason::{Reason, Refusal};

use super::{Assignments, GrantPurpose, lock};

/// How long the other node may take: it tries to write the room's record.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(8);

impl Assignments {
    /// The nodes that the room's grant lists as possible homes after this node, its home. Empty when it is not home.
    #[must_use]
    pub fn listed_successors(&self, room: &RoomId) -> Vec<String> {
        let (book, me) = (lock(&self.book), &self.signer.node);
        let held = book.held(room).filter(|held| held.grant().home == *me);
        let homes = held.map(|held| held.grant().terms.homes.clone()).unwrap_or_default();
        homes.into_iter().filter(|node| node != me).collect()
    }

    /// Hands the home role of a room over to a node, which signs the next epoch. If that fails, this node stays home.
    ///
    /// # Errors
    /// The node's refusal, or why its grant does not count.
    pub async fn hand_over(&self, room: &RoomId, to: &str) -> Result<Assignment, Refusal> {
        if self.home(room).as_deref() != Some(&self.signer.node) {
            return Err(Refusal::new(Reason::NotAssigned, "this node is not the room's home"));
        }
        lock(&self.handing_over).insert(room.clone(), to.to_owned());
        let asked = self.ask(to, room, GrantPurpose::HandOver, HAND_OVER_TIMEOUT).await;
        lock(&self.handing_over).remove(room);
        let handed_over = asked?;
        if handed_over.home != *to {
            return Err(GrantRefusal::NotASuccessor {
                epoch: handed_over.epoch,
                home: handed_over.home.to_string(),
            }
            .into());
        }
        self.metrics.handed_over.inc();
        tracing::info!(to, epoch = handed_over.epoch, "the home role of a room was handed over");
        Ok(handed_over)
    }

    /// Does this node hand the room over to that node now?
    pub(super) fn is_handed_over_to(&self, room: &RoomId, node: &str) -> bool {
        lock(&self.handing_over).get(room).is_some_and(|to| to == node)
    }

    /// This node becomes home after the home of the grant that it holds, which asked it to, over its own connection. The
    /// caller has asked policy whether this node may be home.
    ///
    /// # Errors
    /// When `from` is not the home, or this node is not listed as a possible home.
    pub async fn take_hand_over(&self, room: &RoomId, from: &str) -> Result<Assignment, Refusal> {
        if self.get(room).is_none_or(|known| known.home != *from) {
            let sentence = format!("{from} is not the room's home, so it cannot hand the role over");
            return Err(Refusal::new(Reason::NotAssigned, sentence));
        }
        self.succeed(room, true).await
    }
}
