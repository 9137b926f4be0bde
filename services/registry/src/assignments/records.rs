//! The room's record in the registry. Only its home writes it.

use systir_assignment::{Assignment, NodeId, RoomId};
use systir_documents::SignedGrant;

use systir_policy::Action;
use systir_reason::Refusal;

use super::{Assignments, lock};
use crate::registry::{CreateError, RegistryError, UpdateError};

/// Attempts to write a record while others change it.
const ATTEMPTS: usize = 5;

impl Assignments {
    /// Is the room's record as this node, its home, would write it? The grant in it may be an earlier one of this epoch.
    #[must_use]
    pub fn is_recorded(&self, assignment: &Assignment) -> bool {
        self.registry.view().room(&assignment.room).is_some_and(|record| {
            let record = &record.value;
            record.sid == assignment.sid
                && record.home == assignment.home
                && record.epoch == assignment.epoch
                && record.spill == assignment.spill
                && (record.grant == assignment.grant
                    || self
                        .verify_recorded(&record.grant, &assignment.home)
                        .is_ok_and(|signed| signed.grant().epoch == assignment.epoch))
        })
    }

    /// Verifies the grant in a record. The record of this node, as home, must be signed with its present key: an operator
    /// may be about to remove the former one from the directory.
    fn verify_recorded(&self, note: &str, home: &NodeId) -> Result<SignedGrant, Refusal> {
        if *home != *self.signer.node.as_str() {
            return self.verify(note);
        }
        SignedGrant::verify(note, |_| vec![self.signer.key.public()])
            .map_err(|refused| Refusal::new(super::reason_of(&refused), refused.to_string()))
    }

    /// Writes the room's record, if this node is its home.
    pub async fn write(&self, room: &RoomId) {
        for _ in 0..ATTEMPTS {
            let Some(wanted) = self.get(room).filter(|known| known.home == *self.signer.node.as_str()) else {
                return;
            };
            if self.is_recorded(&wanted) {
                return;
            }
            let view = self.registry.view();
            if view.room(room).is_some_and(|known| self.is_of_lower_rival(&wanted, &known.value)) {
                tracing::warn!(
                    "another home made a room of this name; its record stays for new participants"
                );
                return;
            }
            match self.put(wanted).await {
                Ok(true) => {
                    self.metrics.restored.inc();
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::info!(%error, "a room's record could not be written; will try again");
                    return;
                }
            }
        }
    }

    /// Puts a record in place of the one in this node's copy, or as the first one. False when another node changed it
    /// meanwhile.
    pub(super) async fn put(&self, wanted: Assignment) -> Result<bool, RegistryError> {
        self.put_unless(wanted, &[]).await
    }

    /// The same, if the others' records still have these revisions (0: none).
    pub(super) async fn put_unless(
        &self,
        wanted: Assignment,
        others: &[(RoomId, u64)],
    ) -> Result<bool, RegistryError> {
        match self.registry.view().room(&wanted.room) {
            Some(known) => match self.registry.update(known, wanted).await {
                Ok(_) => Ok(true),
                Err(UpdateError::Conflict(_) | UpdateError::Gone) => Ok(false),
                Err(UpdateError::Registry(error)) => Err(error),
            },
            None => match self.registry.create_unless(wanted, others.to_vec()).await {
                Ok(_) => Ok(true),
                Err(CreateError::AlreadyAssigned(_)) => Ok(false),
                Err(CreateError::Registry(error)) => Err(error),
            },
        }
    }

    /// Is the record of another room of this name, made by another approved home, that goes before this node's: the lower
    /// sid? So two homes that both have participants do not write over each other without end.
    fn is_of_lower_rival(&self, own: &Assignment, record: &Assignment) -> bool {
        let approved = || self.authority.node(Action::Home, &own.room, record.home.as_str()).allowed;
        record.home != own.home
            && record.sid < own.sid
            && approved()
            && self.verify(&record.grant).is_ok_and(|signed| {
                signed.grant().home == *record.home.as_str() && signed.grant().sid == record.sid
            })
    }

    /// This node carries the room no longer. As home it deletes the record. False when it must stay: a seat is held, or it
    /// is home of a room that spill nodes carry.
    pub async fn leave(&self, room: &RoomId, seats_held: impl Fn() -> bool) -> bool {
        for _ in 0..ATTEMPTS {
            if seats_held() {
                return false;
            }
            let Some(known) = self.get(room) else { return true };
            if known.home != *self.signer.node.as_str() {
                // Its home removes this node from the record when the room closes on their link.
                self.remove_spill(room, &self.signer.node);
                return true;
            }
            if !known.spill.is_empty() {
                return false;
            }
            let Some(record) = self.registry.view().room(room).cloned() else { break };
            match self.registry.delete(&record).await {
                Ok(()) | Err(UpdateError::Gone) => break,
                Err(UpdateError::Conflict(_)) => {}
                Err(UpdateError::Registry(error)) => {
                    tracing::info!(%error, "the record of an empty room could not be removed; the next join uses it");
                    break;
                }
            }
        }
        // A participant may have arrived meanwhile: the room goes on, and its record is written again.
        if seats_held() {
            return false;
        }
        {
            let mut book = lock(&self.book);
            book.forget(room);
            self.note_class(&book, room);
        }
        lock(&self.read).remove(room);
        true
    }
}
