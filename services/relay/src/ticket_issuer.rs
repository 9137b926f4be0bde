//! This node as a gateway: it signs the tickets of the participants whose tokens it took, and renews them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use rand::RngExt as _;
use systir_assignment::Assignment;
use systir_documents::{
    MAX_TICKET_LIFE_MS, NodeKey, TICKET_RENEWAL_MS, Ticket, TicketRefused, next_join_number,
};
use systir_livekit::mint_sid;
use systir_livekit::token::Grants;
use systir_registry::unix_ms;
use systir_room::{SignedTicket, TicketFacts, new_ticket};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

/// After the key was replaced, tickets are renewed within this time, milliseconds: not all at once.
const KEY_CHANGE_SPREAD_MS: std::ops::Range<u64> = 0..5_000;

/// Renewed tickets of a participant that wait for its room.
pub(crate) const RENEWALS: usize = 2;

/// Signs tickets with this node's key.
#[derive(Debug)]
pub(crate) struct TicketIssuer {
    pub(crate) node: String,
    pub(crate) key: NodeKey,
    /// Changes when the key was replaced.
    pub(crate) key_changes: watch::Receiver<u64>,
    pub(crate) tasks: TaskTracker,
    pub(crate) signed: Counter,
}

impl TicketIssuer {
    /// The ticket of a join on `media_node`. `last_join`: the greatest join number of the identity that is known, 0 for
    /// none.
    ///
    /// # Errors
    /// When a name has a form that the text of a ticket cannot have.
    pub(crate) fn issue(
        &self,
        assignment: &Assignment,
        media_node: &str,
        grants: &Grants,
        last_join: u64,
    ) -> Result<SignedTicket, TicketRefused> {
        let now_ms = unix_ms();
        let facts = TicketFacts {
            gateway: &self.node,
            assignment,
            media_node,
            participant_sid: mint_sid("PA_", &mut rand::rng()),
            join_number: next_join_number(now_ms, last_join),
            now_ms,
        };
        self.sign(new_ticket(grants, facts))
    }

    /// The same ticket, issued at this time. A clock that was set back does not make it older.
    fn issue_again(&self, ticket: &Ticket, now_ms: u64) -> Result<SignedTicket, TicketRefused> {
        let issued_ms = now_ms.max(ticket.issued_ms.saturating_add(1));
        let not_after_ms = issued_ms.saturating_add(MAX_TICKET_LIFE_MS);
        self.sign(Ticket { issued_ms, not_after_ms, ..ticket.clone() })
    }

    fn sign(&self, ticket: Ticket) -> Result<SignedTicket, TicketRefused> {
        self.signed.inc();
        SignedTicket::issue(ticket, &self.key.current())
    }

    fn is_by_present_key(&self, ticket: &SignedTicket) -> bool {
        std::str::from_utf8(ticket.note())
            .is_ok_and(|note| Ticket::verify(note, &[self.key.public()]).is_ok())
    }

    /// Renews a ticket in time, again and again, and soon after this node's key was replaced. Ends when the receiver is dropped.
    pub(crate) fn renew(self: &Arc<Self>, ticket: &SignedTicket) -> mpsc::Receiver<Bytes> {
        let (renewed, receiver) = mpsc::channel(RENEWALS);
        let (issuer, mut ticket) = (self.clone(), ticket.clone());
        let mut key_changes = self.key_changes.clone();
        let replaced = *key_changes.borrow_and_update() > 0;
        let mut by_former_key = replaced && !self.is_by_present_key(&ticket);
        self.tasks.spawn(async move {
            let random = |range| Duration::from_millis(rand::rng().random_range(range));
            loop {
                let after = if by_former_key { KEY_CHANGE_SPREAD_MS } else { TICKET_RENEWAL_MS };
                by_former_key = false;
                tokio::select! {
                    () = tokio::time::sleep(random(after)) => {}
                    Ok(()) = key_changes.changed() => tokio::time::sleep(random(KEY_CHANGE_SPREAD_MS)).await,
                    () = renewed.closed() => return,
                }
                match issuer.issue_again(ticket.ticket(), unix_ms()) {
                    Ok(next) => ticket = next,
                    Err(error) => {
                        tracing::error!(%error, "a participant's ticket cannot be renewed");
                        return;
                    }
                }
                if renewed.send(ticket.note().clone()).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

#[cfg(test)]
mod tests {
    use systir_assignment::RoomId;
    use systir_documents::SigningKey;

    use super::*;

    #[test]
    fn a_ticket_is_renewed_before_others_find_it_too_old_and_says_the_same() {
        let key = SigningKey::from_seed("cph-1", [1; 32]).unwrap();
        let public = key.public();
        let issuer = TicketIssuer {
            node: "cph-1".to_owned(),
            key: key.into(),
            key_changes: watch::channel(0).1,
            tasks: TaskTracker::new(),
            signed: Counter::default(),
        };
        let room = RoomId::new("ku.dk", "lecture");
        let assignment = Assignment::new(room, "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
        let grants = Grants::new("ku.dk", "lecture", "anna");
        let first = issuer.issue(&assignment, "sto-1", &grants, u64::MAX).unwrap();
        let ticket = first.ticket();
        assert_eq!((ticket.gateway.as_str(), ticket.media_node.as_str()), ("cph-1", "sto-1"));
        assert!(ticket.join_number > ticket.issued_ms, "it wins against the join that is known");
        let later = ticket.issued_ms + TICKET_RENEWAL_MS.end;
        assert_eq!(ticket.check_time(later), Ok(()));
        let again = issuer.issue_again(ticket, later).unwrap();
        assert!(again.ticket().renews(ticket) && again.ticket().issued_ms == later);
        let set_back = issuer.issue_again(again.ticket(), ticket.issued_ms).unwrap();
        assert!(set_back.ticket().issued_ms > later);
        let note = std::str::from_utf8(again.note()).unwrap();
        assert!(Ticket::verify(note, &[public]).is_ok());
    }
}
