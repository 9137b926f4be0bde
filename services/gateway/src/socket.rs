//! Carries messages between a socket and a session, and ends both together. A client that does
//! not read is cut off: its queue is bounded in messages and bytes. One that says more than it may,
//! or more than its session takes now, is not read for a while: TCP holds it back, nothing is lost,
//! and what it is told goes on.

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
use super::{SignalCounters, SignalPipe};
use systir_livekit::rate_limit::RateLimiter;

/// What one socket may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest message of a client, bytes.
    pub message: usize,
    /// Messages that wait to be written.
    pub queue_messages: usize,
    /// Bytes that wait to be written.
    pub queue_bytes: usize,
    /// WebSocket ping interval.
    pub ping: Duration,
    /// Nothing heard, not even a pong: the client is gone.
    pub silence: Duration,
    /// How long a full session or a closing socket is waited for.
    pub patience: Duration,
    /// Requests that a client may make at once; a request about several tracks counts for each.
    pub burst: u32,
    /// Within this time it earns another one.
    pub earned: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 2 << 20,
            queue_messages: 512,
            queue_bytes: 4 << 20,
            ping: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            // Who joins a full room subscribes to 500 tracks (the most that a session takes) and says
            // the size of each. Afterwards a page of tiles changes now and then, not each second.
            burst: 1000,
            earned: Duration::from_millis(10),
        }
    }
}

/// Bytes of a request that count as one more: a description of 500 m-lines has about 350,000.
const PART: usize = 8 * 1024;

/// What a message counts for; never more than a whole burst.
pub(super) fn cost(bytes: usize, request: Option<&SignalRequest>, limits: &Limits) -> u32 {
    use signal_request::Message as Request;
    let tracks = match request.and_then(|request| request.message.as_ref()) {
        Some(Request::Subscription(update)) => {
            let nested = update.participant_tracks.iter().map(|one| one.track_sids.len()).sum::<usize>();
            update.track_sids.len() + nested
        }
        Some(Request::TrackSetting(settings)) => settings.track_sids.len(),
        _ => 1,
    };
    let cost = tracks.max(1) + bytes / PART;
    u32::try_from(cost).unwrap_or(u32::MAX).min(limits.burst)
}

/// Why a socket was closed; for the log and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client closed it or vanished.
    Client,
    /// The session ended.
    Session,
    /// The client does not read.
    Slow,
    /// The session does not read.
    Stuck,
    /// The client says nothing at all.
    Silent,
    /// The client's message is longer than any may be.
    TooLong,
}

/// Messages that wait to be written.
struct Queue {
    sender: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

impl Queue {
    fn push(&self, message: Message) -> Result<(), Ended> {
        let length = size(&message);
        let waiting = self.bytes.fetch_add(length, Ordering::Relaxed) + length;
        if waiting > self.limit {
            return Err(Ended::Slow);
        }
        self.sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Ended::Slow,
            mpsc::error::TrySendError::Closed(_) => Ended::Client,
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

/// Runs until either side ends.
pub(super) async fn run(
    socket: WebSocket,
    pipe: SignalPipe,
    limits: Limits,
    counters: &Arc<SignalCounters>,
) -> Ended {
    let _open = counters.opened();
    let (sink, stream) = socket.split();
    let (sender, receiver) = mpsc::channel(limits.queue_messages);
    let bytes = Arc::new(AtomicUsize::new(0));
    let writer = AbortOnDropHandle::new(tokio::spawn(write(sink, receiver, Arc::clone(&bytes))));
    let queue = Queue { sender, bytes, limit: limits.queue_bytes };
    let ended = carry(stream, pipe, &queue, limits, counters).await;
    match ended {
        // A last word (leave) may still be in the queue.
        Ended::Session => {
            let _ = queue.push(Message::Close(None));
            drop(queue);
            let _ = timeout(limits.patience, writer).await;
        }
        Ended::TooLong => {
            let limit = limits.message;
            let words = format!("a message may have {} MiB at most", limit >> 20);
            let words =
                if limit >> 20 == 0 { format!("a message may have {limit} bytes at most") } else { words };
            let _ =
                queue.push(Message::Close(Some(CloseFrame { code: close_code::SIZE, reason: words.into() })));
            drop(queue);
            let _ = timeout(limits.patience, writer).await;
        }
        Ended::Client | Ended::Slow | Ended::Stuck | Ended::Silent => drop(writer),
    }
    ended
}

async fn carry(
    mut stream: SplitStream<WebSocket>,
    mut pipe: SignalPipe,
    queue: &Queue,
    limits: Limits,
    counters: &SignalCounters,
) -> Ended {
    let mut encoding = Encoding::default();
    let mut heard = Instant::now();
    let mut ping = interval_at(heard + limits.ping, limits.ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut limiter = RateLimiter::new(limits.burst, limits.earned, heard.into_std());
    // What the session has not taken yet, and how long that is waited for.
    let mut said: Option<SignalRequest> = None;
    let mut stuck = heard;
    // Until when nothing is read.
    let mut held: Option<Instant> = None;
    loop {
        tokio::select! {
            response = pipe.from_media.recv() => {
                let Some(response) = response else { return Ended::Session };
                counters.sent();
                if let Err(ended) = queue.push(encoding.encode(&response)) {
                    return ended;
                }
            }
            message = stream.next(), if said.is_none() && held.is_none() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(error)) if is_too_long(&error) => return Ended::TooLong,
                    Some(Err(_)) | None => return Ended::Client,
                };
                heard = Instant::now();
                if matches!(message, Message::Close(_)) {
                    return Ended::Client;
                }
                let decoded = decode(&message);
                let request = decoded.as_ref().and_then(|(request, _)| request.as_ref());
                limiter.take(cost(size(&message), request, &limits), heard.into_std());
                held = (!limiter.is_ready(heard.into_std())).then(|| Instant::from_std(limiter.ready_at()));
                let Some((request, spoken)) = decoded else { continue };
                counters.received();
                encoding = spoken;
                // A message that we cannot read may be one of a newer client.
                said = request;
                stuck = heard + limits.patience;
            }
            () = sleep_until(held.unwrap_or(heard)), if held.is_some() => {
                held = None;
                // Nobody can be heard who is not listened to.
                heard = Instant::now();
            }
            place = pipe.to_media.reserve(), if said.is_some() => {
                let Ok(place) = place else { return drain(&mut pipe.from_media, queue, encoding, counters) };
                if let Some(request) = said.take() {
                    place.send(request);
                }
                heard = Instant::now();
            }
            () = sleep_until(stuck), if said.is_some() => return Ended::Stuck,
            _ = ping.tick() => {
                let listens = said.is_none() && held.is_none();
                if listens && heard.elapsed() >= limits.silence {
                    return Ended::Silent;
                }
                if let Err(ended) = queue.push(Message::Ping(Default::default())) {
                    return ended;
                }
            }
        }
    }
}

// What is below the WebSocket names its errors in words only.
fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}

/// The session reads no more; what it said before is still to be written.
fn drain(
    from_media: &mut mpsc::Receiver<SignalResponse>,
    queue: &Queue,
    encoding: Encoding,
    counters: &SignalCounters,
) -> Ended {
    while let Ok(response) = from_media.try_recv() {
        counters.sent();
        if let Err(ended) = queue.push(encoding.encode(&response)) {
            return ended;
        }
    }
    Ended::Session
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
pub(super) async fn send_last(mut socket: WebSocket, response: SignalResponse, patience: Duration) {
    let message = Encoding::default().encode(&response);
    let talk = async {
        if socket.send(message).await.is_ok() && socket.send(Message::Close(None)).await.is_ok() {
            // The client's close ends it in order.
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(patience, talk).await;
}
