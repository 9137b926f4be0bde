//! Carries one participant's relayed signalling between this process and the stream on the link, on the
//! gateway and on the media node alike.

use std::sync::Arc;

use prost::Message;
use systir_cascade::{SignalEvent, SignalReceiver, SignalSender, SignalStream};
use systir_gateway::{OpenConnection, SignalCounters};
use systir_proto::cluster::v1::SignalEndReason;
use tokio::sync::mpsc;

/// Messages of one participant that may wait, in each direction.
pub(crate) const QUEUE: usize = 256;

/// How relayed signalling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The local side ended: the session on a media node, the client on a gateway.
    Local,
    /// The other node ended it, or does not read.
    Remote,
    /// The link is lost.
    Lost,
}

/// What differs between the two ends of a relayed signalling stream.
#[derive(Debug)]
pub(crate) struct End<In> {
    /// Why the stream ends when the local side ends.
    pub(crate) reason: SignalEndReason,
    /// The same as text.
    pub(crate) text: &'static str,
    /// Sent to the local side when the link is lost.
    pub(crate) on_lost: Option<In>,
    /// Does the end of the receiver of incoming messages end the stream? On a media node the session's
    /// last messages are still on their way to the client.
    pub(crate) ends_with_receiver: bool,
}

/// Runs until either side ends. Each direction waits for itself alone: while one is held back the other
/// goes on.
pub(crate) async fn run<Out, In>(
    stream: SignalStream,
    mut outgoing: mpsc::Receiver<Out>,
    incoming: mpsc::Sender<In>,
    end: End<In>,
    counters: Arc<SignalCounters>,
    _open: OpenConnection,
) where
    Out: Message,
    In: Message + Default,
{
    let SignalStream { mut tx, mut rx } = stream;
    let sends = send_all(&mut outgoing, &mut tx, &counters);
    let receives = receive_all(&mut rx, &incoming, end.ends_with_receiver, &counters);
    let closed =
        async { if end.ends_with_receiver { incoming.closed().await } else { std::future::pending().await } };
    let ended = tokio::select! {
        ended = sends => ended,
        ended = receives => ended,
        () = closed => Ended::Local,
    };
    match ended {
        Ended::Local => tx.end(end.reason, end.text),
        Ended::Remote => {}
        Ended::Lost => {
            if let Some(last) = end.on_lost {
                let _ = incoming.try_send(last);
            }
        }
    }
}

async fn send_all<Out: Message>(
    outgoing: &mut mpsc::Receiver<Out>,
    tx: &mut SignalSender,
    counters: &SignalCounters,
) -> Ended {
    while let Some(message) = outgoing.recv().await {
        if tx.ready().await.is_err() {
            tracing::warn!("the other node does not read a participant's signalling; the stream ends");
            return Ended::Remote;
        }
        counters.sent();
        if tx.send(message.encode_to_vec().into()).is_err() {
            return Ended::Remote;
        }
    }
    Ended::Local
}

async fn receive_all<In: Message + Default>(
    rx: &mut SignalReceiver,
    incoming: &mpsc::Sender<In>,
    ends_with_receiver: bool,
    counters: &SignalCounters,
) -> Ended {
    loop {
        match rx.recv().await {
            SignalEvent::Payload(payload) => {
                counters.received();
                match In::decode(payload) {
                    Ok(message) => {
                        if incoming.send(message).await.is_err() {
                            if ends_with_receiver {
                                return Ended::Local;
                            }
                            return std::future::pending().await;
                        }
                    }
                    Err(error) => tracing::debug!(%error, "a relayed signalling message cannot be read"),
                }
            }
            SignalEvent::End { .. } => return Ended::Remote,
            SignalEvent::Lost(why) => {
                tracing::warn!(why, "relayed signalling is lost");
                return Ended::Lost;
            }
        }
    }
}
