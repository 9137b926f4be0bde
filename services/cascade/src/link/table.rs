//! All peers of this node: what is needed of them, and the link with each.

use super::established::{Link, lock};
use super::info::LinkInfo;
use crate::event::{LinkEvent, LinkNumber, RoomKey};
use crate::grpc::client::Clients;
use crate::grpc::heartbeat::Pulses;
use crate::handler::Handler;
use crate::peer_address::PeerAddress;
use crate::quic::QuicHandle;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use systir_identity::{Credentials, SpiffeId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all parts of the control half share.
pub(crate) struct Inner {
    pub(crate) credentials: Credentials,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) quic: QuicHandle,
    pub(crate) clients: Clients,
    pub(crate) pulses: Pulses,
    pub(crate) lanes: u8,
    pub(crate) linger: Duration,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    next: AtomicU32,
    peers: Mutex<HashMap<SpiffeId, Peer>>,
}

/// One peer.
pub(super) struct Peer {
    pub(super) address: Option<PeerAddress>,
    pub(super) needs: BTreeMap<RoomKey, Need>,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    pub(super) epoch: u64,
    pub(super) policy_version: u64,
}

/// The link with a peer.
pub(super) enum State {
    /// None.
    Idle,
    /// We dial; which attempt, and how to end it.
    Dialling(LinkNumber, CancellationToken),
    /// We dialled in vain and dial again soon; should the peer dial meanwhile, it is welcome.
    Waiting(LinkNumber),
    /// The peer dials, and its session stands.
    Accepting(LinkNumber),
    /// It stands.
    Up(Arc<Link>),
    /// It ended, and the node is being told; cancelled once it has been.
    Ending(LinkNumber, CancellationToken),
}

impl Inner {
    pub(crate) fn new(
        credentials: Credentials,
        handler: Arc<dyn Handler>,
        events: mpsc::Sender<LinkEvent>,
        quic: QuicHandle,
        clients: Clients,
        lanes: u8,
        linger: Duration,
    ) -> Self {
        Self {
            credentials,
            handler,
            events,
            quic,
            clients,
            pulses: Pulses::default(),
            lanes,
            linger,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            next: AtomicU32::new(1),
            peers: Mutex::default(),
        }
    }

    /// A number that no link had before.
    pub(super) fn number(&self) -> LinkNumber {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, HashMap<SpiffeId, Peer>> {
        lock(&self.peers)
    }

    /// The peer's entry, made when there is none.
    pub(super) fn with_peer<T>(&self, id: &SpiffeId, action: impl FnOnce(&mut Peer) -> T) -> T {
        let mut peers = self.peers();
        let peer = peers.entry(id.clone()).or_insert_with(|| Peer {
            address: None,
            needs: BTreeMap::new(),
            state: State::Idle,
        });
        action(peer)
    }

    /// Does a link with the peer stand?
    pub(crate) fn is_up(&self, id: &SpiffeId) -> bool {
        self.peers().get(id).is_some_and(|peer| matches!(peer.state, State::Up(_)))
    }
}

pub(crate) fn list(inner: &Inner) -> Vec<LinkInfo> {
    let peers = inner.peers();
    let links = peers.values().filter_map(|peer| match &peer.state {
        State::Up(link) => Some(link),
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
