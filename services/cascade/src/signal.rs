//! One participant's signalling, relayed between its gateway and its media node: whole LiveKit
//! messages, numbered, in bounded queues.

use crate::grpc::heartbeat::Heartbeat;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use systir_limits::AttemptLimiter;
use systir_proto::cluster::v1::signal_message::Body;
use systir_proto::cluster::v1::{SignalEnd, SignalEndReason, SignalMessage};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Messages queued in each direction, at most.
pub(crate) const QUEUE: usize = 256;

/// Renewed tickets of a participant: at once, and then one per interval. A gateway renews one in minutes, and when policy changes.
const TICKETS: u32 = 32;
const TICKET_INTERVAL: Duration = Duration::from_secs(1);

/// How long a full queue may stay full.
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
    /// The other node does not read. End the participant's session; the client can reconnect.
    #[error("the other node does not read the participant's signalling")]
    Full,
    /// The stream has ended.
    #[error("the participant's signalling stream has ended")]
    Gone,
}

/// The sending half. If it is dropped without [`SignalSender::end`], the other node sees `Lost`.
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
    /// When the queue is full or the stream has ended.
    pub fn send(&mut self, payload: Bytes) -> Result<(), SignalError> {
        self.send_body(Body::Payload(payload))
    }

    /// Sends a participant's renewed ticket, without waiting.
    ///
    /// # Errors
    /// When the queue is full or the stream has ended.
    pub fn send_ticket(&mut self, note: Bytes) -> Result<(), SignalError> {
        self.send_body(Body::Ticket(note))
    }

    /// Waits until the queue has space or the stream has ended, for 5 s at most. Cancel-safe.
    ///
    /// # Errors
    /// `Full` when the other node does not read within that time.
    pub async fn ready(&self) -> Result<(), SignalError> {
        let space = async {
            match &self.out {
                Outgoing::Request(out) => drop(out.reserve().await),
                Outgoing::Response(out) => drop(out.reserve().await),
            }
        };
        tokio::time::timeout(SEND_TIMEOUT, space).await.map_err(|_| SignalError::Full)
    }

    /// Ends the stream with a reason. The other node reads it if the receiving half is kept until that node has ended the
    /// stream, too.
    pub fn end(mut self, reason: SignalEndReason, detail: impl Into<String>) {
        // If the message does not fit, dropping the sender ends the stream without a reason.
        let _ = self.send_body(Body::End(SignalEnd { reason: reason.into(), detail: detail.into() }));
    }

    /// Has the other node ended the stream?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match &self.out {
            Outgoing::Request(out) => out.is_closed(),
            Outgoing::Response(out) => out.is_closed(),
        }
    }

    fn send_body(&mut self, body: Body) -> Result<(), SignalError> {
        let message = SignalMessage { seq: self.next, body: Some(body) };
        let sent = match &self.out {
            Outgoing::Request(out) => out.try_send(message).map_err(|error| gone_or_full(&error)),
            Outgoing::Response(out) => out.try_send(Ok(message)).map_err(|error| gone_or_full(&error)),
        };
        sent?;
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

/// What the other node sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalEvent {
    /// An encoded LiveKit message.
    Payload(Bytes),
    /// The note of a renewed ticket.
    Ticket(Bytes),
    /// The other node ended the stream with a reason. Nothing follows.
    End {
        /// Why.
        reason: SignalEndReason,
        /// For the log.
        detail: String,
    },
    /// The stream broke: the node or the connection is lost, or a number is missing. Nothing follows.
    Lost(String),
}

/// The receiving half.
#[derive(Debug)]
pub struct SignalReceiver {
    pub(crate) stream: Streaming<SignalMessage>,
    pub(crate) next: u64,
    pub(crate) ended: bool,
    /// The media node's liveness; only at the gateway.
    pub(crate) heartbeat: Option<Arc<Heartbeat>>,
    /// Renewed tickets, each of which has a signature to verify.
    tickets: AttemptLimiter<()>,
}

impl SignalReceiver {
    pub(crate) fn new(stream: Streaming<SignalMessage>, heartbeat: Option<Arc<Heartbeat>>) -> Self {
        let tickets = AttemptLimiter::new(TICKETS, TICKET_INTERVAL, 1);
        Self { stream, next: 1, ended: false, heartbeat, tickets }
    }

    /// Waits until the other node has ended the stream, too. What it still sends is dropped.
    pub async fn until_ended(&mut self) {
        while !self.ended {
            self.recv().await;
        }
    }

    /// The next message. After `End` or `Lost` it always returns `Lost`. Cancel-safe.
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
                SignalEvent::Lost(format!("message {seq} arrived, {} was expected", self.next))
            }
            Ok(Some(SignalMessage { body: Some(Body::Payload(payload)), .. })) => {
                SignalEvent::Payload(payload)
            }
            Ok(Some(SignalMessage { body: Some(Body::Ticket(_)), .. }))
                if !self.tickets.take((), Instant::now()) =>
            {
                SignalEvent::Lost("tickets are renewed too often".to_owned())
            }
            Ok(Some(SignalMessage { body: Some(Body::Ticket(note)), .. })) => SignalEvent::Ticket(note),
            Ok(Some(SignalMessage { body: Some(Body::End(end)), .. })) => {
                SignalEvent::End { reason: end.reason(), detail: end.detail }
            }
            Ok(Some(_)) => SignalEvent::Lost("a message of an unknown kind arrived".to_owned()),
            Ok(None) => SignalEvent::Lost("the other node closed the stream without a reason".to_owned()),
            Err(status) => SignalEvent::Lost(status.message().to_owned()),
        };
        self.next += 1;
        self.ended = !matches!(event, SignalEvent::Payload(_) | SignalEvent::Ticket(_));
        event
    }
}
