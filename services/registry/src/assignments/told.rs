//! Grants that other nodes and the registry's records tell.

use std::time::Duration;

use systir_assignment::{Assignment, RoomId};
use systir_documents::SignedGrant;
use systir_grants::{GrantRefusal, Offered};
use systir_journal::DecidedAt;
use systir_policy::{Action, DecidedAction};
use systir_reason::{Reason, Refusal};

use super::{Assignments, GrantPurpose, HOME_ANSWER_TIMEOUT, ToldAssignment, lock};

impl Assignments {
    /// Another node told its grant of the room, over its own connection. Asks the home that is held whether it is replaced,
    /// if that decides, for at most [`HOME_ANSWER_TIMEOUT`]. An older grant is no error: the one that is held counts.
    ///
    /// # Errors
    /// Why the grant does not count.
    pub async fn offered(&self, room: &RoomId, note: &str, from: &str) -> Result<(), Refusal> {
        if note.is_empty() || self.is_known(room, note) {
            return Ok(());
        }
        // The record's home may be known to this node only from there.
        self.read_record(room);
        let signed = self.verify(note).inspect_err(|refusal| self.refused(room, None, from, refusal))?;
        let mut outcome = self.offer(room, &signed, Some(from));
        if let Offered::AskHome(home) = &outcome {
            self.ask_home(room, home).await;
            outcome = self.offer(room, &signed, Some(from));
        }
        match outcome {
            Offered::Refused(GrantRefusal::Older { .. }) | Offered::Known | Offered::Accepted => Ok(()),
            Offered::Contested { epoch } => {
                self.contest(room, epoch);
                Ok(())
            }
            // It answered nothing and has no link: the next attempt knows.
            Offered::AskHome(home) => Err(GrantRefusal::HomeAlive { home }.into()),
            Offered::Refused(refused) => {
                let refusal = Refusal::from(refused);
                self.refused(room, Some(&signed), from, &refusal);
                Err(refusal)
            }
        }
    }

    /// Another node told the room's grant and who carries the room, over its own connection.
    ///
    /// # Errors
    /// Why its grant does not count.
    pub async fn told(&self, room: &RoomId, told: &ToldAssignment, from: &str) -> Result<(), Refusal> {
        self.offered(room, &told.grant, from).await?;
        if lock(&self.book).home_named(room, from, &told.spill, told.created_ms) {
            self.changed(room);
        }
        Ok(())
    }

    /// Asks a node for the room's grant, or to become home, and follows its answer.
    ///
    /// # Errors
    /// The node's refusal, or why its grant does not count.
    pub async fn ask(
        &self,
        node: &str,
        room: &RoomId,
        purpose: GrantPurpose,
        limit: Duration,
    ) -> Result<Assignment, Refusal> {
        let none = || Refusal::new(Reason::NoAnswer, "the links of this node have not started");
        let peers = self.peers.get().ok_or_else(none)?;
        let told = peers.ask_grant(node, room, self.note(room), purpose, limit).await?;
        self.told(room, &told, node).await?;
        self.get(room).ok_or_else(|| GrantRefusal::None.into())
    }

    /// Offers a grant to the book, at once.
    pub(super) fn offer(&self, room: &RoomId, signed: &SignedGrant, from: Option<&str>) -> Offered {
        let epoch = lock(&self.book).held(room).map(|held| held.grant().epoch);
        let outcome = self.judge(room, signed, from);
        if outcome == Offered::Accepted {
            let grant = signed.grant();
            // Not each renewal.
            if epoch != Some(grant.epoch) {
                self.journal_offer(room, Some(signed), from.unwrap_or_default(), &Ok(()));
            }
            tracing::debug!(
                home = grant.home,
                epoch = grant.epoch,
                serial = grant.serial,
                "a room's grant is held"
            );
            self.changed(room);
        }
        outcome
    }

    /// Asks a home that has no link whether it still is home. Its answer may hold a newer grant.
    pub(super) async fn ask_home(&self, room: &RoomId, home: &str) {
        let Some(peers) = self.peers.get() else { return };
        let asked =
            peers.ask_grant(home, room, self.note(room), GrantPurpose::Held, HOME_ANSWER_TIMEOUT).await;
        let answered = match &asked {
            Ok(_) => true,
            // A home of another version cannot act as one for this node.
            Err(refusal) => !matches!(refusal.reason, Reason::NoAnswer | Reason::UnsupportedVersion),
        };
        self.note_reach(home, answered);
        if let Ok(told) = asked
            && let Ok(signed) = self.verify(&told.grant)
        {
            self.offer(room, &signed, Some(home));
            if lock(&self.book).home_named(room, home, &told.spill, told.created_ms) {
                self.changed(room);
            }
        }
        tracing::info!(home, answered, "asked a room's home without a link whether it is alive");
    }

    /// Can the home of the room be reached? Asks it if that is not known.
    pub async fn home_answers(&self, room: &RoomId) -> bool {
        let Some(home) = self.home(room) else { return false };
        if self.reach(&home) == systir_grants::HomeReach::Unknown {
            self.ask_home(room, &home).await;
        }
        self.reach(&home) == systir_grants::HomeReach::Up
    }

    /// Reads the room's record in the registry's copy, unless it was read already: its grant may be newer than the one that
    /// is held, and it hints at who carries the room.
    pub(super) fn read_record(&self, room: &RoomId) {
        let view = self.registry.view();
        let Some(record) = view.room(room) else { return };
        if lock(&self.read).insert(room.clone(), record.revision) == Some(record.revision) {
            return;
        }
        let signed = match self.verify(&record.value.grant) {
            Ok(signed) => signed,
            Err(refusal) => {
                self.refused(room, None, "", &refusal);
                tracing::warn!(
                    why = refusal.sentence,
                    "a room's record rests on no valid grant and counts as absent"
                );
                return;
            }
        };
        let outcome = self.offer(room, &signed, None);
        self.follow_record(room, &record.value, &signed);
        match outcome {
            Offered::AskHome(home) => self.ask_later(room.clone(), home, signed, record.value.clone()),
            Offered::Contested { epoch } => self.contest(room, epoch),
            Offered::Refused(GrantRefusal::Older { .. }) | Offered::Known | Offered::Accepted => {}
            Offered::Refused(refused) => {
                tracing::warn!(why = %refused, "the grant in a room's record does not count");
                self.refused(room, Some(&signed), "", &refused.into());
            }
        }
    }

    /// Takes the record's word on who carries the room, if it is of the grant that is held.
    fn follow_record(&self, room: &RoomId, record: &Assignment, signed: &SignedGrant) {
        let since = |node| record.since_ms.get(node).copied().unwrap_or_default();
        let spill: Vec<(String, u64)> =
            record.spill.iter().map(|node| (node.to_string(), since(node))).collect();
        let home = &signed.grant().home;
        if lock(&self.book).record_named(room, home, &spill, record.created_ms) {
            self.changed(room);
        }
    }

    /// Asks the home whether it is replaced, in a task, and then offers the record's grant again.
    fn ask_later(&self, room: RoomId, home: String, signed: SignedGrant, record: Assignment) {
        let Some(this) = self.this.upgrade() else { return };
        let asked = async move {
            this.ask_home(&room, &home).await;
            let outcome = this.offer(&room, &signed, None);
            this.follow_record(&room, &record, &signed);
            tracing::debug!(?outcome, "a record's grant was offered again");
        };
        match tokio::runtime::Handle::try_current() {
            // It ends within the time limit of one call.
            Ok(runtime) => drop(runtime.spawn(asked)),
            Err(_) => tracing::debug!("no runtime: a record's grant is not offered again"),
        }
    }

    /// A grant does not count.
    fn refused(&self, room: &RoomId, signed: Option<&SignedGrant>, from: &str, refusal: &Refusal) {
        self.metrics.refused.get_or_create(&refusal.reason.into()).inc();
        self.journal_offer(room, signed, from, &Err(refusal.clone()));
    }

    /// Journals whether the home of a grant is followed. Of a grant that nobody signed its home is not named.
    fn journal_offer(
        &self,
        room: &RoomId,
        signed: Option<&SignedGrant>,
        from: &str,
        outcome: &Result<(), Refusal>,
    ) {
        let home = signed.map_or(from, |signed| signed.grant().home.as_str());
        let decided = DecidedAction::of_node(DecidedAt::GrantOffer, Action::Home, home).asked_by(from);
        self.authority.journal(&decided, room, outcome);
    }
}
