//! All peers of this node: what is needed of them, and the link with each.

use super::established::{EstablishedLink, lock};
use super::info::LinkInfo;
use super::link_rooms::RoomVersion;
use crate::event::{LinkNumber, RoomKey};
use crate::peer_address::PeerAddress;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use systir_identity::SpiffeId;
use tokio_util::sync::CancellationToken;

/// All peers of this node.
#[derive(Default)]
pub(crate) struct LinkTable {
    last_number: AtomicU32,
    peers: Mutex<HashMap<SpiffeId, PeerEntry>>,
}

/// One peer.
pub(super) struct PeerEntry {
    pub(super) address: Option<PeerAddress>,
    pub(super) needed_rooms: BTreeMap<RoomKey, RoomVersion>,
    pub(super) state: LinkState,
}

/// The link with a peer.
pub(super) enum LinkState {
    /// None.
    Idle,
    /// We dial; which attempt, and how to end it.
    Dialling(LinkNumber, CancellationToken),
    /// We dialled in vain and dial again soon; should the peer dial meanwhile, it is welcome.
    Waiting(LinkNumber),
    /// The peer dials, and its session stands.
    Accepting(LinkNumber),
    /// It stands.
    Up(Arc<EstablishedLink>),
    /// It ended, and the node is being told; cancelled once it has been.
    Ending(LinkNumber, CancellationToken),
}

impl LinkTable {
    /// A number that no link had before.
    pub(super) fn next_number(&self) -> LinkNumber {
        self.last_number.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, HashMap<SpiffeId, PeerEntry>> {
        lock(&self.peers)
    }

    /// The peer's entry, made when there is none.
    pub(super) fn with_peer<T>(&self, id: &SpiffeId, action: impl FnOnce(&mut PeerEntry) -> T) -> T {
        let mut peers = self.peers();
        let peer = peers.entry(id.clone()).or_insert_with(|| PeerEntry {
            address: None,
            needed_rooms: BTreeMap::new(),
            state: LinkState::Idle,
        });
        action(peer)
    }

    /// Does a link with the peer stand?
    pub(crate) fn is_up(&self, id: &SpiffeId) -> bool {
        self.peers().get(id).is_some_and(|peer| matches!(peer.state, LinkState::Up(_)))
    }

    /// All links that stand.
    pub(crate) fn list(&self) -> Vec<LinkInfo> {
        let peers = self.peers();
        let links = peers.values().filter_map(|peer| match &peer.state {
            LinkState::Up(link) => Some(link),
            _ => None,
        });
        links
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
