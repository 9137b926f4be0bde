//! The TCP streams of a worker. A task per stream reads frames; the worker itself writes, and buffers a
//! bounded amount for a peer that does not read. The engine assigns streams to connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustc_hash::FxHashMap;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tracing::debug;

use super::send_queue::Datagrams;
use super::stats::WorkerCounts;
use crate::tcp::{Frames, TcpArrival, write_frame};
use systir_limits::AddressPlace;
use systir_rtp::packet::{Codec, Kind};
use systir_transport::{Protocol, classify};

/// Events that may wait for a busy worker. When full, the reader waits, and so does its peer.
const MAX_EVENTS: usize = 256;
/// Unsent bytes from which video is dropped: a quarter of a second at 2 Mbit/s.
const MAX_UNSENT_FOR_VIDEO: usize = 64 << 10;
/// Unsent bytes above which the stream is closed.
const MAX_UNSENT: usize = 256 << 10;
/// Bytes that the kernel takes before it sends those that it has; its own limit is megabytes.
const MAX_UNSENT_IN_KERNEL: u32 = 16 << 10;
/// A stream whose peer reads nothing for this long is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream without an authenticated check within this time is closed.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(15);

/// Identifies a stream of this worker; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StreamId(u64);

#[cfg(test)]
impl StreamId {
    pub(super) fn of(id: u64) -> Self {
        Self(id)
    }
}

/// An event of a stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// A frame arrived.
    Frame(StreamId, BytesMut),
    /// The stream is writable again.
    Writable(StreamId),
    /// The peer closed the stream, or violated the framing.
    Ended(StreamId),
}

#[derive(Debug)]
struct Stream {
    io: Arc<TcpStream>,
    peer: SocketAddr,
    since: Instant,
    /// Counts as unauthenticated connection; dropped once the stream is authenticated.
    permit: Option<AddressPlace>,
    unsent: Vec<u8>,
    /// Bytes at the front of `unsent` that were already sent.
    sent: usize,
    /// Bytes that the kernel has taken.
    left: u64,
    /// Since when the peer reads nothing.
    stalled: Option<Instant>,
    /// Asks the reader to report when the stream is writable.
    wants_to_write: Arc<Notify>,
    reader: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// All TCP streams of a worker. To be used on the worker's thread only.
#[derive(Debug)]
pub(super) struct Streams {
    all: FxHashMap<StreamId, Stream>,
    next: u64,
    events: mpsc::Sender<StreamEvent>,
}

impl Streams {
    /// An empty set; the receiver gets the events of its streams.
    pub(super) fn new() -> (Self, mpsc::Receiver<StreamEvent>) {
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        (Self { all: FxHashMap::default(), next: 0, events }, receiver)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds a stream, and spawns its reader on this thread's runtime.
    pub(super) fn add(&mut self, now: Instant, arrival: TcpArrival) {
        let TcpArrival { stream, peer, frames, permit } = arrival;
        let io = match TcpStream::from_std(stream) {
            Ok(io) => Arc::new(io),
            Err(error) => {
                debug!(%error, "a TCP stream could not be added");
                return;
            }
        };
        // What the kernel cannot send yet waits here, where it is seen.
        if let Err(error) = SockRef::from(&*io).set_tcp_notsent_lowat(MAX_UNSENT_IN_KERNEL) {
            debug!(%error, "the kernel's send buffer of a TCP stream could not be limited");
        }
        let id = StreamId(self.next);
        self.next += 1;
        let wants_to_write = Arc::new(Notify::new());
        let reading = read(id, Arc::clone(&io), frames, self.events.clone(), Arc::clone(&wants_to_write));
        let reader = tokio::spawn(reading).abort_handle();
        let stream = Stream {
            io,
            peer,
            since: now,
            permit: Some(permit),
            unsent: Vec::new(),
            sent: 0,
            left: 0,
            stalled: None,
            wants_to_write,
            reader,
        };
        self.all.insert(id, stream);
    }

    pub(super) fn peer(&self, id: StreamId) -> Option<SocketAddr> {
        self.all.get(&id).map(|stream| stream.peer)
    }

    /// Of each stream: the bytes that wait here, and those that the kernel has taken.
    pub(super) fn backlogs(&self) -> impl Iterator<Item = (StreamId, usize, u64)> {
        self.all.iter().map(|(id, stream)| (*id, stream.unsent.len() - stream.sent, stream.left))
    }

    pub(super) fn close(&mut self, id: StreamId) {
        self.all.remove(&id);
    }

    /// Sends datagrams, each in a frame. While the peer does not read, video is dropped first. True when
    /// too much is unsent even so, or the stream failed: the caller closes it.
    pub(super) fn send(
        &mut self,
        now: Instant,
        id: StreamId,
        datagrams: &Datagrams,
        counts: &mut WorkerCounts,
    ) -> bool {
        let Some(stream) = self.all.get_mut(&id) else {
            counts.send_dropped += datagrams.iter().count() as u64;
            return false;
        };
        for datagram in datagrams.iter() {
            let waiting = stream.unsent.len() - stream.sent;
            if (waiting > MAX_UNSENT_FOR_VIDEO && is_video(datagram))
                || !write_frame(&mut stream.unsent, datagram)
            {
                counts.send_dropped += 1;
                continue;
            }
            counts.datagrams_out += 1;
            counts.bytes_out += datagram.len() as u64;
        }
        counts.sends += 1;
        self.write(now, id)
    }

    /// Writes unsent bytes. True when the caller is to close the stream.
    pub(super) fn write(&mut self, now: Instant, id: StreamId) -> bool {
        let Some(stream) = self.all.get_mut(&id) else { return false };
        while let Some(rest) = stream.unsent.get(stream.sent..).filter(|rest| !rest.is_empty()) {
            match stream.io.try_write(rest) {
                Ok(taken) => {
                    stream.sent += taken;
                    stream.left += taken as u64;
                    stream.stalled = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.wants_to_write.notify_one();
                    stream.stalled.get_or_insert(now);
                    break;
                }
                Err(error) => {
                    debug!(%error, "writing to a TCP stream failed");
                    return true;
                }
            }
        }
        if stream.sent == stream.unsent.len() {
            stream.unsent.clear();
            stream.sent = 0;
        } else if stream.sent > MAX_UNSENT_FOR_VIDEO {
            stream.unsent.drain(..stream.sent);
            stream.sent = 0;
        }
        stream.unsent.len() - stream.sent > MAX_UNSENT
    }

    /// The streams that were not authenticated in time, or whose peer reads nothing. Drops the permits of
    /// those that are authenticated by now.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        is_authenticated: impl Fn(StreamId) -> bool,
    ) -> Vec<StreamId> {
        for (id, stream) in &mut self.all {
            if stream.permit.is_some() && is_authenticated(*id) {
                stream.permit = None;
            }
        }
        let late = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        let is_overdue = |stream: &Stream| {
            (stream.permit.is_some() && late(stream.since, AUTHENTICATION_TIMEOUT))
                || stream.stalled.is_some_and(|since| late(since, STALL_TIMEOUT))
        };
        self.all.iter().filter(|(_, stream)| is_overdue(stream)).map(|(id, _)| *id).collect()
    }
}

/// Reads frames until the stream ends, and reports when it is writable if asked.
async fn read(
    id: StreamId,
    io: Arc<TcpStream>,
    mut frames: Frames,
    events: mpsc::Sender<StreamEvent>,
    wants_to_write: Arc<Notify>,
) {
    let mut writing = false;
    loop {
        loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    if events.send(StreamEvent::Frame(id, frame)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    debug!(%error, "the framing of a TCP stream is invalid");
                    let _ = events.send(StreamEvent::Ended(id)).await;
                    return;
                }
            }
        }
        tokio::select! {
            () = wants_to_write.notified(), if !writing => writing = true,
            writable = io.writable(), if writing => {
                writing = false;
                if writable.is_err() || events.send(StreamEvent::Writable(id)).await.is_err() {
                    return;
                }
            }
            readable = io.readable() => {
                let ended = match readable.and_then(|()| io.try_read_buf(frames.buffer())) {
                    Ok(0) => true,
                    Ok(_) => false,
                    Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                };
                if ended {
                    // The worker may have ended too.
                    let _ = events.send(StreamEvent::Ended(id)).await;
                    return;
                }
            }
        }
    }
}

/// Whether this is a sealed RTP packet that is not audio. Its header is not encrypted.
fn is_video(datagram: &[u8]) -> bool {
    let Some(payload_type) = datagram.get(1).map(|byte| byte & 0x7f) else { return false };
    classify(datagram) == Some(Protocol::Rtp)
        && Codec::from_payload_type(payload_type).is_none_or(|codec| codec.kind() != Kind::Audio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::Unidentified;

    fn datagrams(kind: u8, count: usize) -> Datagrams {
        let mut all = Datagrams::default();
        for _ in 0..count {
            all.push_with(|bytes, _| {
                bytes.extend_from_slice(&[0x80, kind]);
                bytes.resize(bytes.len() + 1_000, 0);
                true
            });
        }
        all
    }

    #[tokio::test]
    async fn stream_of_a_peer_that_does_not_read_drops_video_and_is_closed_later() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let permit = crate::tcp::ConnectionLimiter::default()
            .add(peer.ip())
            .and_then(Unidentified::identified)
            .unwrap();
        let arrival =
            TcpArrival { stream: stream.into_std().unwrap(), peer, frames: Frames::default(), permit };
        let (mut streams, mut events) = Streams::new();
        let (now, id, mut counts) = (Instant::now(), StreamId(0), WorkerCounts::default());
        streams.add(now, arrival);
        // The kernel buffers some megabytes before it is full.
        let (video, mut full) = (datagrams(96, 50), 0);
        while full < 50 {
            let before = counts.send_dropped;
            assert!(!streams.send(now, id, &video, &mut counts), "video alone never closes the stream");
            full = if counts.send_dropped > before { full + 1 } else { 0 };
            if let Ok(StreamEvent::Writable(id)) = events.try_recv() {
                assert!(!streams.write(now, id));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = |streams: &Streams| streams.all.get(&id).map_or(0, |one| one.unsent.len() - one.sent);
        assert!(waiting(&streams) < 2 * MAX_UNSENT_FOR_VIDEO, "unsent bytes are bounded");
        let (audio, before) = (datagrams(111, 1), counts.send_dropped);
        assert!(!streams.send(now, id, &audio, &mut counts));
        assert_eq!(counts.send_dropped, before, "audio is still sent");
        assert!(streams.overdue(now, |_| true).is_empty());
        assert_eq!(streams.overdue(now + STALL_TIMEOUT * 2, |_| true), [id], "the peer reads nothing");
        assert!(
            streams.send(now, id, &datagrams(111, MAX_UNSENT / 1_000), &mut counts),
            "too much audio is unsent"
        );
        drop(client);
    }

    #[test]
    fn only_video_is_dropped() {
        assert!(is_video(&[0x80, 96]) && is_video(&[0x90, 0x80 | 97]));
        assert!(!is_video(&[0x80, 111]), "audio");
        assert!(!is_video(&[0x80, 200]), "RTCP");
        assert!(!is_video(&[22, 254]), "DTLS");
        assert!(!is_video(&[0, 1]) && !is_video(&[]));
    }
}
