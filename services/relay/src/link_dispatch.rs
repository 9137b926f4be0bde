//! Dispatches link events to their rooms. It never waits for a room, and ends with the links.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use systir_cascade::LinkEvent;
use systir_identity::SpiffeId;
use systir_reason::Reason;
use systir_room::{RoomLinkEvent, RoomMetrics};
use systir_room_runtime::Rooms;
use tokio::sync::mpsc;

use crate::node_directory::NodeDirectory;
use crate::unreachable_nodes::UnreachableNodes;

/// Dispatches the events of all links.
pub(crate) async fn run(
    directory: Arc<NodeDirectory>,
    rooms: Arc<Rooms>,
    metrics: Arc<RoomMetrics>,
    links_up: Gauge,
    failed_dials: Counter,
    mut events: mpsc::Receiver<LinkEvent>,
) {
    let name = |peer: &SpiffeId| directory.name(peer);
    let mut unreachable = UnreachableNodes::default();
    while let Some(event) = events.recv().await {
        match event {
            LinkEvent::Up { peer, .. } => {
                links_up.inc();
                let failed_before = unreachable.reached(&peer);
                tracing::info!(%peer, failed_before, "a link is up");
            }
            LinkEvent::Down { peer, reason, .. } => {
                links_up.dec();
                tracing::info!(%peer, %reason, "a link is down");
                if let Some(node) = name(&peer) {
                    rooms.link_down(&node);
                }
            }
            LinkEvent::Unreachable { peer, reason } => {
                failed_dials.inc();
                if unreachable.failed(&peer) {
                    tracing::warn!(%peer, reason, "a node cannot be reached; further attempts are only counted");
                } else {
                    tracing::debug!(%peer, reason, "a node still cannot be reached");
                }
            }
            LinkEvent::RoomOpened { peer, link, room } => {
                if let Some(node) = name(&peer) {
                    rooms.link_event(&room, RoomLinkEvent::Opened { node, link });
                }
            }
            LinkEvent::RoomRefused { peer, room, by_us, reason, rules, .. } => {
                // No policy rule: the nodes have different copies of the assignment, which is temporary.
                if rules.is_empty() {
                    tracing::info!(%peer, by_us, reason, "a room is not opened on a link yet");
                } else {
                    tracing::warn!(%peer, by_us, reason, ?rules, "a room is not opened on a link");
                }
                metrics.link_refusals.get_or_create(&Reason::RoomRefused.into()).inc();
                if let Some(node) = name(&peer) {
                    rooms.link_event(&room, RoomLinkEvent::Refused { node, reason, by_peer: !by_us });
                }
            }
            LinkEvent::RoomClosed { peer, room, .. } => {
                if let Some(node) = name(&peer) {
                    let reason = "closed by the other node".to_owned();
                    rooms.link_event(&room, RoomLinkEvent::Refused { node, reason, by_peer: true });
                }
            }
            LinkEvent::Message { peer, room, body, .. } => {
                if let Some(node) = name(&peer) {
                    rooms.link_event(&room, RoomLinkEvent::Message { node, body });
                }
            }
        }
    }
}
