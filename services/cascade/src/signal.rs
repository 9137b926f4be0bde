//! One participant's signalling between its front door and its media node: whole LiveKit messages,
//! numbered, in bounded queues.

use crate::grpc::heartbeat::Heartbeat;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use systir_proto::cluster::v1::signal_message::Body;
use systir_proto::cluster::v1::{SignalEnd, SignalEndReason, SignalMessage};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Messages that wait for a slow side, at most.
pub(crate) const QUEUE: usize = 256;

/// How long the other node may leave a message unread while the queue is full.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Both directions of a participant's signalling.
#[derive(Debug)]
pub struct SignalStream {
    /// To the other node.
    pub tx: SignalSender,
    /// From the other node.
    pub rx: SignalReceiver,
}

/// Why a message could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// The other node does not read; end the participant's session, it can reconnect.
    #[error("the other node does not read the participant's signalling")]
    Full,
    /// The stream is gone.
    #[error("the participant's signalling stream is gone")]
    Gone,
}

/// The sending half. Dropping it without [`SignalSender::end`] looks like a lost node.
#[derive(Debug)]
pub struct SignalSender {
    pub(crate) out: Outgoing,
    pub(crate) next: u64,
}

#[derive(Debug)]
pub(crate) enum Outgoing {
    Request(mpsc::Sender<SignalMessage>),
    Response(mpsc::Sender<Result<SignalMessage, Status>>),
}

impl SignalSender {
    /// Sends an encoded LiveKit message, without waiting.
    ///
    /// # Errors
    /// When the queue is full or the stream gone.
    pub fn send(&mut self, payload: Bytes) -> Result<(), SignalError> {
        self.send_body(Body::Payload(payload))
    }

    /// Waits until the next message has room or the stream is gone, for 5 s at most. Cancel-safe.
    ///
    /// # Errors
    /// When the other node does not read meanwhile.
    pub async fn ready(&self) -> Result<(), SignalError> {
        let room = async {
            match &self.out {
                Outgoing::Request(out) => drop(out.reserve().await),
                Outgoing::Response(out) => drop(out.reserve().await),
            }
        };
        tokio::time::timeout(SEND_TIMEOUT, room).await.map_err(|_| SignalError::Full)
    }

    /// Ends the stream on purpose.
    pub fn end(mut self, reason: SignalEndReason, detail: impl Into<String>) {
        // A full or dead stream ends by being dropped.
        let _ = self.send_body(Body::End(SignalEnd { reason: reason.into(), detail: detail.into() }));
    }

    /// Has the other side gone?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match &self.out {
            Outgoing::Request(out) => out.is_closed(),
            Outgoing::Response(out) => out.is_closed(),
        }
    }

    fn send_body(&mut self, body: Body) -> Result<(), SignalError> {
        let message = SignalMessage { seq: self.next, body: Some(body) };
        let full = match &self.out {
            Outgoing::Request(out) => out.try_send(message).map_err(|error| gone_or_full(&error)),
            Outgoing::Response(out) => out.try_send(Ok(message)).map_err(|error| gone_or_full(&error)),
        };
        full?;
        self.next += 1;
        Ok(())
    }
}

fn gone_or_full<T>(error: &mpsc::error::TrySendError<T>) -> SignalError {
    match error {
        mpsc::error::TrySendError::Full(_) => SignalError::Full,
        mpsc::error::TrySendError::Closed(_) => SignalError::Gone,
    }
}

/// What arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalEvent {
    /// An encoded LiveKit message.
    Payload(Bytes),
    /// The other side ended the stream on purpose; nothing follows.
    End {
        /// Why.
        reason: SignalEndReason,
        /// For the log.
        detail: String,
    },
    /// The other node or the connection is gone, or broke the numbering; nothing follows.
    Lost(String),
}

/// The receiving half.
#[derive(Debug)]
pub struct SignalReceiver {
    pub(crate) stream: Streaming<SignalMessage>,
    pub(crate) next: u64,
    pub(crate) ended: bool,
    /// Of the media node, at the front door.
    pub(crate) heartbeat: Option<Arc<Heartbeat>>,
}

impl SignalReceiver {
    /// The next message. After `End` and `Lost` it answers `Lost` for ever. Cancel-safe.
    pub async fn recv(&mut self) -> SignalEvent {
        if self.ended {
            return SignalEvent::Lost("the stream has ended".to_owned());
        }
        let heartbeat = self.heartbeat.as_deref();
        let lost = async {
            match heartbeat {
                Some(heartbeat) => heartbeat.lost().await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            biased;
            message = self.stream.message() => message,
            () = lost => Err(Status::unavailable("the other node does not answer")),
        };
        let event = match message {
            Ok(Some(SignalMessage { seq, .. })) if seq != self.next => {
                SignalEvent::Lost(format!("message {seq} came where {} was due", self.next))
            }
            Ok(Some(SignalMessage { body: Some(Body::Payload(payload)), .. })) => {
                SignalEvent::Payload(payload)
            }
            Ok(Some(SignalMessage { body: Some(Body::End(end)), .. })) => {
                SignalEvent::End { reason: end.reason(), detail: end.detail }
            }
            Ok(Some(_)) => SignalEvent::Lost("a message of an unknown kind came".to_owned()),
            Ok(None) => SignalEvent::Lost("the other node closed it without a reason".to_owned()),
            Err(status) => SignalEvent::Lost(status.message().to_owned()),
        };
        self.next += 1;
        self.ended = !matches!(event, SignalEvent::Payload(_));
        event
    }
}
