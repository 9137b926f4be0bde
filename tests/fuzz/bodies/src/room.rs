//! Messages that another node of a room sends on its link.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use systir_assignment::Assignment;
use systir_documents::{Lifetime, SigningKey};
use systir_livekit::token::Grants;
use systir_media_control::{KeyAllocator, ParticipantKey, RoomNumber};
use systir_policy::Authority;
use systir_policy::demo::DemoDocuments;
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_room::{
    Arrival, ClusterView, FlowAllocator, NodeAddress, Now, RoomConfig, RoomCore, RoomInput, RoomLinkEvent,
    SignedTicket, TicketFacts, new_ticket,
};
use systir_room_tag::test_keys;
use systir_rtp::packet::Layer;

use crate::reader::Reader;

const NODES: [&str; 2] = ["cph-1", "sto-1"];

/// The participants' keys; each is on the node of the same place.
const KEYS: [u64; 2] = [1, 2];

#[derive(Debug, Default)]
struct Flows(AtomicU32);

impl FlowAllocator for Flows {
    fn flows(&self, _: &str, _: u8) -> Option<[u32; Layer::MAX]> {
        Some([(); Layer::MAX].map(|()| self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

fn node_key(node: &str) -> Option<SigningKey> {
    SigningKey::from_seed(node, [*node.as_bytes().first()?; 32]).ok()
}

fn authority(node: &str) -> Option<Arc<Authority>> {
    let lifetime = Lifetime { issued: 1, renew_by: 2, not_after: 3 };
    let prefix = "10.0.0.0/24".parse().ok()?;
    let keys = |node: &str| node_key(node).map(|key| key.public()).into_iter().collect();
    let documents = DemoDocuments::new(lifetime, "", |node| (keys(node), vec![prefix])).ok()?;
    let authority = Authority::new(documents.engine().ok()?, node, Arc::default());
    authority.use_room_keys(test_keys::keys());
    Some(Arc::new(authority))
}

/// The authorities of both nodes: to compile their policy takes longer than a run.
static AUTHORITIES: LazyLock<Option<[Arc<Authority>; 2]>> =
    LazyLock::new(|| Some([authority(NODES[0])?, authority(NODES[1])?]));

/// What the second node sends once its participant has joined.
static FROM_SECOND: LazyLock<Vec<Body>> = LazyLock::new(|| {
    let now = Now { instant: Instant::now(), unix_ms: 1_800_000_000_000 };
    let mut sent = Vec::new();
    if let Some(mut second) = room(1, now) {
        second.flush_to_peers(|_, body| {
            sent.push(body);
            Ok(())
        });
    }
    sent
});

/// The same messages as they are sent, for seeds.
#[must_use]
pub fn messages_of_second_node() -> Vec<wire::RoomMessage> {
    let key = test_keys::room("lecture").key();
    FROM_SECOND.iter().map(|body| wire::RoomMessage { room: key.clone(), body: Some(body.clone()) }).collect()
}

fn assignment() -> Assignment {
    let room = test_keys::room("lecture");
    let mut assignment = Assignment::new(room, "RM_1".to_owned(), NODES[0].into(), "1-abc".to_owned(), 1);
    assignment.add_spill(NODES[1].into(), 1);
    assignment
}

fn grants(identity: &str) -> Grants {
    Grants { can_update_own_metadata: true, ..Grants::new("ku.dk", "lecture", identity) }
}

/// The room at one of the nodes, open on the link to the other one, with a participant.
fn room(index: usize, now: Now) -> Option<RoomCore> {
    let (node, other) = (*NODES.get(index)?, *NODES.get(1 - index)?);
    let config = RoomConfig {
        node: node.to_owned(),
        key: RoomNumber(1),
        worker_index: 0,
        candidates: Vec::new(),
        fingerprint: [0; 32],
        assignment: assignment(),
        authority: AUTHORITIES.as_ref()?.get(index)?.clone(),
        keys: Arc::new(KeyAllocator::new()),
        flows: Arc::new(Flows::default()),
        metrics: Arc::default(),
        replicas: Arc::default(),
    };
    let mut core = RoomCore::new(config, [*node.as_bytes().first()?; 32], now);
    let address = NodeAddress { grpc: "10.0.0.1:1".parse().ok()?, quic: "10.0.0.1:2".parse().ok()? };
    let view = ClusterView {
        assignment: Some(assignment()),
        media_nodes: NODES.map(str::to_owned).into(),
        nodes: NODES.map(|name| (name.to_owned(), Some(address))).into(),
        ..ClusterView::default()
    };
    core.handle(RoomInput::Cluster(view), now);
    core.handle(RoomInput::Link(RoomLinkEvent::Opened { node: other.to_owned(), link: 7 }), now);
    let (key, identity) = (*KEYS.get(index)?, if index == 0 { "anna" } else { "bo" });
    let facts = TicketFacts {
        gateway: NODES[0],
        assignment: &assignment(),
        media_node: node,
        participant_sid: format!("PA_{key}"),
        join_number: now.unix_ms,
        now_ms: now.unix_ms,
    };
    let arrival = Arrival {
        participant: ParticipantKey(key),
        join_id: format!("join-{key}"),
        grants: grants(identity),
        client: livekit_protocol::ClientInfo::default(),
        auto_subscribe: true,
        ticket: SignedTicket::issue(new_ticket(&grants(identity), facts), &node_key(NODES[0])?).ok()?,
        span: tracing::Span::none(),
    };
    core.handle(RoomInput::Arrive(Box::new(arrival)), now);
    core.tick(now, || true);
    Some(core)
}

/// Does what a node does with the outputs, and returns how many there were.
fn drain(core: &mut RoomCore) -> usize {
    let mut outputs = 0;
    core.flush_to_worker(|_| {
        outputs += 1;
        Ok(())
    });
    while core.poll_effect().is_some() {
        outputs += 1;
    }
    core.flush_to_peers(|node, _| {
        assert_eq!(node, NODES[1], "a message to a node that has no part in the room");
        outputs += 1;
        Ok(())
    });
    outputs
}

/// A room whose other node sends any messages. It has one participant there, for whom a ticket was shown.
pub fn room_link(bytes: &[u8]) {
    let mut now = Now { instant: Instant::now(), unix_ms: 1_800_000_000_000 };
    let Some(mut core) = room(0, now) else { unreachable!("the demo's documents are valid") };
    let message = |body| RoomInput::Link(RoomLinkEvent::Message { node: NODES[1].to_owned(), body });
    for body in FROM_SECOND.iter() {
        core.handle(message(body.clone()), now);
    }
    drain(&mut core);
    let mut rest = Reader(bytes);
    // The time that one input can take is bounded.
    for _ in 0..200 {
        if rest.is_empty() {
            break;
        }
        let (kind, number) = (rest.byte(), rest.byte());
        let node = NODES[1].to_owned();
        let (sender_sid, destination_identities) = ("PA_2".to_owned(), Vec::new());
        let input = match kind % 8 {
            0 => {
                let pause = u64::from(number) * 40;
                now.instant += Duration::from_millis(pause);
                now.unix_ms += pause;
                None
            }
            1 => Some(RoomInput::Link(RoomLinkEvent::Opened { node, link: u32::from(number) })),
            2 => {
                let (reason, by_peer) = ("closed".to_owned(), number % 2 == 0);
                Some(RoomInput::Link(RoomLinkEvent::Refused { node, reason, by_peer }))
            }
            3 => {
                let packet = Bytes::copy_from_slice(rest.piece());
                Some(message(if number % 2 == 0 {
                    Body::ReliableData(wire::ReliableData { sender_sid, packet, destination_identities })
                } else {
                    Body::LossyData(wire::LossyData { sender_sid, packet, destination_identities })
                }))
            }
            4 => {
                let update = Bytes::copy_from_slice(rest.piece());
                let snapshot = number % 2 == 0;
                Some(message(Body::StateUpdate(wire::StateUpdate { updates: vec![update], snapshot })))
            }
            _ => {
                let decoded = wire::RoomMessage::decode(rest.piece());
                decoded.ok().and_then(|decoded| decoded.body).map(message)
            }
        };
        if let Some(input) = input {
            core.handle(input, now);
        }
        if core.tick(now, || true) {
            break;
        }
        let outputs = drain(&mut core);
        assert!(outputs <= 4_096, "{outputs} outputs in return for one message");
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol as proto;

    use super::*;

    /// Else each message would be dropped as that of an unknown participant.
    #[test]
    #[allow(deprecated)]
    fn data_of_the_other_nodes_participant_arrives() {
        let now = Now { instant: Instant::now(), unix_ms: 1_800_000_000_000 };
        let mut core = room(0, now).unwrap();
        let packet = proto::DataPacket {
            participant_identity: "bo".to_owned(),
            participant_sid: "PA_2".to_owned(),
            ..Default::default()
        };
        let data = Body::ReliableData(wire::ReliableData {
            sender_sid: "PA_2".to_owned(),
            packet: packet.encode_to_vec().into(),
            destination_identities: Vec::new(),
        });
        let mut outputs = |body: &Body| {
            let node = NODES[1].to_owned();
            core.handle(RoomInput::Link(RoomLinkEvent::Message { node, body: body.clone() }), now);
            core.tick(now, || true);
            drain(&mut core)
        };
        outputs(&data);
        assert_eq!(outputs(&data), 0, "bo is unknown");
        assert!(FROM_SECOND.iter().map(&mut outputs).sum::<usize>() > 0);
        assert_eq!(outputs(&data), 1, "the message goes to anna");
    }
}
