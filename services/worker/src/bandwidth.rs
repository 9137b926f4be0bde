//! Divides the estimated bandwidth of a subscriber's connection among its video tracks, several times a second.

use std::time::Instant;

use systir_allocation::{Importance, LayerRates, Rung, VideoDemand, VideoSource};
use systir_forwarding::SubscriptionId;
use systir_media_control::{CaptureSource, TrackKey, WorkerEvent};
use systir_rtp::packet::Kind;
use tracing::trace;

use super::connection::{Connection, Role};
use super::egress::{DowntrackSender, Source};
use super::engine::Engine;
use super::send_queue::Via;

/// Tracks that one division raises at most until the path was too slow for the first time; then one, since each begins with
/// a key frame.
const MAX_RAISED: usize = 4;

/// What one division gets and returns; reused.
#[derive(Debug, Default)]
pub(super) struct Division {
    demands: Vec<(SubscriptionId, VideoDemand)>,
    rungs: Vec<(SubscriptionId, Option<Rung>)>,
}

impl Engine {
    /// Starts or changes what is sent of a downtrack whose connection is up. Of video the bandwidth is divided anew, of
    /// audio the subscriber gets what it asks for.
    pub(super) fn start_downtrack(&mut self, now: Instant, id: SubscriptionId) {
        let Some(sender) = self.egress.downtrack_sender(id) else { return };
        let (connection, layer) = (sender.connection, sender.demand.layer);
        if sender.codec.kind() == Kind::Audio {
            self.core.set_target(now, id, layer, &mut self.egress);
        } else if let Some(control) = self.egress.send_control(connection) {
            control.divide_soon(now);
            if !self.divisions.contains(&connection) {
                self.divisions.push(connection);
            }
        }
    }

    /// Divides the bandwidth of a connection with congestion control, if that is due.
    pub(super) fn divide_bandwidth(&mut self, now: Instant, connection: usize) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let over_tcp = conn.route.is_some_and(|route| matches!(route.via, Via::Tcp(_)));
        let Some(control) = conn.send_control() else { return };
        if !control.begin_division(now) {
            return;
        }
        if !over_tcp {
            control.clear_backlog();
        }
        let budget = control.budget();
        let mut division = std::mem::take(&mut self.division);
        self.collect_demands(now, connection, &mut division.demands);
        let egress = &mut self.egress;
        if let Some(control) = egress.connections.get_mut(connection).and_then(Connection::send_control) {
            egress.estimates.set(&mut control.range, Some(budget));
            // Each call raises one track.
            let mut outcome = control.allocator.allocate(now, budget, &division.demands, &mut division.rungs);
            for _ in 1..MAX_RAISED {
                if control.allocator.has_lowered() {
                    break;
                }
                let before = outcome.allocated;
                outcome = control.allocator.allocate(now, budget, &division.demands, &mut division.rungs);
                if outcome.allocated <= before {
                    break;
                }
            }
            control.set_outcome(now, outcome);
            trace!(
                connection,
                budget,
                wanted = outcome.wanted,
                allocated = outcome.allocated,
                trial = outcome.trial,
                "the bandwidth of a subscriber is divided"
            );
        }
        self.apply(now, connection, &division.rungs);
        self.division = division;
        self.schedule_sending(now, connection);
    }

    fn collect_demands(
        &mut self,
        now: Instant,
        connection: usize,
        demands: &mut Vec<(SubscriptionId, VideoDemand)>,
    ) {
        demands.clear();
        let Some(Connection { role: Role::Subscriber { downtracks, .. }, .. }) =
            self.egress.connections.get(connection)
        else {
            return;
        };
        for id in downtracks {
            let Some(sender) = self.egress.downtrack(*id) else { continue };
            let Some(track) = self.egress.track(sender.track) else { continue };
            if track.spec.kind != Kind::Video {
                continue;
            }
            let live = match track.source {
                // What a link carries depends on the demand.
                Source::Link { .. } => track.spec.layers,
                Source::Publisher { .. } => self.core.live_layers(sender.track),
            };
            let demand = VideoDemand {
                source: match sender.downtrack.source {
                    CaptureSource::ScreenShare => VideoSource::ScreenShare,
                    _ => VideoSource::Camera,
                },
                wanted: sender.demand.layer,
                shown_pixels: sender.demand.pixels,
                importance: importance(sender.demand.priority, self.egress.is_speaking(&track.publisher)),
                rates: LayerRates(self.core.layer_rates(now, sender.track)),
                declared: track.spec.layers,
                live,
                current: self.core.current_layer(*id).map(Rung::all_of),
            };
            demands.push((*id, demand));
        }
    }

    /// Sets what is sent of each track, and tells the room which ones are paused.
    fn apply(&mut self, now: Instant, connection: usize, rungs: &[(SubscriptionId, Option<Rung>)]) {
        let mut changes: Vec<(TrackKey, bool)> = Vec::new();
        for (id, rung) in rungs {
            let Some(sender) = self.egress.downtrack_sender(*id) else { continue };
            let DowntrackSender { demand, downtrack, is_paused, .. } = sender;
            // A track that the subscriber disabled is not paused for lack of bandwidth.
            let paused = rung.is_none() && demand.layer.is_some();
            if std::mem::replace(is_paused, paused) != paused {
                changes.push((downtrack.track, paused));
            }
            self.core.set_target(now, *id, rung.map(|rung| rung.layer), &mut self.egress);
            if let Some(rung) = rung {
                let current = self.core.current_layer(*id).map(Rung::all_of);
                let sent = current.map_or(*rung, |current| rung.until_key_frame(current));
                trace!(connection, sub = ?id, chosen = ?rung, ?current, "what is sent of a track");
                self.core.set_temporal_target(*id, sent.temporal, rung.temporal);
            }
        }
        if changes.is_empty() {
            return;
        }
        self.egress.counts.streams_paused += changes.iter().filter(|(_, paused)| *paused).count() as u64;
        let Some(conn) = self.egress.connections.get(connection) else { return };
        let (room, participant) = (conn.room, conn.participant);
        self.egress.notify_room(room, WorkerEvent::StreamState { participant, changes });
    }
}

/// How much a track matters. LiveKit's priorities: 1 is the highest, 0 is none.
fn importance(priority: u32, speaks: bool) -> Importance {
    match priority {
        0 if speaks => Importance::Speaking,
        0 => Importance::Ordinary,
        priority => Importance::Pinned(u32::MAX - priority),
    }
}

#[cfg(test)]
mod tests;
