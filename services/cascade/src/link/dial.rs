//! Dialling a peer that a room needs, with patience, until it answers or nobody needs it.

use super::PeerAddress;
use super::run::{self, Incoming};
use super::table::{Inner, Out, Peer, QUEUE, State};
use crate::event::{LinkEvent, LinkNumber};
use crate::flow::Parity;
use crate::quic::{Binding, Command};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{Hello, SessionMessage};
use systir_proto::{LINK_VERSION, extensions};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

const ATTEMPT: Duration = Duration::from_secs(6);
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A room waits for the link: it is not to stay apart for long once the path is whole again.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Begins to dial. Called with the table locked and the peer idle. After a link that ended it waits
/// a moment, so that a peer that ends every link at once is not dialled without pause.
pub(super) fn begin(inner: &Arc<Inner>, id: &SpiffeId, peer: &mut Peer, again: bool) {
    if inner.cancel.is_cancelled() {
        return;
    }
    let number = inner.number();
    let cancel = inner.cancel.child_token();
    peer.state = if again { State::Waiting(number) } else { State::Dialling(number, cancel.clone()) };
    let (inner, id) = (inner.clone(), id.clone());
    inner.clone().tasks.spawn(async move {
        if !again || wait(&inner, &id, number, &cancel, FIRST_WAIT).await {
            insist(inner, id, number, cancel).await;
        }
    });
}

/// Waits, and is dialling again unless the peer dialled meanwhile or the node stops.
async fn wait(
    inner: &Arc<Inner>,
    id: &SpiffeId,
    number: LinkNumber,
    cancel: &CancellationToken,
    length: Duration,
) -> bool {
    tokio::select! {
        () = cancel.cancelled() => {
            inner.settle(id, number);
            return false;
        }
        () = tokio::time::sleep(length.mul_f64(rand::random_range(1.0..2.0))) => {}
    }
    inner.with_peer(id, |peer| match &peer.state {
        State::Waiting(current) if *current == number => {
            peer.state = State::Dialling(number, cancel.clone());
            true
        }
        _ => false,
    })
}

/// Dials until the link stands. Each attempt has its own number.
async fn insist(inner: Arc<Inner>, id: SpiffeId, first: LinkNumber, cancel: CancellationToken) {
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .without_max_times()
        .build();
    let mut number = first;
    loop {
        let address = inner.with_peer(&id, |peer| match &peer.state {
            State::Dialling(current, _) if *current == number && !peer.needs.is_empty() => {
                peer.address.clone()
            }
            _ => None,
        });
        let Some(address) = address else {
            // Nobody needs it any more, or the peer dialled us meanwhile.
            return inner.settle(&id, number);
        };
        let outcome = tokio::select! {
            () = cancel.cancelled() => Err(None),
            outcome = tokio::time::timeout(ATTEMPT, attempt(&inner, &address, number)) => match outcome {
                Ok(Ok(made)) => Ok(made),
                Ok(Err(reason)) => Err(Some(reason)),
                Err(_) => Err(Some("it did not answer within 6 s".to_owned())),
            },
        };
        let reason = match outcome {
            Ok(made) => {
                run::establish(&inner, made).await;
                return;
            }
            Err(reason) => reason,
        };
        inner.quic.ask(Command::Close(number));
        let Some(reason) = reason else { return inner.settle(&id, number) };
        debug!(peer = %id, reason, "a link could not be made");
        // When the node does not read its events it has other worries than this one.
        let _ = inner.events.try_send(LinkEvent::Unreachable { peer: id.clone(), reason });
        // While it waits the peer is idle, so that the peer's own dialling is taken.
        let next = inner.number();
        let ours = inner.with_peer(&id, |peer| match &peer.state {
            State::Dialling(current, _) if *current == number => {
                peer.state = State::Waiting(next);
                true
            }
            _ => false,
        });
        if !ours {
            return;
        }
        number = next;
        if !wait(&inner, &id, number, &cancel, waits.next().unwrap_or(LONGEST_WAIT)).await {
            return;
        }
    }
}

async fn attempt(inner: &Inner, address: &PeerAddress, number: LinkNumber) -> Result<Incoming, String> {
    let me = inner.credentials.id();
    let id: [u8; 16] = rand::random();
    let mut client = inner.clients.own(address).await?;
    let (out, messages) = mpsc::channel(QUEUE);
    let hello = hello(inner, id, inner.lanes);
    out.try_send(SessionMessage { body: Some(Body::Hello(hello)) }).map_err(|error| error.to_string())?;
    let response = client.session(ReceiverStream::new(messages)).await;
    let mut stream = response.map_err(|status| crate::grpc::client::causes(&status))?.into_inner();
    let first = stream.message().await.map_err(|status| status.message().to_owned())?;
    let Some(SessionMessage { body: Some(Body::Hello(hello)) }) = first else {
        return Err("its first message was no Hello".to_owned());
    };
    if hello.version != LINK_VERSION || hello.link_id != id.as_slice() {
        return Err("its Hello is for another version or link".to_owned());
    }
    if hello.node != address.id.as_str() {
        info!(proved = %address.id, says = hello.node, "a peer calls itself something else than it proved");
    }
    let (ready, stands) = oneshot::channel();
    let (down, ended) = oneshot::channel();
    let stats = Arc::new(Mutex::default());
    let parity = Parity::of(me, &address.id);
    let binding = Binding {
        number,
        id,
        peer: address.id.clone(),
        parity,
        lanes: inner.lanes,
        stats: Arc::clone(&stats),
        ready,
        down,
    };
    if !inner.quic.ask(Command::Connect(binding, address.quic)) {
        return Err("the QUIC thread does not answer".to_owned());
    }
    stands.await.map_err(|_| "the QUIC thread gave up".to_owned())??;
    Ok(Incoming {
        number,
        peer: address.id.clone(),
        parity,
        outgoing: true,
        out: Out::Request(out),
        stream,
        ended,
        stats,
    })
}

/// What this node says first.
pub(super) fn hello(inner: &Inner, link_id: [u8; 16], lanes: u8) -> Hello {
    Hello {
        version: LINK_VERSION,
        extension_table: extensions::TABLE_VERSION,
        link_id: link_id.to_vec().into(),
        node: inner.credentials.id().to_string(),
        lanes: lanes.into(),
    }
}
