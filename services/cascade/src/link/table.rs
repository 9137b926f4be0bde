//! All peers of this node: what is needed of them, and the link with each.

use super::link_rooms::Rooms;
use super::{LinkInfo, PeerAddress, SendError, dial};
use crate::event::{DownReason, LinkEvent, LinkNumber, RoomBody, RoomKey};
use crate::flow::Parity;
use crate::frame;
use crate::grpc::client::Clients;
use crate::grpc::heartbeat::Pulses;
use crate::handler::Handler;
use crate::quic::QuicHandle;
use crate::stats::LinkStats;
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use systir_identity::{Credentials, SpiffeId};
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{CloseRoom, OpenRoom, RoomMessage, SessionMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Control messages that wait for a slow peer, at most.
pub(crate) const QUEUE: usize = 2048;
/// Of these, so many are kept for the link's own words: what rooms say does not end it.
const KEPT: usize = 512;
/// A peer that took nothing of any room for so long, while one waited, reads no more.
const STUCK: Duration = Duration::from_secs(5);
/// Who waits tries again within this time.
const TRIES: Duration = Duration::from_secs(1);

/// Lossy messages up to this size go as datagrams: two of the smallest hold them.
const DATAGRAM: usize = 2000;

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

/// A link that stands.
pub(crate) struct Link {
    pub(crate) number: LinkNumber,
    pub(crate) peer: SpiffeId,
    pub(crate) parity: Parity,
    /// Did we dial?
    pub(crate) outgoing: bool,
    pub(crate) rooms: Mutex<Rooms>,
    pub(crate) out: Out,
    pub(crate) stats: Arc<Mutex<LinkStats>>,
    pub(crate) closed_room_messages: AtomicU64,
    pub(crate) control_dropped: AtomicU64,
    /// Since when rooms were told in vain that there is no room, and when last.
    pub(crate) full: Mutex<Option<(Instant, Instant)>>,
    /// Cancelled to end the link; the first reason counts.
    pub(crate) close: CancellationToken,
    pub(crate) reason: Mutex<Option<DownReason>>,
    /// Cancelled once `Down` has been told.
    pub(crate) done: CancellationToken,
}

/// The way to the peer.
#[derive(Clone)]
pub(crate) enum Out {
    /// We dialled: our messages are the request's.
    Request(mpsc::Sender<SessionMessage>),
    /// The peer dialled: they are the response's.
    Response(mpsc::Sender<Result<SessionMessage, tonic::Status>>),
}

impl Out {
    /// Room in the queue.
    fn capacity(&self) -> usize {
        match self {
            Self::Request(out) => out.capacity(),
            Self::Response(out) => out.capacity(),
        }
    }

    pub(super) fn put(&self, body: Body) -> bool {
        let message = SessionMessage { body: Some(body) };
        match self {
            Self::Request(out) => out.try_send(message).is_ok(),
            Self::Response(out) => out.try_send(Ok(message)).is_ok(),
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(crate) fn end(&self, reason: DownReason) {
        lock(&self.reason).get_or_insert(reason);
        self.close.cancel();
    }

    /// Queues a word of the link's own, which must not be lost; when the peer does not read, the link
    /// ends.
    pub(super) fn put(&self, body: Body) -> bool {
        let put = self.out.put(body);
        if !put {
            self.end(DownReason::Overrun);
        }
        put
    }

    /// Is there room for what rooms say? Without it for long, although it is asked for again and again,
    /// the peer does not read, and the link ends.
    fn has_room(&self) -> bool {
        let mut full = lock(&self.full);
        if self.out.capacity() > KEPT {
            *full = None;
            return true;
        }
        let now = Instant::now();
        let since = match *full {
            Some((since, last)) if now.duration_since(last) < TRIES => since,
            _ => now,
        };
        *full = Some((since, now));
        if now.duration_since(since) > STUCK {
            self.end(DownReason::Overrun);
        }
        false
    }

    pub(super) fn ask(&self, key: &RoomKey, need: Need) {
        // The lock is held so that no other message about the room slips in between.
        let mut rooms = lock(&self.rooms);
        if rooms.ask(key, need.epoch, need.policy_version) {
            let Need { epoch, policy_version } = need;
            self.put(Body::OpenRoom(OpenRoom { room: key.to_string(), epoch, policy_version }));
        }
    }

    fn stats(&self) -> LinkStats {
        let mut stats = *lock(&self.stats);
        stats.closed_room_messages = self.closed_room_messages.load(Ordering::Relaxed);
        stats.control_dropped = self.control_dropped.load(Ordering::Relaxed);
        stats
    }
}

impl Inner {
    pub(super) fn new(
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

    /// A link or an attempt ended: back to idle, or dial again when a room needs it.
    pub(super) fn settle(self: &Arc<Self>, id: &SpiffeId, number: LinkNumber) {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(id) else { return };
        let ours = match &peer.state {
            State::Idle => true,
            State::Dialling(current, _)
            | State::Waiting(current)
            | State::Accepting(current)
            | State::Ending(current, _) => *current == number,
            State::Up(link) => link.number == number,
        };
        if !ours {
            return;
        }
        peer.state = State::Idle;
        if peer.needs.is_empty() {
            peers.remove(id);
        } else {
            dial::begin(self, id, peer, true);
        }
    }
}

pub(super) fn need(inner: &Arc<Inner>, room: &str, address: PeerAddress, epoch: u64, policy_version: u64) {
    if address.id == *inner.credentials.id() || inner.cancel.is_cancelled() {
        return;
    }
    let id = address.id.clone();
    inner.with_peer(&id, |peer| {
        let key: RoomKey = room.into();
        let need = Need { epoch, policy_version };
        peer.needs.insert(key.clone(), need);
        let moved = peer.address.replace(address.clone()).is_some_and(|before| before != address);
        match &peer.state {
            State::Up(link) => link.ask(&key, need),
            State::Idle => dial::begin(inner, &id, peer, false),
            // It came back elsewhere: what was tried at the old address counts no more.
            State::Waiting(_) if moved => dial::begin(inner, &id, peer, false),
            State::Dialling(_, attempt) if moved => attempt.cancel(),
            _ => {}
        }
    });
}

pub(super) fn drop_room(inner: &Inner, room: &str, id: &SpiffeId) {
    let mut peers = inner.peers();
    let Some(peer) = peers.get_mut(id) else { return };
    peer.needs.remove(room);
    if let State::Up(link) = &peer.state {
        let mut rooms = lock(&link.rooms);
        rooms.close(room);
        link.put(Body::CloseRoom(CloseRoom { room: room.to_owned() }));
    }
}

pub(super) fn send(inner: &Inner, id: &SpiffeId, room: &str, body: RoomBody) -> Result<(), SendError> {
    let link = match inner.peers().get(id).map(|peer| &peer.state) {
        Some(State::Up(link)) => link.clone(),
        _ => return Err(SendError::NoLink),
    };
    let rooms = lock(&link.rooms);
    if !rooms.is_open(room) {
        return Err(SendError::RoomNotOpen);
    }
    let lossy = matches!(body, RoomBody::LossyData(_));
    let message = RoomMessage { room: room.to_owned(), body: Some(body) };
    // Lossy messages overtake the others, as media does; long ones would only be lost.
    let sent = if lossy && message.encoded_len() < DATAGRAM {
        inner.quic.send(link.number, frame::message(&message))
    } else if link.has_room() {
        link.put(Body::Room(message))
    } else if lossy {
        false
    } else {
        return Err(SendError::Full(message.body.map(Box::new)));
    };
    if sent {
        return Ok(());
    }
    link.control_dropped.fetch_add(1, Ordering::Relaxed);
    Err(SendError::Full(None))
}

pub(super) fn list(inner: &Inner) -> Vec<LinkInfo> {
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
