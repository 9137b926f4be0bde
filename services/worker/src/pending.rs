//! The downtracks of one connection that have queued packets.

use std::collections::VecDeque;

use systir_forwarding::SubscriptionId;
use systir_rtp::packet::Kind;

/// Downtracks whose next packet is to be sent, each at most once. All audio is sent before video.
#[derive(Debug, Default)]
pub(super) struct PendingDowntracks {
    audio: VecDeque<SubscriptionId>,
    video: VecDeque<SubscriptionId>,
    /// Is the connection in the worker's list of those that may send?
    pub(super) listed: bool,
}

impl PendingDowntracks {
    /// Adds a downtrack that had no queued packets before.
    pub(super) fn add(&mut self, id: SubscriptionId, kind: Kind) {
        self.of(kind).push_back(id);
    }

    /// The downtrack of this kind that is next.
    pub(super) fn next(&mut self, kind: Kind) -> Option<SubscriptionId> {
        self.of(kind).front().copied()
    }

    /// The next downtrack of this kind has no more queued packets.
    pub(super) fn finished(&mut self, kind: Kind) {
        self.of(kind).pop_front();
    }

    /// Another downtrack is next among those of video.
    pub(super) fn rotate_video(&mut self) {
        if !self.video.is_empty() {
            self.video.rotate_left(1);
        }
    }

    fn of(&mut self, kind: Kind) -> &mut VecDeque<SubscriptionId> {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}
