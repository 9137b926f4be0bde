//! A peer dials us. When both dial at once, the one with the smaller id goes on.

use super::dial::settle;
use super::established::{Out, QUEUE};
use super::hello::{check, hello};
use super::run::{self, DATAGRAMS, Incoming};
use super::runtime::LinkRuntime;
use super::table::State;
use crate::event::DownReason;
use crate::flow::Parity;
use crate::quic::{Binding, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::cluster::v1::session_message::Body;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{debug, info};

const FIRST: Duration = Duration::from_secs(3);
/// Both halves stand within this time, or neither.
const STAND: Duration = Duration::from_secs(4);

/// Takes a session that a peer opens, and answers with the messages for it.
pub(crate) async fn accept(
    runtime: &Arc<LinkRuntime>,
    peer: SpiffeId,
    mut stream: Streaming<SessionMessage>,
) -> Result<ReceiverStream<Result<SessionMessage, Status>>, Status> {
    let first = tokio::time::timeout(FIRST, stream.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello came within 3 s"))??;
    let Some(SessionMessage { body: Some(Body::Hello(said)) }) = first else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    let (id, lanes) = check(&said)?;
    if said.node != peer.as_str() {
        info!(proved = %peer, says = said.node, "a peer calls itself something else than it proved");
    }
    let number = runtime.table.next_number();
    let before = begin(runtime, &peer, number)?;
    let (out, messages) = mpsc::channel(QUEUE);
    let (ready, stands) = oneshot::channel();
    let (down, ended) = oneshot::channel();
    let (heard, datagrams) = mpsc::channel(DATAGRAMS);
    let stats = Arc::new(Mutex::default());
    let parity = Parity::of(runtime.credentials.id(), &peer);
    let binding = Binding {
        number,
        id,
        peer: peer.clone(),
        parity,
        lanes,
        stats: Arc::clone(&stats),
        ready,
        messages: heard,
        down,
    };
    if !runtime.quic.ask(Command::Expect(binding)) {
        settle(runtime, &peer, number);
        return Err(Status::resource_exhausted("the QUIC thread does not answer"));
    }
    let out = Out::Response(out);
    out.put(Body::Hello(hello(runtime.credentials.id(), id, lanes)));
    let made = Incoming { number, peer, parity, outgoing: false, out, stream, datagrams, ended, stats };
    let runtime = runtime.clone();
    runtime.clone().tasks.spawn(async move {
        let stood = tokio::select! {
            () = runtime.cancel.cancelled() => Err("this node stops".to_owned()),
            stood = tokio::time::timeout(STAND, stands) => match stood {
                Ok(Ok(stood)) => stood,
                _ => Err("the QUIC half did not come".to_owned()),
            },
        };
        if let Some(before) = before {
            before.cancelled().await;
        }
        let peer = made.peer.clone();
        let ended = match stood {
            Ok(()) => run::establish(&runtime, made).await,
            Err(reason) => {
                debug!(%peer, reason, "a link that a peer dialled did not come to stand");
                runtime.quic.ask(Command::Close(number));
                true
            }
        };
        if ended {
            settle(&runtime, &peer, number);
        }
    });
    Ok(ReceiverStream::new(messages))
}

/// Makes room for the peer's link, or refuses. What is returned is to be awaited before the new
/// link is told of: the end of the old one.
fn begin(
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
        let before = match &entry.state {
            State::Dialling(_, cancel) => {
                if me < peer {
                    return Err(Status::already_exists("this node is dialling you"));
                }
                cancel.cancel();
                None
            }
            State::Up(link) if link.outgoing && me < peer => {
                // A dialling that crossed ours. Should the peer really have lost the link, silence
                // ends it here too, and it dials again.
                return Err(Status::already_exists("the link that this node dialled stands"));
            }
            State::Up(link) => {
                link.end(DownReason::Replaced);
                Some(link.done.clone())
            }
            State::Ending(_, done) => Some(done.clone()),
            State::Idle | State::Waiting(_) | State::Accepting(_) => None,
        };
        entry.state = State::Accepting(number);
        Ok(before)
    })
}
