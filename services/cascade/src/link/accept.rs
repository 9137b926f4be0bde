//! Accepts links that peers dial. When two nodes dial each other at once, the dial of the node with
//! the smaller id wins.

use super::dial::redial_if_needed;
use super::hello::{check, hello};
use super::run::{self, DATA_MESSAGE_QUEUE, NewLink};
use super::runtime::LinkRuntime;
use super::session_queue::{self, SessionQueue};
use super::table::LinkState;
use crate::event::DownReason;
use crate::flow::Parity;
use crate::grpc::connection::NodeConnection;
use crate::open_flows::LinkFlows;
use crate::quic::{LinkSetup, QuicCommand};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::cluster::v1::session_message::Body;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};
use tracing::{debug, info};

const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// The QUIC connections must be up within this time.
const SETUP_TIMEOUT: Duration = Duration::from_secs(4);

/// Accepts a session that a peer opened. Returns the stream of this node's messages.
pub(crate) async fn accept(
    runtime: &Arc<LinkRuntime>,
    connection: Arc<NodeConnection>,
    mut stream: Streaming<SessionMessage>,
) -> Result<SessionQueue<Result<SessionMessage, Status>>, Status> {
    let first = async {
        let _reading = connection.unstarted_sessions.acquire().await.ok();
        stream.message().await
    };
    let first = tokio::time::timeout(HELLO_TIMEOUT, first)
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello within 3 s"))??;
    let Some(SessionMessage { body: Some(Body::Hello(peer_hello)) }) = first else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    let (id, connections) = check(&peer_hello)?;
    let identity = connection.peer();
    let peer = identity.id().clone();
    if peer_hello.node != peer.as_str() {
        info!(proved = %peer, claimed = peer_hello.node, "a peer claims another name than TLS proved");
    }
    let number = runtime.table.next_number();
    let previous = claim(runtime, &peer, number)?;
    let (out, messages) = session_queue::responses();
    let (ready, established) = oneshot::channel();
    let (down, ended) = oneshot::channel();
    let (data_message_sender, data_messages) = mpsc::channel(DATA_MESSAGE_QUEUE);
    let stats = Arc::new(Mutex::default());
    let flows = LinkFlows::default();
    let parity = Parity::of(runtime.authenticator.me(), &peer);
    let setup = LinkSetup {
        number,
        id,
        peer: identity,
        parity,
        connections,
        flows: flows.clone(),
        stats: Arc::clone(&stats),
        ready,
        data_messages: data_message_sender,
        down,
    };
    if !runtime.quic.send(QuicCommand::Expect(setup)) {
        redial_if_needed(runtime, &peer, number);
        return Err(Status::resource_exhausted("the QUIC thread does not accept commands"));
    }
    out.send(Body::Hello(hello(runtime.authenticator.me(), id, connections)));
    let new_link = NewLink {
        number,
        connection,
        peer,
        parity,
        outgoing: false,
        out,
        stream,
        data_messages,
        flows,
        ended,
        stats,
    };
    let runtime = runtime.clone();
    runtime.clone().tasks.spawn(async move {
        let established = tokio::select! {
            () = runtime.cancel.cancelled() => Err("this node is stopping".to_owned()),
            established = tokio::time::timeout(SETUP_TIMEOUT, established) => match established {
                Ok(Ok(established)) => established,
                _ => Err("the QUIC connections did not come up".to_owned()),
            },
        };
        if let Some(previous) = previous {
            previous.cancelled().await;
        }
        let peer = new_link.peer.clone();
        let ended = match established {
            Ok(until) => {
                new_link.connection.end_before(until);
                run::run_link(&runtime, new_link).await
            }
            Err(reason) => {
                debug!(%peer, reason, "a link dialled by a peer did not come up");
                runtime.quic.send(QuicCommand::Close(number));
                true
            }
        };
        if ended {
            redial_if_needed(&runtime, &peer, number);
        }
    });
    Ok(messages)
}

/// Claims the peer's table entry for the new link, or refuses. Returns a token of the previous link,
/// cancelled after its `Down` event: the new link must not report `Up` before.
fn claim(
    runtime: &LinkRuntime,
    peer: &SpiffeId,
    number: u32,
) -> Result<Option<tokio_util::sync::CancellationToken>, Status> {
    let me = runtime.authenticator.me();
    if me == peer {
        return Err(Status::invalid_argument("a node has no link with itself"));
    }
    if runtime.cancel.is_cancelled() {
        return Err(Status::unavailable("this node is stopping"));
    }
    runtime.table.with_peer(peer, |entry| {
        let previous = match &entry.state {
            LinkState::Dialling(_, cancel) => {
                if me < peer {
                    return Err(Status::already_exists("this node is already dialling you"));
                }
                cancel.cancel();
                None
            }
            LinkState::Up(link) if link.outgoing && me < peer => {
                // Two dials crossed, and this node's won. If the peer has lost that link, the
                // heartbeat timeout ends it here too, and the peer dials again.
                return Err(Status::already_exists("the link that this node dialled is up"));
            }
            LinkState::Up(link) => {
                link.end(DownReason::Replaced);
                Some(link.done.clone())
            }
            LinkState::Ending(_, done) => Some(done.clone()),
            LinkState::Idle | LinkState::Waiting(_) | LinkState::Accepting(_) => None,
        };
        entry.state = LinkState::Accepting(number);
        Ok(previous)
    })
}
