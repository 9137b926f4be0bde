//! A peer dials us. When both dial at once, the one with the smaller id goes on.

use super::dial::redial_if_needed;
use super::established::{SESSION_QUEUE, SessionSender};
use super::hello::{check, hello};
use super::run::{self, DATA_MESSAGE_QUEUE, NewLink};
use super::runtime::LinkRuntime;
use super::table::LinkState;
use crate::event::DownReason;
use crate::flow::Parity;
use crate::quic::{Command, LinkSetup};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::cluster::v1::session_message::Body;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{debug, info};

const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Both halves stand within this time, or neither.
const SETUP_TIMEOUT: Duration = Duration::from_secs(4);

/// Takes a session that a peer opens, and answers with the messages for it.
pub(crate) async fn accept(
    runtime: &Arc<LinkRuntime>,
    peer: SpiffeId,
    mut stream: Streaming<SessionMessage>,
) -> Result<ReceiverStream<Result<SessionMessage, Status>>, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, stream.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello came within 3 s"))??;
    let Some(SessionMessage { body: Some(Body::Hello(received)) }) = first else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    let (id, connections) = check(&received)?;
    if received.node != peer.as_str() {
        info!(proved = %peer, says = received.node, "a peer calls itself something else than it proved");
    }
    let number = runtime.table.next_number();
    let previous = claim(runtime, &peer, number)?;
    let (out, messages) = mpsc::channel(SESSION_QUEUE);
    let (ready, established) = oneshot::channel();
    let (down, ended) = oneshot::channel();
    let (received, data_messages) = mpsc::channel(DATA_MESSAGE_QUEUE);
    let stats = Arc::new(Mutex::default());
    let parity = Parity::of(runtime.credentials.id(), &peer);
    let setup = LinkSetup {
        number,
        id,
        peer: peer.clone(),
        parity,
        connections,
        stats: Arc::clone(&stats),
        ready,
        data_messages: received,
        down,
    };
    if !runtime.quic.send(Command::Expect(setup)) {
        redial_if_needed(runtime, &peer, number);
        return Err(Status::resource_exhausted("the QUIC thread does not answer"));
    }
    let out = SessionSender::Response(out);
    out.send(Body::Hello(hello(runtime.credentials.id(), id, connections)));
    let new_link =
        NewLink { number, peer, parity, outgoing: false, out, stream, data_messages, ended, stats };
    let runtime = runtime.clone();
    runtime.clone().tasks.spawn(async move {
        let established = tokio::select! {
            () = runtime.cancel.cancelled() => Err("this node stops".to_owned()),
            established = tokio::time::timeout(SETUP_TIMEOUT, established) => match established {
                Ok(Ok(established)) => established,
                _ => Err("the QUIC half did not come".to_owned()),
            },
        };
        if let Some(previous) = previous {
            previous.cancelled().await;
        }
        let peer = new_link.peer.clone();
        let ended = match established {
            Ok(()) => run::run_link(&runtime, new_link).await,
            Err(reason) => {
                debug!(%peer, reason, "a link that a peer dialled did not come to stand");
                runtime.quic.send(Command::Close(number));
                true
            }
        };
        if ended {
            redial_if_needed(&runtime, &peer, number);
        }
    });
    Ok(ReceiverStream::new(messages))
}

/// Makes room for the peer's link, or refuses. What is returned is to be awaited before the new
/// link is told of: the end of the old one.
fn claim(
    runtime: &LinkRuntime,
    peer: &SpiffeId,
    number: u32,
) -> Result<Option<tokio_util::sync::CancellationToken>, Status> {
    let me = runtime.credentials.id();
    if me == peer {
        return Err(Status::invalid_argument("a node has no link with itself"));
    }
    if runtime.cancel.is_cancelled() {
        return Err(Status::unavailable("this node stops"));
    }
    runtime.table.with_peer(peer, |entry| {
        let previous = match &entry.state {
            LinkState::Dialling(_, cancel) => {
                if me < peer {
                    return Err(Status::already_exists("this node is dialling you"));
                }
                cancel.cancel();
                None
            }
            LinkState::Up(link) if link.outgoing && me < peer => {
                // A dialling that crossed ours. Should the peer really have lost the link, silence
                // ends it here too, and it dials again.
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
