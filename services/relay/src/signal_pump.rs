//! Copies one participant's relayed signalling between local channels and the gRPC stream, on the gateway and
//! on the media node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use systir_cascade::{SignalEvent, SignalReceiver, SignalSender, SignalStream};
use systir_gateway::{OpenConnection, SignalCounters};
use systir_livekit::has_few_entries;
use systir_proto::cluster::v1::SignalEndReason;
use tokio::sync::mpsc;

/// Queue length of one participant's messages, per direction.
pub(crate) const QUEUE: usize = 256;

/// How long the other node may take to end a stream that this node has ended.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How relayed signalling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndedBy {
    /// The local side ended: the session on a media node, the client on a gateway.
    Local,
    /// The other node ended it, or does not read it.
    Remote,
    /// The link is lost.
    LinkLoss,
}

/// What differs between the two ends of a relayed signalling stream.
#[derive(Debug)]
pub(crate) struct LocalSide<In> {
    /// Reason that is sent when the local side ends.
    pub(crate) reason: SignalEndReason,
    /// The same as text, for the other node's log.
    pub(crate) text: &'static str,
    /// Sent to the local side when the link is lost.
    pub(crate) on_lost: Option<In>,
    /// Does the stream end when the receiver of incoming messages is dropped? Not on a media node: the
    /// session's last messages are still on their way to the client.
    pub(crate) ends_with_receiver: bool,
    /// Entries that an incoming message may have; one with more is not decoded.
    pub(crate) most_entries: usize,
    /// Renewed tickets of the participant.
    pub(crate) tickets: Tickets,
}

/// Where the renewed tickets of a participant come from and go to.
#[derive(Debug)]
pub(crate) enum Tickets {
    /// At the gateway: sends these to the media node.
    Send(mpsc::Receiver<Bytes>),
    /// At the media node: passes those that arrive to the room.
    Receive(mpsc::Sender<Bytes>),
}

/// Runs until either side ends. The directions are independent: while one is blocked the other continues.
pub(crate) async fn run<Out, In>(
    stream: SignalStream,
    mut outgoing: mpsc::Receiver<Out>,
    incoming: mpsc::Sender<In>,
    local: LocalSide<In>,
    counters: Arc<SignalCounters>,
    _open: OpenConnection,
) where
    Out: Message,
    In: Message + Default,
{
    let SignalStream { mut tx, mut rx } = stream;
    let (to_send, received) = match local.tickets {
        Tickets::Send(tickets) => (Some(tickets), None),
        Tickets::Receive(tickets) => (None, Some(tickets)),
    };
    let sends = send_all(&mut outgoing, to_send, &mut tx, &counters);
    let (ends_with_receiver, most_entries) = (local.ends_with_receiver, local.most_entries);
    let receives = receive_all(&mut rx, &incoming, received, ends_with_receiver, most_entries, &counters);
    let closed = async {
        if local.ends_with_receiver { incoming.closed().await } else { std::future::pending().await }
    };
    let ended = tokio::select! {
        ended = sends => ended,
        ended = receives => ended,
        () = closed => EndedBy::Local,
    };
    match ended {
        EndedBy::Local => {
            drop((outgoing, incoming));
            tx.end(local.reason, local.text);
            // To drop the stream now would reset it, and the other node would not read why it ended.
            let _ = tokio::time::timeout(END_TIMEOUT, rx.until_ended()).await;
        }
        EndedBy::Remote => {}
        EndedBy::LinkLoss => {
            if let Some(last) = local.on_lost {
                let _ = incoming.try_send(last);
            }
        }
    }
}

async fn send_all<Out: Message>(
    outgoing: &mut mpsc::Receiver<Out>,
    mut tickets: Option<mpsc::Receiver<Bytes>>,
    tx: &mut SignalSender,
    counters: &SignalCounters,
) -> EndedBy {
    loop {
        let next = tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => ToSend::Message(message),
                None => return EndedBy::Local,
            },
            Some(note) = next_ticket(&mut tickets) => ToSend::Ticket(note),
        };
        if tx.ready().await.is_err() {
            tracing::warn!("the other node does not read a participant's signalling; the stream ends");
            return EndedBy::Remote;
        }
        let sent = match next {
            ToSend::Message(message) => {
                counters.sent();
                tx.send(message.encode_to_vec().into())
            }
            ToSend::Ticket(note) => tx.send_ticket(note),
        };
        if sent.is_err() {
            return EndedBy::Remote;
        }
    }
}

enum ToSend<Out> {
    Message(Out),
    Ticket(Bytes),
}

/// The next renewed ticket; none when no more come.
async fn next_ticket(tickets: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    let next = tickets.as_mut()?.recv().await;
    if next.is_none() {
        *tickets = None;
    }
    next
}

async fn receive_all<In: Message + Default>(
    rx: &mut SignalReceiver,
    incoming: &mpsc::Sender<In>,
    tickets: Option<mpsc::Sender<Bytes>>,
    ends_with_receiver: bool,
    most_entries: usize,
    counters: &SignalCounters,
) -> EndedBy {
    loop {
        match rx.recv().await {
            SignalEvent::Payload(payload) => {
                counters.received();
                if !has_few_entries(&payload, most_entries) {
                    tracing::debug!(most_entries, "a relayed signalling message has too many entries");
                    continue;
                }
                match In::decode(payload) {
                    Ok(message) => {
                        if incoming.send(message).await.is_err() {
                            if ends_with_receiver {
                                return EndedBy::Local;
                            }
                            return std::future::pending().await;
                        }
                    }
                    Err(error) => tracing::debug!(%error, "a relayed signalling message cannot be decoded"),
                }
            }
            SignalEvent::Ticket(note) => {
                // The room verifies few of them: more than it reads are not needed.
                let kept = tickets.as_ref().is_some_and(|tickets| tickets.try_send(note).is_ok());
                if !kept {
                    tracing::debug!("a renewed ticket is ignored");
                }
            }
            SignalEvent::End { .. } => return EndedBy::Remote,
            SignalEvent::Lost(why) => {
                tracing::warn!(why, "relayed signalling is lost");
                return EndedBy::LinkLoss;
            }
        }
    }
}
