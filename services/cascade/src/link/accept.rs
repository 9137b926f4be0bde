//! A peer dials us. When both dial at once, the one with the smaller id goes on.

use super::established::{Out, QUEUE};
use super::hello::{check, hello};
use super::run::{self, DATAGRAMS, Incoming};
use super::table::{Inner, State};
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
    inner: &Arc<Inner>,
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
    let number = inner.number();
    let before = begin(inner, &peer, number)?;
    let (out, messages) = mpsc::channel(QUEUE);
    let (ready, stands) = oneshot::channel();
    let (down, ended) = oneshot::channel();
    let (heard, datagrams) = mpsc::channel(DATAGRAMS);
    let stats = Arc::new(Mutex::default());
    let parity = Parity::of(inner.credentials.id(), &peer);
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
    if !inner.quic.ask(Command::Expect(binding)) {
        inner.settle(&peer, number);
        return Err(Status::resource_exhausted("the QUIC thread does not answer"));
    }
    let out = Out::Response(out);
    out.put(Body::Hello(hello(inner, id, lanes)));
    let made = Incoming { number, peer, parity, outgoing: false, out, stream, datagrams, ended, stats };
    let inner = inner.clone();
    inner.clone().tasks.spawn(async move {
        let stood = tokio::select! {
            () = inner.cancel.cancelled() => Err("this node stops".to_owned()),
            stood = tokio::time::timeout(STAND, stands) => match stood {
                Ok(Ok(stood)) => stood,
                _ => Err("the QUIC half did not come".to_owned()),
            },
        };
        if let Some(before) = before {
            before.cancelled().await;
        }
        match stood {
            Ok(()) => run::establish(&inner, made).await,
            Err(reason) => {
                debug!(peer = %made.peer, reason, "a link that a peer dialled did not come to stand");
                inner.quic.ask(Command::Close(number));
                inner.settle(&made.peer, number);
            }
        }
    });
    Ok(ReceiverStream::new(messages))
}

/// Makes room for the peer's link, or refuses. What is returned is to be awaited before the new
/// link is told of: the end of the old one.
fn begin(
    inner: &Inner,
    peer: &SpiffeId,
    number: u32,
) -> Result<Option<tokio_util::sync::CancellationToken>, Status> {
    let me = inner.credentials.id();
    if me == peer {
        return Err(Status::invalid_argument("a node has no link with itself"));
    }
    if inner.cancel.is_cancelled() {
        return Err(Status::unavailable("this node stops"));
    }
    inner.with_peer(peer, |entry| {
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
