//! The peers of this node: the rooms that need a link with each, and the state of that link. Data and
//! its locks only.

use super::established::{EstablishedLink, lock};
use super::info::LinkInfo;
use super::link_rooms::RoomVersion;
use crate::event::{LinkNumber, LinkRoomKey};
use crate::peer_address::PeerAddress;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use systir_identity::SpiffeId;
use tokio_util::sync::CancellationToken;

/// The peers of this node.
#[derive(Default)]
pub(crate) struct LinkTable {
    last_number: AtomicU32,
    peers: Mutex<HashMap<SpiffeId, PeerEntry>>,
}

/// One peer.
pub(super) struct PeerEntry {
    pub(super) address: Option<PeerAddress>,
    pub(super) needed_rooms: BTreeMap<LinkRoomKey, RoomVersion>,
    pub(super) state: LinkState,
}

/// State of the link with a peer.
pub(super) enum LinkState {
    /// No link.
    Idle,
    /// This node dials: number of the attempt, and a token that cancels it.
    Dialling(LinkNumber, CancellationToken),
    /// Backoff before the next dial. A dial of the peer is accepted meanwhile.
    Waiting(LinkNumber),
    /// The peer dialled; its session is up, its QUIC connections are not yet.
    Accepting(LinkNumber),
    /// The link is up.
    Up(Arc<EstablishedLink>),
    /// The link has ended; the token is cancelled after its `Down` event.
    Ending(LinkNumber, CancellationToken),
}

impl LinkTable {
    /// A new link number.
    pub(super) fn next_number(&self) -> LinkNumber {
        self.last_number.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, HashMap<SpiffeId, PeerEntry>> {
        lock(&self.peers)
    }

    /// Runs `action` on the peer's entry; creates the entry if there is none.
    pub(super) fn with_peer<T>(&self, id: &SpiffeId, action: impl FnOnce(&mut PeerEntry) -> T) -> T {
        let mut peers = self.peers();
        let peer = peers.entry(id.clone()).or_insert_with(|| PeerEntry {
            address: None,
            needed_rooms: BTreeMap::new(),
            state: LinkState::Idle,
        });
        action(peer)
    }

    /// Is the link with the peer up?
    pub(crate) fn is_up(&self, id: &SpiffeId) -> bool {
        self.peers().get(id).is_some_and(|peer| matches!(peer.state, LinkState::Up(_)))
    }

    /// The link with the peer, if it is up.
    pub(crate) fn up(&self, id: &SpiffeId) -> Option<Arc<EstablishedLink>> {
        match self.peers().get(id).map(|peer| &peer.state) {
            Some(LinkState::Up(link)) => Some(link.clone()),
            _ => None,
        }
    }

    /// All links that are up.
    pub(crate) fn all_up(&self) -> Vec<Arc<EstablishedLink>> {
        let peers = self.peers();
        let links = peers.values().filter_map(|peer| match &peer.state {
            LinkState::Up(link) => Some(link.clone()),
            _ => None,
        });
        links.collect()
    }

    /// Descriptions of all links that are up.
    pub(crate) fn list(&self) -> Vec<LinkInfo> {
        self.all_up()
            .iter()
            .map(|link| LinkInfo {
                peer: link.peer.clone(),
                link: link.number,
                parity: link.parity,
                rooms: lock(&link.rooms).open(),
                stats: link.stats(),
            })
            .collect()
    }
}
