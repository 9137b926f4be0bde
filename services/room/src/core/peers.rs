//! The room on the links: to which nodes it is open, subscriptions in both directions, and messages from
//! peers.

use std::collections::BTreeMap;

use livekit_protocol::DisconnectReason;
use systir_assignment::MediaRole;
use systir_journal::DecidedAt;
use systir_livekit::MediaEvent;
use systir_media_control::{DataChannel, TrackKey, WorkerCommand};
use systir_policy::{DecidedAction, Decision};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_reason::Reason;
use systir_rtp::packet::{Layer, LayerSet};

use super::RoomCore;
use super::peer_node::PeerNode;
use super::peer_queue::PeerQueue;
use super::pushed::Pushed;
use super::shown_tickets::is_state;
use crate::ticket::TicketProblem;
use crate::{NodeAddress, RoomEffect};

/// Most links that a peer may report.
const MAX_LINKS: usize = 64;

impl RoomCore {
    /// Brings the links in line with the assignment: opens the room to assigned nodes that policy approves,
    /// and closes it to nodes that are no longer assigned.
    pub(super) fn sync_peers(&mut self) {
        let me = self.config.node.clone();
        // A node with participants that is not assigned can only be assigned again as a spill node.
        let has_participants = !self.local_participants.is_empty();
        let role = self.assignment.role_of(&me).or(has_participants.then_some(MediaRole::Spill));
        let denied = role.map(|role| self.decide(role, &me)).filter(|decision| !decision.allowed);
        if let Some(decision) = &denied
            && has_participants
        {
            if !std::mem::replace(&mut self.denied_here, true) {
                self.journal_denial(DecidedAt::Standing, role.unwrap_or(MediaRole::Spill), &me, decision);
            }
            tracing::warn!(
                ?role,
                why = decision.why,
                "policy denies this node its role in a room; its participants must join again"
            );
            self.disconnect_all(DisconnectReason::Migration);
        }
        self.denied_here &= denied.is_some();
        // Without an assignment and without participants this node needs no peers.
        let carries = denied.is_none() && (self.assignment.has(&me) || !self.local_participants.is_empty());
        let others = self.assignment.nodes().map(AsRef::as_ref);
        let wanted: Vec<String> = others.filter(|node| carries && *node != me).map(str::to_owned).collect();
        let mut unassigned: Vec<String> =
            self.peers.keys().filter(|node| !wanted.contains(node)).cloned().collect();
        unassigned.retain(|node| !carries || !self.carries_participants(node));
        let mut changed = !unassigned.is_empty();
        for node in unassigned {
            // First stop the feeds: the worker sends by link number and does not know where rooms are open.
            self.peer_closed(&node);
            self.links_down.remove(&node);
            self.peers.remove(&node);
            self.effects.push_back(RoomEffect::CloseOnLink { node: node.clone() });
            self.remove_node(&node);
        }
        for node in wanted {
            let decision = self.decide(self.role_of_peer(&node), &node);
            if !decision.allowed {
                self.close_to_denied(&node, &decision);
                continue;
            }
            // Without a lease the node has no address yet; the next view may have it. A node that restarted
            // with another address is dialled there.
            let needed = self.address_of(&node).map(|address| (address, self.assignment.epoch));
            let known = self.peers.get(&node).map(|peer| &peer.needed);
            if known.is_some_and(|known| known.is_some() && (needed.is_none() || *known == needed)) {
                continue;
            }
            changed |= known.is_none() || needed.is_some();
            self.peers.entry(node.clone()).or_default().needed = needed;
            if let Some((address, epoch)) = needed {
                let policy_version = self.assignment.policy_number();
                self.effects.push_back(RoomEffect::OpenOnLink { node, address, epoch, policy_version });
            }
        }
        if changed {
            self.residency_changed();
        }
    }

    /// Does a node that the record does not have carry participants of the room, over a link that stands or has
    /// just gone down? Media does not depend on the registry: the node writes itself into the record again. The grant must
    /// list it: its home may have left it out by a policy that this node does not have yet.
    fn carries_participants(&mut self, node: &str) -> bool {
        let stands = self.peers.get(node).is_some_and(|peer| peer.link.is_some());
        (stands || self.links_down.contains_key(node))
            && self.cluster.media_nodes.contains(node)
            && self.replica.has_participants_of(node)
            && self.decide(MediaRole::Spill, node).allowed
    }

    /// Keeps the room closed to an assigned node that policy does not approve for its role, and closes it if
    /// it is open: the node's role or a rule changed.
    fn close_to_denied(&mut self, node: &str, decision: &Decision) {
        let new = !self.peers.contains_key(node);
        let peer = self.peers.entry(node.to_owned()).or_default();
        let open = peer.needed.take().is_some() || peer.link.is_some();
        if new || open {
            tracing::warn!(
                node,
                why = decision.why,
                "the room is not open to an assigned node that policy does not approve"
            );
            self.journal_denial(DecidedAt::Standing, self.role_of_peer(node), node, decision);
            self.residency_changed();
        }
        if open {
            self.peer_closed(node);
            self.effects.push_back(RoomEffect::CloseOnLink { node: node.to_owned() });
            // No grace: the node may not carry participants of the room any more.
            self.links_down.remove(node);
            self.remove_node(node);
        }
    }

    fn journal_denial(&self, at: DecidedAt, role: MediaRole, node: &str, denial: &Decision) {
        let decided = DecidedAction::of_node(at, role.into(), node);
        self.config.authority.journal_denial(&decided, &self.id, denial);
    }

    fn address_of(&self, node: &str) -> Option<NodeAddress> {
        self.cluster.nodes.get(node).copied().flatten()
    }

    /// The role of another node. One that this node's copy of the assignment does not name yet was added as
    /// a spill node.
    pub(super) fn role_of_peer(&self, node: &str) -> MediaRole {
        self.assignment.role_of(node).unwrap_or(MediaRole::Spill)
    }

    /// Does policy allow that node to carry the room in that role?
    pub(super) fn decide(&mut self, role: MediaRole, node: &str) -> Decision {
        let asked = self.decisions.entry((role, node.to_owned()));
        asked.or_insert_with(|| self.config.authority.node(role.into(), &self.id, node)).clone()
    }

    /// The room opened on the link to a node: the node receives a snapshot of the local participants once it may have the
    /// room's state, and the tracks of its participants become available.
    pub(super) fn peer_opened(&mut self, node: &str, link: u32) {
        // The node's role may have changed since the room was to be opened.
        if !self.decide(self.role_of_peer(node), node).allowed {
            self.effects.push_back(RoomEffect::CloseOnLink { node: node.to_owned() });
            return;
        }
        // The peer may have read the assignment before this node did.
        let address = self.address_of(node).map(|address| (address, self.assignment.epoch));
        let peer = self.peers.entry(node.to_owned()).or_default();
        if peer.needed.is_none() {
            peer.needed = address;
        }
        peer.link = Some(link);
        (peer.gets_state, peer.feeds_lost) = (false, false);
        (peer.readers_slow, peer.told_slow) = (false, false);
        // The node does not know this node's links and assignment yet.
        self.sent_links = None;
        self.told = None;
        peer.queue = PeerQueue::default();
        self.replica.link_opened(node);
        self.show_tickets(node);
        self.give_state(node);
        self.update_participants_of(node);
        self.residency_changed();
    }

    pub(super) fn send_snapshot(&mut self, node: &str) {
        let updates = self.replica.snapshot().iter().map(crate::wire::encode).collect();
        self.send_to_peer(node, Body::StateUpdate(wire::StateUpdate { updates, snapshot: true }));
    }

    /// The room closed on the link to a node. The node's participants stay in the room without tracks. Their
    /// tracks return with the link; without it, the participants leave after [`super::LINK_DOWN_GRACE`].
    pub(super) fn peer_closed(&mut self, node: &str) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Some(link) = peer.link.take() else { return };
        peer.links.clear();
        (peer.gets_state, peer.feeds_lost) = (false, false);
        (peer.readers_slow, peer.told_slow) = (false, false);
        peer.queue = PeerQueue::default();
        self.stop_feeds(link);
        self.links_down.insert(node.to_owned(), self.now.instant);
        self.update_participants_of(node);
        self.residency_changed();
    }

    /// Ends all subscriptions of the node behind a link.
    pub(super) fn stop_feeds(&mut self, link: u32) {
        let me = self.config.node.clone();
        let ended: Vec<WorkerCommand> = self
            .tracks
            .of_node(&me)
            .flat_map(|entry| {
                let track = entry.key;
                // All layers that the node may have subscribed to.
                (0..Layer::MAX as u8).map(Layer).map(move |layer| WorkerCommand::Feed {
                    track,
                    peer: link,
                    layer,
                    flow: None,
                })
            })
            .collect();
        for command in ended {
            self.command(command);
        }
    }

    /// The layers that are wanted of a track changed. Of a remote track: subscribes to them, or unsubscribes, at the
    /// track's node. Of a local one: its publisher's session decides which layers the client sends.
    pub(super) fn wanted_changed(&mut self, track: TrackKey, layers: LayerSet) {
        let Some(entry) = self.tracks.by_key_mut(track) else { return };
        let before = std::mem::replace(&mut entry.wanted, layers);
        let Some(flows) = entry.flows else {
            let publisher = entry.publisher.clone();
            if let Some(participant) = self.local_by_sid(&publisher) {
                self.media_event(participant, MediaEvent::Wanted { track, layers });
            }
            return;
        };
        let (sid, node) = (entry.sid.clone(), entry.node.clone());
        for layer in (0..Layer::MAX as u8).map(Layer) {
            let body = match (before.contains(layer), layers.contains(layer)) {
                (false, true) => Body::Subscribe(wire::Subscribe {
                    track_sid: sid.clone(),
                    layer: u32::from(layer.0),
                    flow: flows.get(usize::from(layer.0)).copied().unwrap_or_default(),
                }),
                (true, false) => {
                    Body::Unsubscribe(wire::Unsubscribe { track_sid: sid.clone(), layer: u32::from(layer.0) })
                }
                _ => continue,
            };
            self.send_to_peer(&node, body);
        }
    }

    /// Queues a message for one peer. Dropped when the room is not open to it, and when it may not have the message.
    pub(super) fn send_to_peer(&mut self, node: &str, body: Body) {
        let may_have = |peer: &&mut PeerNode| peer.link.is_some() && (peer.gets_state || !is_state(&body));
        let Some(peer) = self.peers.get_mut(node).filter(may_have) else { return };
        if peer.queue.push(body) == Pushed::Dropped {
            self.config.metrics.overloads.get_or_create(&Reason::LossyData.into()).inc();
        }
    }

    /// Queues a message for all peers.
    pub(super) fn send_to_peers(&mut self, body: &Body) {
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.send_to_peer(&node, body.clone());
        }
    }

    /// Reopens the room to peers whose queue overflowed. The link stays up: other rooms use it.
    pub(super) fn reopen_overflowed_peers(&mut self) {
        let overflowed = self.peers.iter().filter(|(_, peer)| peer.queue.has_overflowed());
        let overflowed: Vec<String> = overflowed.map(|(node, _)| node.clone()).collect();
        for node in overflowed {
            tracing::warn!(node, "the peer queue overflowed; the room is reopened to the node");
            self.config.metrics.overloads.get_or_create(&Reason::PeerQueue.into()).inc();
            self.reopen(&node);
        }
    }

    /// Handles a message from a peer.
    pub(super) fn peer_message(&mut self, node: &str, body: Body) {
        if !self.peer_pace.admits(node, &body, self.now.instant) {
            self.config.metrics.overloads.get_or_create(&Reason::PeerMessages.into()).inc();
            return;
        }
        match body {
            Body::StateUpdate(update) => self.merge(node, &update.updates),
            Body::Subscribe(wanted) => self.feed(node, &wanted.track_sid, wanted.layer, Some(wanted.flow)),
            Body::Unsubscribe(wanted) => self.feed(node, &wanted.track_sid, wanted.layer, None),
            Body::KeyFrame(wanted) => {
                if let Some(track) = self.published_here(&wanted.track_sid).map(|entry| entry.key)
                    && wanted.layer < Layer::MAX as u32
                {
                    self.command(WorkerCommand::KeyFrame { track, layer: Layer(wanted.layer as u8) });
                }
            }
            Body::ReliableData(data) => {
                self.data_from_peer(
                    node,
                    &data.sender_sid,
                    &data.packet,
                    &data.destination_identities,
                    DataChannel::Reliable,
                );
            }
            Body::LossyData(data) => {
                self.data_from_peer(
                    node,
                    &data.sender_sid,
                    &data.packet,
                    &data.destination_identities,
                    DataChannel::Lossy,
                );
            }
            Body::SlowData(told) => self.slow_data_of(node, told.slow),
            Body::Qualities(told) => self.qualities_from_peer(node, told),
            Body::Speakers(speakers) => self.speakers_from_peer(node, speakers),
            Body::Links(links) => self.links_of(node, &links),
            Body::Ticket(note) => self.ticket_shown(node, note),
            Body::Assignment(told) => {
                let node = node.to_owned();
                self.effects.push_back(RoomEffect::FollowAssignment { node, told });
            }
        }
    }

    /// Handles a peer's report on which of its links the room is open.
    fn links_of(&mut self, node: &str, report: &wire::RoomLinks) {
        let authority = self.config.authority.clone();
        // Ignore a report that was sent before the room closed.
        let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.link.is_some()) else { return };
        let listed = |link: &&wire::RoomLink| authority.facts(&link.node).is_some();
        let links = report.links.iter().filter(listed).take(MAX_LINKS);
        peer.links = links.map(|link| (link.node.clone(), link.open)).collect();
        self.residency_changed();
    }

    /// Reports to all peers on which of this node's links the room is open, when that changed.
    pub(super) fn send_links(&mut self) {
        let links = self.links_state();
        if self.sent_links.as_ref() == Some(&links) {
            return;
        }
        let report = links.iter().map(|(node, open)| wire::RoomLink { node: node.clone(), open: *open });
        self.send_to_peers(&Body::Links(wire::RoomLinks { links: report.collect() }));
        self.sent_links = Some(links);
    }

    fn published_here(&self, sid: &str) -> Option<&super::tracks::TrackEntry> {
        self.tracks.published_on(&self.config.node, sid)
    }

    /// Handles a subscription (with a flow) or an unsubscription of a peer. Policy decides again, because the
    /// room may have been opened before a rule changed.
    fn feed(&mut self, node: &str, sid: &str, layer: u32, flow: Option<u32>) {
        let Some(link) = self.peers.get(node).and_then(|peer| peer.link) else { return };
        let Some(track) = self.published_here(sid).map(|entry| entry.key) else { return };
        if layer >= Layer::MAX as u32 {
            return;
        }
        if flow.is_some() {
            let role = self.role_of_peer(node);
            let decision = self.config.authority.node(role.into(), &self.id, node);
            if !decision.allowed {
                tracing::warn!(node, why = decision.why, "policy denies a node's subscription");
                self.config.metrics.link_refusals.get_or_create(&decision.reason.into()).inc();
                self.journal_denial(DecidedAt::Subscription, role, node, &decision);
                return;
            }
            if let Some(peer) = self.peers.get_mut(node).filter(|peer| !peer.gets_state) {
                // It does not subscribe again before the room is opened again.
                peer.feeds_lost = true;
                return self.ticket_refused(node, &TicketProblem::Missing);
            }
            self.track_has_subscriber(track);
        }
        self.command(WorkerCommand::Feed { track, peer: link, layer: Layer(layer as u8), flow });
    }

    /// The peers, and whether the room is open on the link to each.
    fn links_state(&self) -> BTreeMap<String, bool> {
        self.peers.iter().map(|(node, peer)| (node.clone(), peer.link.is_some())).collect()
    }

    /// The links of all the room's nodes, by the node that reports them.
    pub(super) fn reported_links(&self) -> BTreeMap<String, BTreeMap<String, bool>> {
        let others = self.peers.iter().filter(|(_, peer)| !peer.links.is_empty());
        let others = others.map(|(node, peer)| (node.clone(), peer.links.clone()));
        let mut reported: BTreeMap<String, BTreeMap<String, bool>> = others.collect();
        reported.insert(self.config.node.clone(), self.links_state());
        reported
    }
}
