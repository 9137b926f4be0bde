//! The queue of session messages to the peer: bounded in messages and in bytes.

use futures::Stream;
use prost::Message as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::cluster::v1::session_message::Body;
use tokio::sync::mpsc;
use tonic::Status;

/// Control messages queued for a slow peer, at most.
const MESSAGES: usize = 2048;
/// Part of that queue reserved for messages of the link itself. Without it, the messages of one busy
/// room could end the link.
const RESERVED: usize = 512;
/// Queued bytes from which room messages are handed back. Enough for 5 MB/s over 200 ms, and short enough that a file
/// does not delay the messages behind it.
const ROOM_BYTES: usize = 1 << 20;

/// Sends session messages to the peer.
#[derive(Clone)]
pub(crate) struct SessionSender {
    out: Outgoing,
    /// Bytes in the queue.
    queued: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Outgoing {
    /// This node dialled: its messages are the request stream.
    Request(mpsc::Sender<SessionMessage>),
    /// The peer dialled: they are the response stream.
    Response(mpsc::Sender<Result<SessionMessage, Status>>),
}

/// The queued messages, for gRPC.
pub(crate) struct SessionQueue<T> {
    messages: mpsc::Receiver<T>,
    queued: Arc<AtomicUsize>,
}

/// A queue of request messages.
pub(super) fn requests() -> (SessionSender, SessionQueue<SessionMessage>) {
    queue(Outgoing::Request)
}

/// A queue of response messages.
pub(super) fn responses() -> (SessionSender, SessionQueue<Result<SessionMessage, Status>>) {
    queue(Outgoing::Response)
}

fn queue<T>(outgoing: impl FnOnce(mpsc::Sender<T>) -> Outgoing) -> (SessionSender, SessionQueue<T>) {
    let (out, messages) = mpsc::channel(MESSAGES);
    let queued = Arc::<AtomicUsize>::default();
    (SessionSender { out: outgoing(out), queued: queued.clone() }, SessionQueue { messages, queued })
}

impl SessionSender {
    /// Is there space for another room message?
    pub(super) fn has_capacity(&self) -> bool {
        let free = match &self.out {
            Outgoing::Request(out) => out.capacity(),
            Outgoing::Response(out) => out.capacity(),
        };
        free > RESERVED && self.queued.load(Ordering::Relaxed) < ROOM_BYTES
    }

    /// Queues a message. False when the queue is full.
    pub(super) fn send(&self, body: Body) -> bool {
        let message = SessionMessage { body: Some(body) };
        let length = message.encoded_len();
        // Before the message can be taken out again.
        self.queued.fetch_add(length, Ordering::Relaxed);
        let sent = match &self.out {
            Outgoing::Request(out) => out.try_send(message).is_ok(),
            Outgoing::Response(out) => out.try_send(Ok(message)).is_ok(),
        };
        if !sent {
            self.queued.fetch_sub(length, Ordering::Relaxed);
        }
        sent
    }
}

/// An item of the queue, as gRPC takes it.
pub(crate) trait WithLength {
    /// Its length in bytes.
    fn length(&self) -> usize;
}

impl WithLength for SessionMessage {
    fn length(&self) -> usize {
        self.encoded_len()
    }
}

impl WithLength for Result<SessionMessage, Status> {
    fn length(&self) -> usize {
        self.as_ref().map_or(0, SessionMessage::encoded_len)
    }
}

impl<T: WithLength> Stream for SessionQueue<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let next = self.messages.poll_recv(context);
        if let Poll::Ready(Some(message)) = &next {
            self.queued.fetch_sub(message.length(), Ordering::Relaxed);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::StreamExt as _;
    use systir_proto::cluster::v1::{ReliableData, RoomMessage, room_message};

    fn data(size: usize) -> Body {
        let data = ReliableData { packet: Bytes::from(vec![7; size]), ..Default::default() };
        Body::Room(RoomMessage { room: "r".to_owned(), body: Some(room_message::Body::ReliableData(data)) })
    }

    #[tokio::test]
    async fn room_messages_are_bounded_in_bytes_and_in_number() {
        for size in [10, 1_000, 60_000] {
            let (sender, mut queue) = requests();
            let mut sent = 0;
            while sender.has_capacity() {
                assert!(sender.send(data(size)));
                sent += 1;
            }
            let queued = sender.queued.load(Ordering::Relaxed);
            assert!(queued <= ROOM_BYTES + size + 100, "{queued} bytes of {size}");
            assert!(sent == MESSAGES - RESERVED || queued >= ROOM_BYTES, "{sent} messages of {size}");
            for _ in 0..sent {
                assert_eq!(queue.next().await, Some(SessionMessage { body: Some(data(size)) }));
            }
            assert!(sender.has_capacity());
            assert_eq!(sender.queued.load(Ordering::Relaxed), 0);
        }
    }
}
