//! One room on this node: a task that owns the room's replica, the sessions of the people whose
//! media is here, the worker's view of the room and its part in the links to the room's other nodes.

use std::sync::Arc;

use systir_livekit::token::Grants;
use tokio::sync::{mpsc, oneshot};

use crate::whereabouts::Whereabouts;

mod actor;
mod data;
mod ending;
mod inbox;
mod members;
mod orders;
mod others;
mod outbox;
mod peers;
mod replica;
mod tracks;
mod where_is;

pub(crate) use actor::{Start, spawn};
pub(crate) use inbox::{FromLinks, Inbox, Posted};
pub(crate) use members::SignalEnds;
pub(crate) use replica::decode;

/// A participant that was admitted and now arrives.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Id of the reservation.
    pub join_id: String,
    /// What the token allows.
    pub grants: Grants,
    /// What the client is.
    pub client: livekit_protocol::ClientInfo,
    /// Does it want every track without asking?
    pub auto_subscribe: bool,
    /// Name of the node where its signalling ends.
    pub front_door: String,
    /// The last join of its identity that the front door knows of; 0 for none.
    pub after: u64,
    /// Its signalling.
    pub signal: SignalEnds,
    /// Its part of the join's trace.
    pub span: tracing::Span,
}

/// What a room is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Somebody arrives.
    Arrive(Box<Arrival>),
    /// Something may be due.
    Look,
    /// Where is the room?
    Where(oneshot::Sender<Whereabouts>),
    /// When did somebody of this identity join last, as far as is known here?
    LastJoin(String, oneshot::Sender<u64>),
}

/// A participant's client said something, or (`None`) its signalling ended.
#[derive(Debug)]
struct Said {
    participant: systir_media_control::ParticipantKey,
    request: Option<Box<livekit_protocol::SignalRequest>>,
}

/// How to reach a room's task.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    /// Bounded: who cannot wait drops or refuses.
    pub messages: mpsc::Sender<Message>,
    /// What links tell; never waited for.
    pub links: Arc<Inbox>,
    /// The room's number on this node.
    pub key: systir_media_control::RoomKey,
}

/// A write of another node as it comes over a link.
#[cfg(test)]
pub(crate) fn state_update(update: &systir_room::Update) -> systir_proto::cluster::v1::room_message::Body {
    systir_proto::cluster::v1::room_message::Body::StateUpdate(systir_proto::cluster::v1::StateUpdate {
        updates: vec![replica::encode(update)],
        snapshot: false,
    })
}

/// Where an assigned room is, for a node that does not carry it: neither links nor front doors are
/// known then, and the statement says so.
pub(crate) fn whereabouts_of(
    assignment: &systir_assignment::Assignment,
    me: &str,
    authority: &crate::authority::Authority,
) -> Whereabouts {
    let home = assignment.home.to_string();
    let spill: Vec<String> = assignment.spill.iter().map(ToString::to_string).collect();
    let facts = where_is::Facts {
        institution: &assignment.room.institution,
        room: &assignment.room.name,
        epoch: assignment.epoch,
        me,
        home: &home,
        spill: &spill,
        since: &assignment.since_ms.iter().map(|(node, since)| (node.to_string(), *since)).collect(),
        complete: false,
        doors: &std::collections::BTreeMap::new(),
        links: &std::collections::BTreeMap::new(),
    };
    where_is::compute(&facts, authority)
}
