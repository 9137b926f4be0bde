//! Links that are being set up.

use super::command::{LinkId, LinkSetup};
use crate::event::LinkNumber;
use quinn::{Connection, SendStream};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use systir_identity::SpiffeId;
use tokio::task::AbortHandle;

/// Links that are being set up, and connections not yet bound to a link.
#[derive(Default)]
pub(super) struct PendingLinks {
    /// Links whose connections the peer dials.
    pub(super) expected: RefCell<FxHashMap<LinkId, Rc<PendingLink>>>,
    /// Tasks that dial, aborted when their link is closed.
    pub(super) dials: RefCell<FxHashMap<LinkNumber, AbortHandle>>,
    /// Accepted connections that have not named their link.
    pub(super) unbound: Cell<usize>,
}

impl PendingLinks {
    /// Ends the setup of a link.
    pub(super) fn remove(&self, number: LinkNumber) {
        if let Some(dial) = self.dials.borrow_mut().remove(&number) {
            dial.abort();
        }
        self.expected.borrow_mut().retain(|_, pending| pending.number != number);
    }
}

/// A link that waits for the peer's connections.
pub(super) struct PendingLink {
    pub(super) number: LinkNumber,
    pub(super) peer: SpiffeId,
    pub(super) connections: u8,
    /// Taken when the link is up, or its time is over.
    pub(super) setup: RefCell<Option<LinkSetup>>,
    /// Index and connection, and the stream to confirm it on.
    pub(super) arrived: RefCell<Vec<(u8, Connection, SendStream)>>,
}
