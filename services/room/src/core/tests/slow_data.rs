//! Back-pressure of reliable data: slow readers on this node, on another one, and slow links.

use bytes::Bytes;
use prost::Message as _;
use systir_media_control::{DataChannel, WorkerCommand, WorkerEvent};
use systir_proto::cluster::v1 as wire;

use super::*;

const HOME: usize = 0;
const SPILL: usize = 1;
const OTHER: usize = 2;

/// Anna at the home, bob at a spill node.
fn meeting() -> Network {
    let mut network = Network::new(1);
    network.join_as(HOME, "anna");
    network.join_as(SPILL, "bob");
    network.settle();
    network
}

impl Network {
    fn worker_event(&mut self, index: usize, event: WorkerEvent) {
        self.input(index, RoomInput::Worker(event));
    }

    /// Ticks the core. What does it tell the worker about slow readers elsewhere?
    fn told_worker(&mut self, index: usize) -> Vec<bool> {
        let now = self.now;
        let core = &mut self.nodes[index].core;
        core.tick(now, || true);
        let mut told = Vec::new();
        core.flush_to_worker(|request| {
            if let WorkerRequest::Command(WorkerCommand::SlowData { slow, .. }) = request {
                told.push(slow);
            }
            Ok(())
        });
        told
    }

    /// Passes a node's messages about slow readers to the cores of the others, which are not ticked.
    fn pass_slow_data(&mut self) -> Vec<usize> {
        let (slow, others) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|(_, _, body)| matches!(body, Message::SlowData(_)));
        self.in_flight = others;
        let mut to = Vec::new();
        for (from, index, body) in slow {
            let message = RoomLinkEvent::Message { node: NODES[from].to_owned(), body };
            self.nodes[index].core.handle(RoomInput::Link(message), self.now);
            to.push(index);
        }
        to
    }

    fn participant(&self, index: usize, identity: &str) -> ParticipantKey {
        let clients = &self.nodes[index].clients;
        *clients.iter().find(|(_, client)| client.identity == identity).unwrap().0
    }

    pub(super) fn overloads(&self, index: usize, reason: Reason) -> u64 {
        self.nodes[index].core.config.metrics.overloads.get_or_create(&reason.into()).get()
    }
}

fn user_packet(number: u32) -> Bytes {
    let payload = number.to_be_bytes().to_vec();
    let user = proto::UserPacket { payload, ..Default::default() };
    let value = Some(proto::data_packet::Value::User(user));
    proto::DataPacket { value, ..Default::default() }.encode_to_vec().into()
}

#[test]
fn slow_readers_on_a_node_slow_down_those_who_send_on_the_others() {
    let mut network = meeting();
    network.worker_event(SPILL, WorkerEvent::ReadersSlow { slow: true });
    assert_eq!(network.pass_slow_data(), [HOME], "not a node that carries nobody");
    assert_eq!(network.told_worker(HOME), [true]);
    assert!(network.told_worker(HOME).is_empty(), "once");
    assert!(network.told_worker(SPILL).is_empty(), "its own worker knows");
    // A node that carries a participant later is told too.
    network.join_as(OTHER, "chen");
    network.settle();
    assert!(network.nodes[OTHER].core.peers["sto-1"].readers_slow);
    network.worker_event(SPILL, WorkerEvent::ReadersSlow { slow: false });
    assert_eq!(network.pass_slow_data(), [HOME, OTHER]);
    assert_eq!(network.told_worker(HOME), [false]);
}

#[test]
fn a_node_whose_link_went_down_slows_down_nobody() {
    let mut network = meeting();
    network.worker_event(SPILL, WorkerEvent::ReadersSlow { slow: true });
    network.pass_slow_data();
    assert_eq!(network.told_worker(HOME), [true]);
    let down = RoomLinkEvent::Down { node: "sto-1".to_owned() };
    let now = network.now;
    network.nodes[HOME].core.handle(RoomInput::Link(down), now);
    assert_eq!(network.told_worker(HOME), [false]);
}

#[test]
fn slow_link_slows_down_those_who_send_data_holds_up_nobody_else_and_loses_nothing() {
    let mut network = meeting();
    let participant = network.participant(HOME, "anna");
    let now = network.now;
    let mut told = Vec::new();
    for number in 0..300 {
        let data =
            WorkerEvent::Data { participant, channel: DataChannel::Reliable, data: user_packet(number) };
        network.nodes[HOME].core.handle(RoomInput::Worker(data), now);
        // The link accepts nothing.
        network.nodes[HOME].core.flush_to_peers(|_, body| Err(Box::new(body)));
        told.extend(network.told_worker(HOME));
    }
    assert_eq!(told, [true]);
    assert!(network.nodes[HOME].core.accepts_events(now.instant), "requests of clients are handled");
    let mut sent = Vec::new();
    network.nodes[HOME].core.flush_to_peers(|_, body| {
        if let Message::ReliableData(wire::ReliableData { packet, .. }) = body {
            let Some(proto::data_packet::Value::User(user)) =
                proto::DataPacket::decode(packet).unwrap().value
            else {
                panic!("another message")
            };
            sent.push(u32::from_be_bytes(*user.payload.first_chunk().unwrap()));
        }
        Ok(())
    });
    assert_eq!(sent, (0..300).collect::<Vec<_>>());
    assert_eq!(network.told_worker(HOME), [false]);
}

#[test]
fn data_of_another_node_waits_while_the_worker_is_busy() {
    let mut network = meeting();
    for name in &NAMES[2..] {
        network.join_as(HOME, name);
    }
    network.settle();
    let bob = network.participant(SPILL, "bob");
    network.worker_event(
        SPILL,
        WorkerEvent::Data { participant: bob, channel: DataChannel::Reliable, data: user_packet(7) },
    );
    let stamped = network
        .in_flight
        .iter()
        .find(|(_, to, body)| *to == HOME && matches!(body, Message::ReliableData(_)));
    let (_, _, body) = stamped.unwrap().clone();
    let now = network.now;
    let core = &mut network.nodes[HOME].core;
    let mut accepted = 0;
    while core.accepts_link_events(now.instant) {
        let message = RoomLinkEvent::Message { node: "sto-1".to_owned(), body: body.clone() };
        core.handle(RoomInput::Link(message), now);
        core.flush_to_worker(Err);
        accepted += 1;
        assert!(accepted < 2_000, "it never waits");
    }
    assert!(!core.commands.has_overflowed());
    // A worker that accepts nothing for two seconds does not stop the room.
    assert!(core.accepts_link_events(now.instant + Duration::from_secs(3)));
    core.flush_to_worker(|_| Ok(()));
    assert!(core.accepts_link_events(now.instant));
}

#[test]
fn participant_that_does_not_take_its_data_joins_again_and_others_stay() {
    let mut network = meeting();
    let bob = network.participant(SPILL, "bob");
    network.worker_event(SPILL, WorkerEvent::ReaderEnded { participant: bob });
    network.settle();
    assert_eq!(network.asked_to_rejoin, BTreeSet::from(["bob".to_owned()]));
    assert_eq!(network.overloads(SPILL, Reason::SlowReader), 1);
    assert_eq!(network.clients_at(HOME), BTreeSet::from(["anna"]));
}
