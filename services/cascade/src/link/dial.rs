//! Dialling a peer that a room needs, with patience, until it answers or nobody needs it.

use super::established::{Out, QUEUE};
use super::hello::hello;
use super::run::{self, DATAGRAMS, Incoming};
use super::runtime::LinkRuntime;
use super::table::{Peer, State};
use crate::event::{LinkEvent, LinkNumber};
use crate::flow::Parity;
use crate::peer_address::PeerAddress;
use crate::quic::{Binding, Command};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::LINK_VERSION;
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::cluster::v1::session_message::Body;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{debug, info};

const ATTEMPT: Duration = Duration::from_secs(6);
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A room waits for the link: it is not to stay apart for long once the path is whole again.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Begins to dial. Called with the table locked and the peer idle. After a link that ended it waits
/// a moment, so that a peer that ends every link at once is not dialled without pause.
pub(super) fn begin(runtime: &Arc<LinkRuntime>, id: &SpiffeId, peer: &mut Peer, again: bool) {
    if runtime.cancel.is_cancelled() {
        return;
    }
    let number = runtime.table.next_number();
    let cancel = runtime.cancel.child_token();
    peer.state = if again { State::Waiting(number) } else { State::Dialling(number, cancel.clone()) };
    let (runtime, id) = (runtime.clone(), id.clone());
    runtime.clone().tasks.spawn(async move {
        if !again || wait(&runtime, &id, number, &cancel, FIRST_WAIT).await {
            insist(runtime, id, number, cancel).await;
        }
    });
}

/// Waits, and is dialling again unless the peer dialled meanwhile or the node stops.
async fn wait(
    runtime: &Arc<LinkRuntime>,
    id: &SpiffeId,
    number: LinkNumber,
    cancel: &CancellationToken,
    length: Duration,
) -> bool {
    tokio::select! {
        () = cancel.cancelled() => {
            settle(runtime, id, number);
            return false;
        }
        () = tokio::time::sleep(length.mul_f64(rand::random_range(1.0..2.0))) => {}
    }
    runtime.table.with_peer(id, |peer| match &peer.state {
        State::Waiting(current) if *current == number => {
            peer.state = State::Dialling(number, cancel.clone());
            true
        }
        _ => false,
    })
}

/// Dials until the link stands. Each attempt has its own number.
async fn insist(runtime: Arc<LinkRuntime>, id: SpiffeId, first: LinkNumber, cancel: CancellationToken) {
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .without_max_times()
        .build();
    let mut number = first;
    loop {
        let address = runtime.table.with_peer(&id, |peer| match &peer.state {
            State::Dialling(current, _) if *current == number && !peer.needs.is_empty() => {
                peer.address.clone()
            }
            _ => None,
        });
        let Some(address) = address else {
            // Nobody needs it any more, or the peer dialled us meanwhile.
            return settle(&runtime, &id, number);
        };
        let outcome = tokio::select! {
            () = cancel.cancelled() => Err(None),
            outcome = tokio::time::timeout(ATTEMPT, attempt(&runtime, &address, number)) => match outcome {
                Ok(Ok(made)) => Ok(made),
                Ok(Err(failed)) => Err(Some(failed)),
                Err(_) => Err(Some(Failed::InVain("it did not answer within 6 s".to_owned()))),
            },
        };
        let failed = match outcome {
            Ok(made) => {
                if run::establish(&runtime, made).await {
                    settle(&runtime, &id, number);
                }
                return;
            }
            Err(failed) => failed,
        };
        runtime.quic.ask(Command::Close(number));
        match failed {
            None => return settle(&runtime, &id, number),
            Some(Failed::Crossed) => debug!(peer = %id, "the peer is dialling us; its link is taken"),
            Some(Failed::InVain(reason)) => {
                debug!(peer = %id, reason, "a link could not be made");
                // When the node does not read its events it has other worries than this one.
                let _ = runtime.events.try_send(LinkEvent::Unreachable { peer: id.clone(), reason });
            }
        }
        // While it waits the peer is idle, so that the peer's own dialling is taken.
        let next = runtime.table.next_number();
        let ours = runtime.table.with_peer(&id, |peer| match &peer.state {
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
        if !wait(&runtime, &id, number, &cancel, waits.next().unwrap_or(LONGEST_WAIT)).await {
            return;
        }
    }
}

/// Why an attempt led to no link.
enum Failed {
    /// Both dialled at once, and the peer goes on: nothing is wrong.
    Crossed,
    /// Anything else.
    InVain(String),
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self::InVain(reason)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::AlreadyExists => Self::Crossed,
            _ => Self::InVain(crate::grpc::client::causes(&status)),
        }
    }
}

async fn attempt(
    runtime: &LinkRuntime,
    address: &PeerAddress,
    number: LinkNumber,
) -> Result<Incoming, Failed> {
    let me = runtime.credentials.id();
    let id: [u8; 16] = rand::random();
    let mut client = runtime.clients.own(address).await?;
    let (out, messages) = mpsc::channel(QUEUE);
    let hello = hello(me, id, runtime.lanes);
    out.try_send(SessionMessage { body: Some(Body::Hello(hello)) }).map_err(|error| error.to_string())?;
    let response = client.session(ReceiverStream::new(messages)).await;
    let mut stream = response?.into_inner();
    let first = stream.message().await?;
    let Some(SessionMessage { body: Some(Body::Hello(hello)) }) = first else {
        return Err("its first message was no Hello".to_owned().into());
    };
    if hello.version != LINK_VERSION || hello.link_id != id.as_slice() {
        return Err("its Hello is for another version or link".to_owned().into());
    }
    if hello.node != address.id.as_str() {
        info!(proved = %address.id, says = hello.node, "a peer calls itself something else than it proved");
    }
    let (ready, stands) = oneshot::channel();
    let (down, ended) = oneshot::channel();
    let (heard, datagrams) = mpsc::channel(DATAGRAMS);
    let stats = Arc::new(Mutex::default());
    let parity = Parity::of(me, &address.id);
    let binding = Binding {
        number,
        id,
        peer: address.id.clone(),
        parity,
        lanes: runtime.lanes,
        stats: Arc::clone(&stats),
        ready,
        messages: heard,
        down,
    };
    if !runtime.quic.ask(Command::Connect(binding, address.quic)) {
        return Err("the QUIC thread does not answer".to_owned().into());
    }
    stands.await.map_err(|_| "the QUIC thread gave up".to_owned())??;
    Ok(Incoming {
        number,
        peer: address.id.clone(),
        parity,
        outgoing: true,
        out: Out::Request(out),
        stream,
        datagrams,
        ended,
        stats,
    })
}

/// A link or an attempt ended: back to idle, or dial again when a room needs it.
pub(super) fn settle(runtime: &Arc<LinkRuntime>, id: &SpiffeId, number: LinkNumber) {
    let mut peers = runtime.table.peers();
    let Some(peer) = peers.get_mut(id) else { return };
    let ours = match &peer.state {
        State::Idle => true,
        State::Dialling(current, _)
        | State::Waiting(current)
        | State::Accepting(current)
        | State::Ending(current, _) => *current == number,
        State::Up(link) => link.number == number,
    };
    if !ours {
        return;
    }
    peer.state = State::Idle;
    if peer.needs.is_empty() {
        peers.remove(id);
    } else {
        begin(runtime, id, peer, true);
    }
}
