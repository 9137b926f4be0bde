//! The layers that are wanted of each track. Subscribers count with what they ask for, not with what their bandwidth
//! allows: otherwise a layer that does not fit now would be turned off at its publisher, and could not be tried again.

use systir_forwarding::{SubscriptionId, TrackId};
use systir_media_control::WorkerEvent;
use systir_rtp::packet::{Kind, Layer, LayerSet};

use super::demand::declared_layer;
use super::egress::{Source, WorkerEgress};
use super::engine::Engine;

impl WorkerEgress {
    /// Counts what a downtrack asks for. It counts once its connection is up.
    pub(super) fn count_demand(&mut self, id: SubscriptionId) {
        let Some(sender) = self.downtrack(id) else { return };
        let connected = self.connections.get(sender.connection).is_some_and(|conn| conn.connected);
        let Some(declared) = self.track(sender.track).map(|track| track.spec.layers) else { return };
        let asked = sender.demand.layer.filter(|_| connected);
        let now = asked.and_then(|layer| declared_layer(layer, declared));
        if let Some(sender) = self.downtrack_sender(id) {
            let (track, before) = (sender.track, std::mem::replace(&mut sender.counted, now));
            self.change_demand(track, before, now);
        }
    }

    /// A downtrack ended.
    pub(super) fn end_demand(&mut self, track: TrackId, counted: Option<Layer>) {
        self.change_demand(track, counted, None);
    }

    fn change_demand(&mut self, id: TrackId, before: Option<Layer>, now: Option<Layer>) {
        let Some(track) = self.track_mut(id) else { return };
        if before != now {
            track.demanded.change(before, now);
            self.check_wanted(id);
        }
    }

    /// The wanted layers of a track may have changed.
    pub(super) fn check_wanted(&mut self, id: TrackId) {
        let Some(track) = self.track_mut(id) else { return };
        if !std::mem::replace(&mut track.demanded.queued, true) {
            self.wanted_checks.push(id);
        }
    }

    /// Tells the room which layers of a track are wanted, if that changed. `needed`: those that the forwarding core
    /// needs for its downtracks and feeds.
    fn tell_wanted(&mut self, id: TrackId, needed: LayerSet) {
        let Some(track) = self.track_mut(id) else { return };
        track.demanded.queued = false;
        let layers = needed.union(track.demanded.layers());
        // Publishers of audio are not told.
        let is_told = matches!(track.source, Source::Link { .. }) || track.spec.kind == Kind::Video;
        if is_told && std::mem::replace(&mut track.demanded.told, layers) != layers {
            let (room, track) = (track.room, track.key);
            self.notify_room(room, WorkerEvent::Wanted { track, layers });
        }
    }
}

impl Engine {
    /// Tells the rooms which layers of their tracks are wanted, where that changed.
    pub(super) fn tell_wanted(&mut self) {
        while let Some((track, _)) = self.core.poll_wanted() {
            self.egress.check_wanted(track);
        }
        while let Some(track) = self.egress.wanted_checks.pop() {
            self.egress.tell_wanted(track, self.core.wanted(track));
        }
    }
}
