//! Relays messages between a client's socket and its session, and closes both together.
//!
//! A client that does not read is disconnected: its send queue is bounded in messages and bytes. A client
//! that exceeds its rate limit, or whose session takes no more requests, is not read for a while. TCP flow
//! control then slows it down: no request is lost, and the client still receives messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use livekit_protocol::{SignalRequest, SignalResponse, signal_request};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::frame::{Encoding, decode};
use super::{SignalCounters, SignalPipe, room_name};
use systir_livekit::rate_limit::RateLimiter;

/// Limits of one socket.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// Longest message of a client, bytes.
    pub message_bytes: usize,
    /// Read buffer, bytes: every socket has one. It grows for a longer message.
    pub read_buffer: usize,
    /// Longest send queue, messages.
    pub queue_messages: usize,
    /// Longest send queue, bytes.
    pub queue_bytes: usize,
    /// WebSocket ping interval.
    pub ping_interval: Duration,
    /// A client from which nothing is received for this time, not even a pong, is gone.
    pub idle_timeout: Duration,
    /// How long to wait until a full session takes a request.
    pub session_timeout: Duration,
    /// How long to wait until a closing socket is closed.
    pub close_timeout: Duration,
    /// Requests that a client may make at once; see [`RateLimiter`]. A request about several tracks counts
    /// for each.
    pub burst: u32,
    /// One more request is allowed per interval.
    pub request_interval: Duration,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            message_bytes: 2 << 20,
            read_buffer: 4 * 1024,
            queue_messages: 512,
            queue_bytes: 4 << 20,
            ping_interval: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            // A client that joins a full room subscribes to 500 tracks (a session's maximum) and sends the
            // size of each. Later it rarely changes them all.
            burst: 1000,
            request_interval: Duration::from_millis(10),
        }
    }
}

/// A request counts once more for each this many bytes; a description of 500 m-lines has about 350,000.
const BYTES_PER_COUNT: usize = 8 * 1024;

/// How many requests a message counts as; at most a whole burst.
pub(super) fn cost(bytes: usize, request: Option<&SignalRequest>, limits: &SocketLimits) -> u32 {
    use signal_request::Message as Request;
    let tracks = match request.and_then(|request| request.message.as_ref()) {
        Some(Request::Subscription(update)) => {
            let nested = update.participant_tracks.iter().map(|one| one.track_sids.len()).sum::<usize>();
            update.track_sids.len() + nested
        }
        Some(Request::TrackSetting(settings)) => settings.track_sids.len(),
        _ => 1,
    };
    let cost = tracks.max(1) + bytes / BYTES_PER_COUNT;
    u32::try_from(cost).unwrap_or(u32::MAX).min(limits.burst)
}

/// Why a socket was closed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketCloseReason {
    /// The client closed it.
    ClientClosed,
    /// The connection failed.
    Disconnected,
    /// The session ended.
    SessionEnded,
    /// The client does not read: its send queue is full.
    SlowClient,
    /// The session does not read: it took no request for too long.
    SlowSession,
    /// Nothing was received for too long.
    IdleClient,
    /// The client sent a message that is too long.
    MessageTooLong,
}

/// The queue of messages to the client.
struct SendQueue {
    sender: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

impl SendQueue {
    fn push(&self, message: Message) -> Result<(), SocketCloseReason> {
        let length = size(&message);
        let waiting = self.bytes.fetch_add(length, Ordering::Relaxed) + length;
        if waiting > self.limit {
            return Err(SocketCloseReason::SlowClient);
        }
        self.sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SocketCloseReason::SlowClient,
            mpsc::error::TrySendError::Closed(_) => SocketCloseReason::Disconnected,
        })
    }
}

fn size(message: &Message) -> usize {
    match message {
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Text(text) => text.len(),
        Message::Close(_) => 0,
    }
}

/// Relays until the client or the session ends.
pub(super) async fn run(
    socket: WebSocket,
    pipe: SignalPipe,
    room_name: &str,
    limits: SocketLimits,
    counters: &Arc<SignalCounters>,
) -> SocketCloseReason {
    let _open = counters.opened();
    let (sink, mut stream) = socket.split();
    let (sender, receiver) = mpsc::channel(limits.queue_messages);
    let bytes = Arc::new(AtomicUsize::new(0));
    let writer = AbortOnDropHandle::new(tokio::spawn(write(sink, receiver, Arc::clone(&bytes))));
    let queue = SendQueue { sender, bytes, limit: limits.queue_bytes };
    let reason = relay(&mut stream, pipe, room_name, &queue, limits, counters).await;
    let last = match reason {
        SocketCloseReason::SessionEnded => Some(None),
        SocketCloseReason::MessageTooLong => {
            let limit = limits.message_bytes;
            let text = match limit >> 20 {
                0 => format!("a message may have at most {limit} bytes"),
                mebibytes => format!("a message may have at most {mebibytes} MiB"),
            };
            Some(Some(CloseFrame { code: close_code::SIZE, reason: text.into() }))
        }
        // The library answers the client's Close frame when the writer closes.
        SocketCloseReason::ClientClosed => None,
        SocketCloseReason::Disconnected
        | SocketCloseReason::SlowClient
        | SocketCloseReason::SlowSession
        | SocketCloseReason::IdleClient => return reason,
    };
    if let Some(frame) = last {
        let _ = queue.push(Message::Close(frame));
    }
    drop(queue);
    // Both sides send a Close frame before the connection ends (RFC 6455 section 7.1.2): otherwise browsers count a failure,
    // and Firefox delays its next connections to this server. The session's last message, a `leave`, may still be in the
    // queue.
    let handshake = async {
        let _ = writer.await;
        while let Some(Ok(_)) = stream.next().await {}
    };
    let _ = timeout(limits.close_timeout, handshake).await;
    reason
}

async fn relay(
    stream: &mut SplitStream<WebSocket>,
    mut pipe: SignalPipe,
    room_name: &str,
    queue: &SendQueue,
    limits: SocketLimits,
    counters: &SignalCounters,
) -> SocketCloseReason {
    let mut encoding = Encoding::default();
    let mut last_received = Instant::now();
    let mut ping = interval_at(last_received + limits.ping_interval, limits.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut limiter = RateLimiter::new(limits.burst, limits.request_interval, last_received.into_std());
    // A request that the session has not taken yet, and until when it must.
    let mut pending: Option<Box<SignalRequest>> = None;
    let mut pending_deadline = last_received;
    // Until when the rate limit forbids to read.
    let mut paused_until: Option<Instant> = None;
    loop {
        tokio::select! {
            response = pipe.from_media.recv() => {
                let Some(mut response) = response else { return SocketCloseReason::SessionEnded };
                room_name::fill(&mut response, room_name);
                counters.sent();
                if let Err(reason) = queue.push(encoding.encode(&response)) {
                    return reason;
                }
            }
            message = stream.next(), if pending.is_none() && paused_until.is_none() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(error)) if is_too_long(&error) => return SocketCloseReason::MessageTooLong,
                    Some(Err(_)) | None => return SocketCloseReason::Disconnected,
                };
                last_received = Instant::now();
                if matches!(message, Message::Close(_)) {
                    return SocketCloseReason::ClientClosed;
                }
                let decoded = decode(&message);
                let request = decoded.as_ref().and_then(|(request, _)| request.as_ref());
                limiter.take(cost(size(&message), request, &limits), last_received.into_std());
                let ready = limiter.is_ready(last_received.into_std());
                paused_until = (!ready).then(|| Instant::from_std(limiter.ready_at()));
                let Some((request, used)) = decoded else { continue };
                counters.received();
                encoding = used;
                // An unreadable message is ignored: it may be one of a newer client.
                pending = request.map(Box::new);
                pending_deadline = last_received + limits.session_timeout;
            }
            () = sleep_until(paused_until.unwrap_or(last_received)), if paused_until.is_some() => {
                paused_until = None;
                // While reading was paused, the client could not show that it is alive.
                last_received = Instant::now();
            }
            place = pipe.to_media.reserve(), if pending.is_some() => {
                let Ok(place) = place else { return drain(&mut pipe.from_media, room_name, queue, encoding, counters) };
                if let Some(request) = pending.take() {
                    place.send(request);
                }
                last_received = Instant::now();
            }
            () = sleep_until(pending_deadline), if pending.is_some() => return SocketCloseReason::SlowSession,
            _ = ping.tick() => {
                let reading = pending.is_none() && paused_until.is_none();
                if reading && last_received.elapsed() >= limits.idle_timeout {
                    return SocketCloseReason::IdleClient;
                }
                if let Err(reason) = queue.push(Message::Ping(Default::default())) {
                    return reason;
                }
            }
        }
    }
}

// The WebSocket library's error is only available as text.
fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}

/// The session reads no more: queues the messages that it has sent before.
fn drain(
    from_media: &mut mpsc::Receiver<Box<SignalResponse>>,
    room_name: &str,
    queue: &SendQueue,
    encoding: Encoding,
    counters: &SignalCounters,
) -> SocketCloseReason {
    while let Ok(mut response) = from_media.try_recv() {
        room_name::fill(&mut response, room_name);
        counters.sent();
        if let Err(reason) = queue.push(encoding.encode(&response)) {
            return reason;
        }
    }
    SocketCloseReason::SessionEnded
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
) {
    while let Some(message) = messages.recv().await {
        let length = size(&message);
        let last = matches!(message, Message::Close(_));
        let sent = sink.send(message).await;
        bytes.fetch_sub(length, Ordering::Relaxed);
        if sent.is_err() || last {
            break;
        }
    }
    let _ = sink.close().await;
}

/// Sends one message and closes.
pub(super) async fn send_last(mut socket: WebSocket, response: SignalResponse, limit: Duration) {
    let message = Encoding::default().encode(&response);
    let exchange = async {
        if socket.send(message).await.is_ok() && socket.send(Message::Close(None)).await.is_ok() {
            // Until the client closes, too.
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(limit, exchange).await;
}
