//! Links and connections that do not belong to each other yet.

use super::command::{LinkId, LinkSetup};
use crate::event::LinkNumber;
use quinn::{Connection, SendStream};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use systir_identity::SpiffeId;
use tokio::task::AbortHandle;

/// Links and connections that do not belong to each other yet.
#[derive(Default)]
pub(super) struct PendingLinks {
    pub(super) expected: RefCell<FxHashMap<LinkId, Rc<PendingLink>>>,
    /// Tasks that dial, to be ended with their link.
    pub(super) dials: RefCell<FxHashMap<LinkNumber, AbortHandle>>,
    pub(super) unbound: Cell<usize>,
}

impl PendingLinks {
    /// The control half gives a link up.
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
    pub(super) setup: RefCell<Option<LinkSetup>>,
    pub(super) arrived: RefCell<Vec<(u8, Connection, SendStream)>>,
}
