//! The downtracks of one connection that have queued packets.

use smallvec::SmallVec;
use systir_forwarding::SubscriptionId;
use systir_rtp::packet::Kind;

type Queue = SmallVec<[SubscriptionId; 4]>;

/// Downtracks whose next packet is to be sent, each at most once. All audio is sent before video.
#[derive(Debug, Default)]
pub(super) struct PendingDowntracks {
    // Few tracks wait at a time; their ids need no memory of their own.
    audio: Queue,
    video: Queue,
    /// Is the connection in the worker's list of those that may send?
    pub(super) listed: bool,
}

impl PendingDowntracks {
    /// Adds a downtrack that had no queued packets before.
    pub(super) fn add(&mut self, id: SubscriptionId, kind: Kind) {
        self.of(kind).push(id);
    }

    /// The downtrack of this kind that is next.
    pub(super) fn next(&mut self, kind: Kind) -> Option<SubscriptionId> {
        self.of(kind).first().copied()
    }

    /// The next downtrack of this kind has no more queued packets.
    pub(super) fn finished(&mut self, kind: Kind) {
        let queue = self.of(kind);
        if !queue.is_empty() {
            queue.remove(0);
        }
    }

    /// Another downtrack is next among those of video.
    pub(super) fn rotate_video(&mut self) {
        if !self.video.is_empty() {
            self.video.rotate_left(1);
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Queue {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}
