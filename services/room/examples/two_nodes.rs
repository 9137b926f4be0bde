//! A room on two nodes, without I/O: how a program drives room cores.
//!
//! Anna's media is on `cph-1` (Copenhagen, home node), Bo's on `sto-1` (Stockholm, spill node). The nodes
//! exchange their participants over a simulated link, until Anna leaves. Run it with
//! `cargo run -p systir-room --example two_nodes`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message;
use systir_assignment::Assignment;
use systir_documents::{Lifetime, SigningKey};
use systir_livekit::token::Grants;
use systir_media_control::{KeyAllocator, ParticipantKey, RoomNumber};
use systir_policy::Authority;
use systir_policy::demo::DemoDocuments;
use systir_room::{
    Arrival, ClusterView, FlowAllocator, NodeAddress, Now, RoomConfig, RoomCore, RoomEffect, RoomInput,
    RoomLinkEvent, SignedTicket, TicketFacts, new_ticket,
};
use systir_room_tag::test_keys;
use systir_rtp::packet::Layer;

const NODES: [&str; 2] = ["cph-1", "sto-1"];
/// The node that takes the participants' tokens.
const GATEWAY: &str = "cph-1";

/// Flow numbers of one node's links.
#[derive(Debug, Default)]
struct Flows(AtomicU32);

impl FlowAllocator for Flows {
    fn flows(&self, _node: &str, _worker: u8) -> Option<[u32; Layer::MAX]> {
        Some([(); Layer::MAX].map(|()| self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// One node: its core, and what its one client knows of the other participants.
struct Node {
    name: &'static str,
    core: RoomCore,
    /// Identity by participant id.
    client_sees: BTreeMap<String, String>,
    /// Nodes to which the core opened the room.
    opened: Vec<String>,
}

impl Node {
    fn new(name: &'static str, assignment: Assignment, now: Now) -> Self {
        // The demo's policy approves both nodes for rooms of `ku.dk`.
        let lifetime = Lifetime { issued: 1, renew_by: 2, not_after: 3 };
        let prefix = "10.0.0.0/24".parse().unwrap();
        let documents =
            DemoDocuments::new(lifetime, "", |node| (vec![node_key(node).public()], vec![prefix]));
        let authority = Authority::new(documents.unwrap().engine().unwrap(), name, Arc::default());
        authority.use_room_keys(test_keys::keys());
        let config = RoomConfig {
            node: name.to_owned(),
            key: RoomNumber(1),
            worker_index: 0,
            candidates: Vec::new(),
            fingerprint: [0; 32],
            assignment,
            authority: Arc::new(authority),
            keys: Arc::new(KeyAllocator::new()),
            flows: Arc::new(Flows::default()),
            replicas: Arc::default(),
            metrics: Arc::default(),
        };
        // A real node takes the seed from the operating system.
        let core = RoomCore::new(config, [name.as_bytes()[0]; 32], now);
        Self { name, core, client_sees: BTreeMap::new(), opened: Vec::new() }
    }

    /// Handles an input and does what the core wants. Returns the messages to the other node.
    fn handle(&mut self, input: RoomInput, now: Now) -> Vec<RoomLinkEvent> {
        self.core.handle(input, now);
        assert!(!self.core.tick(now, || true), "the room has ended");
        // A real node sends these to its media worker.
        self.core.flush_to_worker(|_command| Ok(()));
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                RoomEffect::Signal { response, .. } => self.show(response.message),
                RoomEffect::OpenOnLink { node, .. } => self.opened.push(node),
                _ => {}
            }
        }
        let (mut messages, node) = (Vec::new(), self.name);
        self.core.flush_to_peers(|_to, body| {
            messages.push(RoomLinkEvent::Message { node: node.to_owned(), body });
            Ok(())
        });
        messages
    }

    /// Does what a client does with a signal response.
    fn show(&mut self, message: Option<Message>) {
        let participants = match message {
            Some(Message::Join(join)) => join.other_participants,
            Some(Message::Update(update)) => update.participants,
            _ => return,
        };
        for participant in participants {
            if participant.state() == State::Disconnected {
                self.client_sees.remove(&participant.sid);
            } else {
                self.client_sees.insert(participant.sid, participant.identity);
            }
        }
    }

    fn others(&self, own: &str) -> Vec<&str> {
        self.client_sees.values().map(String::as_str).filter(|identity| *identity != own).collect()
    }
}

/// Both nodes and the link between them.
struct Room {
    nodes: [Node; 2],
    now: Now,
    messages: u32,
}

impl Room {
    /// Passes an input to a node, and messages between the nodes until none is left.
    fn input(&mut self, index: usize, input: RoomInput) {
        let mut waiting = vec![(index, input)];
        while let Some((index, input)) = waiting.pop() {
            for message in self.nodes[index].handle(input, self.now) {
                self.messages += 1;
                waiting.insert(0, (1 - index, RoomInput::Link(message)));
            }
        }
    }

    fn join(&mut self, index: usize, key: u64, identity: &str) {
        // The gateway signs what it says of the participant. The other node believes that, not Bo's media node alone.
        let ticket = new_ticket(
            &grants(identity),
            TicketFacts {
                gateway: GATEWAY,
                assignment: &assignment(),
                media_node: NODES[index],
                participant_sid: format!("PA_{key}"),
                join_number: self.now.unix_ms,
                now_ms: self.now.unix_ms,
            },
        );
        let ticket = SignedTicket::issue(ticket, &node_key(GATEWAY)).unwrap();
        let arrival = Arrival {
            participant: ParticipantKey(key),
            join_id: format!("join-{key}"),
            grants: grants(identity),
            client: livekit_protocol::ClientInfo::default(),
            auto_subscribe: true,
            ticket,
            span: tracing::Span::none(),
        };
        self.input(index, RoomInput::Arrive(Box::new(arrival)));
    }
}

/// The key of a node, which the directory lists. A real one comes from a secure random generator.
fn node_key(node: &str) -> SigningKey {
    SigningKey::from_seed(node, [node.as_bytes()[0]; 32]).unwrap()
}

fn assignment() -> Assignment {
    let id = test_keys::room("lecture");
    let mut assignment = Assignment::new(id, "RM_1".to_owned(), "cph-1".into(), "1-abc".to_owned(), 1);
    assignment.add_spill("sto-1".into(), 1);
    assignment
}

fn grants(identity: &str) -> Grants {
    Grants {
        identity: identity.to_owned(),
        name: identity.to_owned(),
        metadata: String::new(),
        attributes: BTreeMap::new(),
        kind: 0,
        can_publish: true,
        can_subscribe: true,
        can_publish_data: true,
        can_publish_sources: None,
        can_update_own_metadata: true,
        hidden: false,
        recorder: false,
        agent: false,
        room_admin: false,
        guest: false,
        room: "lecture".to_owned(),
        institution: "ku.dk".to_owned(),
        expires: 0,
    }
}

fn main() {
    let now = Now { instant: Instant::now(), unix_ms: 1_800_000_000_000 };
    let assignment = assignment();
    let nodes = NODES.map(|name| Node::new(name, assignment.clone(), now));
    let mut room = Room { nodes, now, messages: 0 };

    // What each node knows: both nodes have a lease, so each opens the room on the link to the other.
    let address =
        NodeAddress { grpc: "10.0.0.1:7871".parse().unwrap(), quic: "10.0.0.1:7870".parse().unwrap() };
    for index in 0..2 {
        let nodes = NODES.map(|name| (name.to_owned(), Some(address))).into();
        let media_nodes = NODES.map(str::to_owned).into();
        let assignment = Some(assignment.clone());
        let view = ClusterView { assignment, media_nodes, nodes, ..ClusterView::default() };
        room.input(index, RoomInput::Cluster(view));
        assert_eq!(room.nodes[index].opened, [NODES[1 - index]]);
    }
    for index in 0..2 {
        let opened = RoomLinkEvent::Opened { node: NODES[1 - index].to_owned(), link: 7 };
        room.input(index, RoomInput::Link(opened));
    }
    println!("The room is open on the link between cph-1 and sto-1");

    room.join(0, 1, "anna");
    room.join(1, 2, "bo");
    println!("Anna (cph-1) sees {:?}", room.nodes[0].others("anna"));
    println!("Bo (sto-1) sees {:?}", room.nodes[1].others("bo"));
    assert_eq!(room.nodes[0].others("anna"), ["bo"]);
    assert_eq!(room.nodes[1].others("bo"), ["anna"]);

    let residency = room.nodes[0].core.residency();
    for node in &residency.nodes {
        println!("{} in {} relays the room as {}", node.node, node.country, node.roles.join(" and "));
    }
    assert_eq!(residency.nodes.len(), 2);
    assert!(residency.links.iter().all(|link| link.state == "up"));

    room.input(0, RoomInput::SignalClosed(ParticipantKey(1)));
    println!("Anna left; Bo sees {:?}", room.nodes[1].others("bo"));
    assert!(room.nodes[1].others("bo").is_empty());
    println!("The nodes exchanged {} messages", room.messages);
}

#[cfg(test)]
#[test]
fn the_example_runs() {
    main();
}
