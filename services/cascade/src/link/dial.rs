//! Dials a peer while a room needs the link, with exponential backoff.

use super::hello::hello;
use super::run::{self, DATA_MESSAGE_QUEUE, NewLink};
use super::runtime::LinkRuntime;
use super::session_queue;
use super::table::{LinkState, PeerEntry};
use crate::event::{LinkEvent, LinkNumber};
use crate::flow::Parity;
use crate::grpc::sessions;
use crate::open_flows::LinkFlows;
use crate::peer_address::PeerAddress;
use crate::quic::{LinkSetup, QuicCommand};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::LINK_VERSION;
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::cluster::v1::session_message::Body;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{debug, info};

const DIAL_TIMEOUT: Duration = Duration::from_secs(6);
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// Short, because a room stays split until the link is up.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Starts dialling. The caller holds the table's lock, and no other task owns the peer's entry. With
/// `again` it backs off first, so that a peer that ends each link is not dialled in a tight loop.
pub(super) fn start(runtime: &Arc<LinkRuntime>, id: &SpiffeId, peer: &mut PeerEntry, again: bool) {
    if runtime.cancel.is_cancelled() {
        return;
    }
    let number = runtime.table.next_number();
    let cancel = runtime.cancel.child_token();
    peer.state = if again { LinkState::Waiting(number) } else { LinkState::Dialling(number, cancel.clone()) };
    let (runtime, id) = (runtime.clone(), id.clone());
    runtime.clone().tasks.spawn(async move {
        if !again || back_off(&runtime, &id, number, &cancel, MIN_BACKOFF).await {
            dial_until_up(runtime, id, number, cancel).await;
        }
    });
}

/// Waits before the next dial. False when the peer dialled meanwhile or the node is stopping.
async fn back_off(
    runtime: &Arc<LinkRuntime>,
    id: &SpiffeId,
    number: LinkNumber,
    cancel: &CancellationToken,
    length: Duration,
) -> bool {
    tokio::select! {
        () = cancel.cancelled() => {
            redial_if_needed(runtime, id, number);
            return false;
        }
        () = tokio::time::sleep(length.mul_f64(rand::random_range(1.0..2.0))) => {}
    }
    runtime.table.with_peer(id, |peer| match &peer.state {
        LinkState::Waiting(current) if *current == number => {
            peer.state = LinkState::Dialling(number, cancel.clone());
            true
        }
        _ => false,
    })
}

/// Dials until the link is up, then runs it. Each attempt has its own link number.
async fn dial_until_up(
    runtime: Arc<LinkRuntime>,
    id: SpiffeId,
    first: LinkNumber,
    cancel: CancellationToken,
) {
    let mut backoffs = ExponentialBuilder::default()
        .with_min_delay(MIN_BACKOFF)
        .with_max_delay(MAX_BACKOFF)
        .without_max_times()
        .build();
    let mut number = first;
    loop {
        let address = runtime.table.with_peer(&id, |peer| match &peer.state {
            LinkState::Dialling(current, _) if *current == number && !peer.needed_rooms.is_empty() => {
                peer.address.clone()
            }
            _ => None,
        });
        let Some(address) = address else {
            // No room needs the link any more, or the peer dialled meanwhile.
            return redial_if_needed(&runtime, &id, number);
        };
        let outcome = tokio::select! {
            () = cancel.cancelled() => Err(None),
            outcome = tokio::time::timeout(DIAL_TIMEOUT, dial_once(&runtime, &address, number)) => match outcome {
                Ok(Ok(new_link)) => Ok(new_link),
                Ok(Err(failed)) => Err(Some(failed)),
                Err(_) => Err(Some(DialError::Failed("no answer within 6 s".to_owned()))),
            },
        };
        let failed = match outcome {
            Ok(new_link) => {
                if run::run_link(&runtime, new_link).await {
                    redial_if_needed(&runtime, &id, number);
                }
                return;
            }
            Err(failed) => failed,
        };
        runtime.quic.send(QuicCommand::Close(number));
        match failed {
            None => return redial_if_needed(&runtime, &id, number),
            Some(DialError::Crossed) => debug!(peer = %id, "the peer is dialling too; its link is used"),
            Some(DialError::Failed(reason)) => {
                debug!(peer = %id, reason, "dialling failed");
                // Repeated with the next attempt, so it may be lost when the event queue is full.
                let _ = runtime.events.try_send(LinkEvent::Unreachable { peer: id.clone(), reason });
            }
        }
        // During the backoff a dial of the peer is accepted.
        let next = runtime.table.next_number();
        let is_current = runtime.table.with_peer(&id, |peer| match &peer.state {
            LinkState::Dialling(current, _) if *current == number => {
                peer.state = LinkState::Waiting(next);
                true
            }
            _ => false,
        });
        if !is_current {
            return;
        }
        number = next;
        if !back_off(&runtime, &id, number, &cancel, backoffs.next().unwrap_or(MAX_BACKOFF)).await {
            return;
        }
    }
}

/// Why an attempt made no link.
enum DialError {
    /// Both nodes dialled at once, and the peer's dial wins. Not a failure.
    Crossed,
    /// Any other reason.
    Failed(String),
}

impl From<String> for DialError {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<Status> for DialError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::AlreadyExists => Self::Crossed,
            _ => Self::Failed(crate::grpc::client::causes(&status)),
        }
    }
}

async fn dial_once(
    runtime: &LinkRuntime,
    address: &PeerAddress,
    number: LinkNumber,
) -> Result<NewLink, DialError> {
    let me = runtime.authenticator.me();
    let id: [u8; 16] = rand::random();
    let (channel, connection) = runtime.clients.own(address).await?;
    let (out, messages) = session_queue::requests();
    let hello = hello(me, id, runtime.connections);
    out.send(Body::Hello(hello));
    let mut stream = sessions::open(channel, messages).await?;
    let first = stream.message().await?;
    let Some(SessionMessage { body: Some(Body::Hello(hello)) }) = first else {
        return Err("the first message was not Hello".to_owned().into());
    };
    if hello.version != LINK_VERSION || hello.link_id != id.as_slice() {
        return Err("the Hello names another version or link".to_owned().into());
    }
    if hello.node != address.id.as_str() {
        info!(proved = %address.id, claimed = hello.node, "a peer claims another name than TLS proved");
    }
    let (ready, established) = oneshot::channel();
    let (down, ended) = oneshot::channel();
    let (data_message_sender, data_messages) = mpsc::channel(DATA_MESSAGE_QUEUE);
    let stats = Arc::new(Mutex::default());
    let flows = LinkFlows::default();
    let parity = Parity::of(me, &address.id);
    let setup = LinkSetup {
        number,
        id,
        peer: connection.peer(),
        parity,
        connections: runtime.connections,
        flows: flows.clone(),
        stats: Arc::clone(&stats),
        ready,
        data_messages: data_message_sender,
        down,
    };
    if !runtime.quic.send(QuicCommand::Connect(setup, address.quic)) {
        return Err("the QUIC thread does not accept commands".to_owned().into());
    }
    let until = established.await.map_err(|_| "the QUIC thread dropped the link".to_owned())??;
    connection.end_before(until);
    Ok(NewLink {
        number,
        connection,
        peer: address.id.clone(),
        parity,
        outgoing: true,
        out,
        stream,
        data_messages,
        flows,
        ended,
        stats,
    })
}

/// A link or an attempt has ended: dials again if a room needs the link, else removes the entry.
pub(super) fn redial_if_needed(runtime: &Arc<LinkRuntime>, id: &SpiffeId, number: LinkNumber) {
    let mut peers = runtime.table.peers();
    let Some(peer) = peers.get_mut(id) else { return };
    let is_current = match &peer.state {
        LinkState::Idle => true,
        LinkState::Dialling(current, _)
        | LinkState::Waiting(current)
        | LinkState::Accepting(current)
        | LinkState::Ending(current, _) => *current == number,
        LinkState::Up(link) => link.number == number,
    };
    if !is_current {
        return;
    }
    peer.state = LinkState::Idle;
    if peer.needed_rooms.is_empty() {
        peers.remove(id);
    } else {
        start(runtime, id, peer, true);
    }
}
