//! A link that is up.

use super::link_rooms::{LinkRooms, RoomVersion};
use super::session_queue::SessionSender;
use crate::event::{DownReason, LinkNumber, LinkRoomKey};
use crate::flow::Parity;
use crate::grpc::connection::NodeConnection;
use crate::stats::LinkStats;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::OpenRoom;
use systir_proto::cluster::v1::session_message::Body;
use tokio_util::sync::CancellationToken;

/// The link ends when no room message fitted into the queue for this long.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// Callers retry within this time; a longer pause restarts the measurement of `STALL_LIMIT`.
const RETRY_WITHIN: Duration = Duration::from_secs(1);

/// A link that is up.
pub(crate) struct EstablishedLink {
    pub(crate) number: LinkNumber,
    /// Since when it is up.
    pub(crate) since: Instant,
    pub(crate) peer: SpiffeId,
    pub(crate) parity: Parity,
    /// Did this node dial?
    pub(crate) outgoing: bool,
    /// The gRPC connection of its session. The link ends with it.
    pub(crate) connection: Arc<NodeConnection>,
    pub(crate) rooms: Mutex<LinkRooms>,
    pub(crate) out: SessionSender,
    pub(crate) stats: Arc<Mutex<LinkStats>>,
    pub(crate) closed_room_messages: AtomicU64,
    pub(crate) control_dropped: AtomicU64,
    /// First and last rejected send while the queue was full.
    pub(crate) rejected: Mutex<Option<(Instant, Instant)>>,
    /// Cancelled to end the link; `reason` is set before.
    pub(crate) close: CancellationToken,
    /// Why the link ends; only the first reason is kept.
    pub(crate) reason: Mutex<Option<DownReason>>,
    /// Cancelled after the `Down` event.
    pub(crate) done: CancellationToken,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EstablishedLink {
    pub(crate) fn end(&self, reason: DownReason) {
        lock(&self.reason).get_or_insert(reason);
        self.close.cancel();
    }

    /// Queues a message. When the queue is full, the link ends, since no control message may be lost.
    pub(super) fn send(&self, body: Body) -> bool {
        let sent = self.out.send(body);
        if !sent {
            self.end(DownReason::Overrun);
        }
        sent
    }

    /// Does the queue have space for room messages? The link ends when it had none for `STALL_LIMIT`
    /// while callers kept retrying.
    pub(super) fn has_capacity(&self) -> bool {
        let mut rejected = lock(&self.rejected);
        if self.out.has_capacity() {
            *rejected = None;
            return true;
        }
        let now = Instant::now();
        let since = match *rejected {
            Some((since, last)) if now.duration_since(last) < RETRY_WITHIN => since,
            _ => now,
        };
        *rejected = Some((since, now));
        if now.duration_since(since) > STALL_LIMIT {
            self.end(DownReason::Overrun);
        }
        false
    }

    pub(super) fn request_room(&self, key: &LinkRoomKey, version: RoomVersion, grant: String) {
        // Held while sending, so that messages about the room are queued in the order of its changes.
        let mut rooms = lock(&self.rooms);
        if rooms.request(key, version) {
            let RoomVersion { epoch, policy_version } = version;
            self.send(Body::OpenRoom(OpenRoom { room: key.to_string(), epoch, policy_version, grant }));
        }
    }

    pub(super) fn stats(&self) -> LinkStats {
        let mut stats = *lock(&self.stats);
        stats.closed_room_messages = self.closed_room_messages.load(Ordering::Relaxed);
        stats.control_dropped = self.control_dropped.load(Ordering::Relaxed);
        stats
    }
}
