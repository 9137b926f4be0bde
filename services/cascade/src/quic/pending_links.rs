//! Links that are being set up.

use super::command::{LinkId, LinkSetup};
use crate::event::LinkNumber;
use crate::listed_nodes::ListedNodes;
use crate::unproven::UnprovenPlaces;
use quinn::{Connection, SendStream};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;
use systir_identity::{NodeKeyProof, ProvenIdentity};
use tokio::task::AbortHandle;

/// Links that are being set up, and connections not yet bound to a link.
pub(super) struct PendingLinks {
    /// Links whose connections the peer dials.
    pub(super) expected: RefCell<FxHashMap<LinkId, Rc<PendingLink>>>,
    /// Tasks that dial, aborted when their link is closed.
    pub(super) dials: RefCell<FxHashMap<LinkNumber, AbortHandle>>,
    /// Accepted connections that have not named their link.
    pub(super) unbound: UnprovenPlaces,
}

impl PendingLinks {
    pub(super) fn new(listed: Arc<dyn ListedNodes>) -> Self {
        Self { expected: RefCell::default(), dials: RefCell::default(), unbound: UnprovenPlaces::new(listed) }
    }

    /// Adds a link whose connections the peer dials. A peer sets up one link at a time: an older one fails.
    pub(super) fn expect(&self, id: LinkId, link: Rc<PendingLink>) {
        let mut expected = self.expected.borrow_mut();
        let older = expected.extract_if(|_, older| older.peer.id() == link.peer.id());
        for (_, older) in older {
            if let Some(setup) = older.setup.borrow_mut().take() {
                let _ = setup.ready.send(Err("the peer opened a new link".to_owned()));
            }
        }
        expected.insert(id, link);
    }

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
    pub(super) peer: ProvenIdentity,
    pub(super) connections: u8,
    /// Taken when the link is up, or its time is over.
    pub(super) setup: RefCell<Option<LinkSetup>>,
    pub(super) arrived: RefCell<Vec<ArrivedConnection>>,
}

/// A connection of a link that waits for the others.
pub(super) struct ArrivedConnection {
    pub(super) index: u8,
    pub(super) connection: Connection,
    /// The stream to confirm it on, and this node's proof for that.
    pub(super) answer: (SendStream, NodeKeyProof),
    /// The first end of its certificates.
    pub(super) until: SystemTime,
}
