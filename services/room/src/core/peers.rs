//! The room's part in the links: which other nodes it needs, what it wants of each, and what they
//! want of it.

use std::collections::BTreeMap;

use systir_media_control::{Command, DataChannel};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_rtp::packet::{Layer, LayerSet};

use super::actor::Actor;
use super::outbox::{Outbox, Told};
use crate::reason::Reason;
use systir_cascade::PeerAddress;

/// Another node of the room.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Where a link was asked for, and in which epoch; none when none was, or it was refused.
    pub needed: Option<(PeerAddress, u64)>,
    /// The link's number while the room is open on it.
    pub link: Option<u32>,
    /// What it says of its own links: on which of them the room is open. Void with the link.
    pub links: BTreeMap<String, bool>,
    /// What the link does not take yet.
    pub outbox: Outbox,
}

/// Links that another node may speak of.
const MAX_LINKS: usize = 64;

impl Actor {
    /// Brings the links in line with the assignment: opened to nodes that policy approves, closed
    /// to those that are no longer in it.
    pub(super) fn sync_peers(&mut self) {
        let me = self.shared.name.clone();
        // Taken out of the assignment while nobody is here, it needs nobody.
        let carries = self.assignment.has(&me) || !self.members.is_empty();
        let wanted: Vec<String> =
            self.others().filter(|node| carries && *node != me).map(str::to_owned).collect();
        let gone: Vec<String> = self.peers.keys().filter(|node| !wanted.contains(node)).cloned().collect();
        let mut changed = !gone.is_empty();
        for node in gone {
            // Feeds first: workers push by link number and do not know which rooms are open on it.
            self.peer_closed(&node);
            self.lost.remove(&node);
            self.peers.remove(&node);
            self.shared.links().drop_room(&self.wire_key, &node);
            self.node_is_gone(&node);
        }
        for node in wanted {
            // Without a lease there is no address yet; the next view brings it. One that came back
            // with another address is dialled there.
            let needed = self.shared.address_of(&node).map(|address| (address, self.assignment.epoch));
            let known = self.peers.get(&node).map(|peer| &peer.needed);
            if known.is_some_and(|known| known.is_some() && (needed.is_none() || *known == needed)) {
                continue;
            }
            let new = known.is_none();
            changed |= new || needed.is_some();
            let decision = self.shared.authority.carries(&self.id.institution, &node);
            if !decision.allowed {
                if new {
                    tracing::warn!(
                        node,
                        why = decision.why,
                        "a node in the assignment is not approved: no link is opened to it"
                    );
                }
                self.peers.entry(node).or_default();
                continue;
            }
            self.peers.entry(node).or_default().needed.clone_from(&needed);
            if let Some((address, epoch)) = needed {
                self.shared.links().need(&self.wire_key, address, epoch, self.policy_number());
            }
        }
        if changed {
            self.where_changed();
        }
    }

    /// The room is open to that node: it gets the state of the people here, and the tracks of its
    /// people can be had.
    pub(super) fn peer_opened(&mut self, node: &str, link: u32) {
        // The peer may have been faster with the assignment than our view of the registry.
        let address = self.shared.address_of(node).map(|address| (address, self.assignment.epoch));
        let peer = self.peers.entry(node.to_owned()).or_default();
        if peer.needed.is_none() {
            peer.needed = address;
        }
        peer.link = Some(link);
        // It has not heard of this node's links, or has forgotten.
        self.told_links = None;
        peer.outbox = Outbox::default();
        self.send_snapshot(node);
        self.show_again(node);
        self.where_changed();
    }

    fn send_snapshot(&mut self, node: &str) {
        let updates = self.replica.snapshot().iter().map(super::replica::encode).collect();
        self.tell(node, Body::StateUpdate(wire::StateUpdate { updates, snapshot: true }));
    }

    /// The link is down. Its people stay in the room, without tracks: they come back with the link,
    /// or are taken out when their node is gone for good.
    pub(super) fn peer_closed(&mut self, node: &str) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Some(link) = peer.link.take() else { return };
        peer.links.clear();
        peer.outbox = Outbox::default();
        let me = self.shared.name.clone();
        let ended: Vec<Command> = self
            .tracks
            .of_node(&me)
            .flat_map(|entry| {
                let track = entry.key;
                // Every layer that a node may have asked for, whatever the track has.
                (0..Layer::MAX as u8).map(Layer).map(move |layer| Command::Feed {
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
        self.lost.insert(node.to_owned(), std::time::Instant::now());
        self.show_again(node);
        self.where_changed();
    }

    /// What people here want of a distant track changed: say so to its node.
    pub(super) fn wanted_changed(&mut self, track: systir_media_control::TrackKey, layers: LayerSet) {
        let Some(entry) = self.tracks.by_key_mut(track) else { return };
        let Some(flows) = entry.flows else { return };
        let before = std::mem::replace(&mut entry.wanted, layers);
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
            self.tell(&node, body);
        }
    }

    /// Says something about the room to one other node, now or as soon as the link takes it.
    pub(super) fn tell(&mut self, node: &str, body: Body) {
        let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.link.is_some()) else { return };
        let (shared, key) = (&self.shared, &self.wire_key);
        if peer.outbox.post(body, |body| shared.links().send(node, key, body)) == Told::Dropped {
            shared.metrics.overloads.get_or_create(&Reason::LossyData.into()).inc();
        }
    }

    /// Says something about the room to all other nodes.
    pub(super) fn tell_all(&mut self, body: &Body) {
        let nodes: Vec<String> = self.peers.keys().cloned().collect();
        for node in nodes {
            self.tell(&node, body.clone());
        }
    }

    /// Tries again to say what links did not take. A node that takes too little is opened afresh: it
    /// is not worth the link, on which other rooms are.
    pub(super) fn hand_over(&mut self) {
        let (shared, key) = (&self.shared, &self.wire_key);
        for (node, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.outbox.is_waiting()) {
            peer.outbox.hand_over(|body| shared.links().send(node, key, body));
        }
        let overflowed = self.peers.iter().filter(|(_, peer)| peer.outbox.has_overflowed());
        let overflowed: Vec<String> = overflowed.map(|(node, _)| node.clone()).collect();
        for node in overflowed {
            tracing::warn!(node, "a node takes less than the room has to say; it is opened to it afresh");
            self.shared.metrics.overloads.get_or_create(&Reason::RoomOutbox.into()).inc();
            self.open_afresh(&node);
        }
    }

    /// Another node says something about the room.
    pub(super) fn node_says(&mut self, node: &str, body: Body) {
        match body {
            Body::StateUpdate(update) => self.merge(node, &update.updates),
            Body::Subscribe(wanted) => self.feed(node, &wanted.track_sid, wanted.layer, Some(wanted.flow)),
            Body::Unsubscribe(wanted) => self.feed(node, &wanted.track_sid, wanted.layer, None),
            Body::KeyFrame(wanted) => {
                if let Some(track) = self.published_here(&wanted.track_sid).map(|entry| entry.key)
                    && wanted.layer < Layer::MAX as u32
                {
                    self.command(Command::KeyFrame { track, layer: Layer(wanted.layer as u8) });
                }
            }
            Body::ReliableData(data) => {
                self.data_from_node(
                    node,
                    &data.sender_sid,
                    &data.packet,
                    &data.destination_identities,
                    DataChannel::Reliable,
                );
            }
            Body::LossyData(data) => {
                self.data_from_node(
                    node,
                    &data.sender_sid,
                    &data.packet,
                    &data.destination_identities,
                    DataChannel::Lossy,
                );
            }
            Body::Speakers(speakers) => self.speakers_from_node(node, speakers),
            Body::Links(links) => self.links_of(node, &links),
        }
    }

    /// Another node says on which of its links the room is open.
    fn links_of(&mut self, node: &str, said: &wire::RoomLinks) {
        let authority = self.shared.authority.clone();
        // What was said before the room was closed to it is void.
        let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.link.is_some()) else { return };
        let listed = |link: &&wire::RoomLink| authority.facts(&link.node).is_some();
        let links = said.links.iter().filter(listed).take(MAX_LINKS);
        peer.links = links.map(|link| (link.node.clone(), link.open)).collect();
        self.where_changed();
    }

    /// Tells the room's other nodes on which of this node's links it is open, when that is new.
    pub(super) fn tell_links(&mut self) {
        let links = self.links_state();
        if self.told_links.as_ref() == Some(&links) {
            return;
        }
        let said = links.iter().map(|(node, open)| wire::RoomLink { node: node.clone(), open: *open });
        self.tell_all(&Body::Links(wire::RoomLinks { links: said.collect() }));
        self.told_links = Some(links);
    }

    fn published_here(&self, sid: &str) -> Option<&super::tracks::Entry> {
        self.tracks.get(sid).filter(|entry| entry.node == self.shared.name)
    }

    /// Each subscription over a link asks policy again: the room may have been opened before a rule changed.
    fn feed(&mut self, node: &str, sid: &str, layer: u32, flow: Option<u32>) {
        let Some(link) = self.peers.get(node).and_then(|peer| peer.link) else { return };
        let Some(track) = self.published_here(sid).map(|entry| entry.key) else { return };
        if layer >= Layer::MAX as u32 {
            return;
        }
        if flow.is_some() {
            let decision = self.shared.authority.carries(&self.id.institution, node);
            if !decision.allowed {
                tracing::warn!(node, why = decision.why, "a subscription was refused");
                let reason = Reason::from(decision.reason);
                self.shared.metrics.link_refusals.get_or_create(&reason.into()).inc();
                return;
            }
            self.track_has_subscriber(sid);
        }
        self.command(Command::Feed { track, peer: link, layer: Layer(layer as u8), flow });
    }

    /// The room's other nodes, and whether the room is open on the link to them.
    fn links_state(&self) -> BTreeMap<String, bool> {
        self.peers.iter().map(|(node, peer)| (node.clone(), peer.link.is_some())).collect()
    }

    /// The links of the room's nodes, by the node that speaks of them.
    pub(super) fn links_said(&self) -> BTreeMap<String, BTreeMap<String, bool>> {
        let others = self.peers.iter().filter(|(_, peer)| !peer.links.is_empty());
        let others = others.map(|(node, peer)| (node.clone(), peer.links.clone()));
        let mut said: BTreeMap<String, BTreeMap<String, bool>> = others.collect();
        said.insert(self.shared.name.clone(), self.links_state());
        said
    }
}
