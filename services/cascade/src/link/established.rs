//! A link that stands.

use super::link_rooms::{LinkRooms, RoomVersion};
use crate::event::{DownReason, LinkNumber, RoomKey};
use crate::flow::Parity;
use crate::stats::LinkStats;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{OpenRoom, SessionMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Control messages that wait for a slow peer, at most.
pub(crate) const SESSION_QUEUE: usize = 2048;
/// Of these, so many are kept for the link's own words: what rooms say does not end it.
const RESERVED: usize = 512;
/// A peer that took nothing of any room for so long, while one waited, reads no more.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// Who waits tries again within this time.
const RETRY_WITHIN: Duration = Duration::from_secs(1);

/// A link that stands.
pub(crate) struct EstablishedLink {
    pub(crate) number: LinkNumber,
    pub(crate) peer: SpiffeId,
    pub(crate) parity: Parity,
    /// Did we dial?
    pub(crate) outgoing: bool,
    pub(crate) rooms: Mutex<LinkRooms>,
    pub(crate) out: SessionSender,
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
pub(crate) enum SessionSender {
    /// We dialled: our messages are the request's.
    Request(mpsc::Sender<SessionMessage>),
    /// The peer dialled: they are the response's.
    Response(mpsc::Sender<Result<SessionMessage, tonic::Status>>),
}

impl SessionSender {
    /// Room in the queue.
    fn capacity(&self) -> usize {
        match self {
            Self::Request(out) => out.capacity(),
            Self::Response(out) => out.capacity(),
        }
    }

    pub(super) fn send(&self, body: Body) -> bool {
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

impl EstablishedLink {
    pub(crate) fn end(&self, reason: DownReason) {
        lock(&self.reason).get_or_insert(reason);
        self.close.cancel();
    }

    /// Queues a word of the link's own, which must not be lost; when the peer does not read, the link
    /// ends.
    pub(super) fn send(&self, body: Body) -> bool {
        let sent = self.out.send(body);
        if !sent {
            self.end(DownReason::Overrun);
        }
        sent
    }

    /// Is there room for what rooms say? Without it for long, although it is asked for again and again,
    /// the peer does not read, and the link ends.
    pub(super) fn has_capacity(&self) -> bool {
        let mut full = lock(&self.full);
        if self.out.capacity() > RESERVED {
            *full = None;
            return true;
        }
        let now = Instant::now();
        let since = match *full {
            Some((since, last)) if now.duration_since(last) < RETRY_WITHIN => since,
            _ => now,
        };
        *full = Some((since, now));
        if now.duration_since(since) > STALL_LIMIT {
            self.end(DownReason::Overrun);
        }
        false
    }

    pub(super) fn request_room(&self, key: &RoomKey, version: RoomVersion) {
        // The lock is held so that no other message about the room slips in between.
        let mut rooms = lock(&self.rooms);
        if rooms.request(key, version) {
            let RoomVersion { epoch, policy_version } = version;
            self.send(Body::OpenRoom(OpenRoom { room: key.to_string(), epoch, policy_version }));
        }
    }

    pub(super) fn stats(&self) -> LinkStats {
        let mut stats = *lock(&self.stats);
        stats.closed_room_messages = self.closed_room_messages.load(Ordering::Relaxed);
        stats.control_dropped = self.control_dropped.load(Ordering::Relaxed);
        stats
    }
}
