//! TCP streams of a worker: each has a task that reads frames; the worker writes by itself, into a
//! bounded buffer when the peer does not take them. Who owns a stream is the engine's to say.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tracing::debug;

use super::outgoing::Datagrams;
use super::stats::WorkerCounts;
use crate::tcp::{Frame, Frames, Pass, TcpArrival, write_frame};
use systir_rtp::packet::{Codec, Kind};
use systir_transport::{Class, classify};

/// Events that may wait for a busy worker; a reader waits for its turn, and its peer with it.
const MAX_EVENTS: usize = 256;
/// Unsent bytes from which pictures are dropped: a quarter of a second at 2 Mbit/s.
const PICTURES: usize = 64 << 10;
/// Unsent bytes at which the stream is closed.
const MOST: usize = 256 << 10;
/// A peer that took nothing for so long is gone.
const STALLED: Duration = Duration::from_secs(10);
/// A stream proves whose it is within this time.
const UNPROVED: Duration = Duration::from_secs(15);

/// A stream of this worker; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StreamId(u64);

#[cfg(test)]
impl StreamId {
    pub(super) fn of(id: u64) -> Self {
        Self(id)
    }
}

/// What happens on a stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// A frame came.
    Frame(StreamId, Frame),
    /// More can be written.
    Writable(StreamId),
    /// The peer closed it, or broke the framing.
    Ended(StreamId),
}

#[derive(Debug)]
struct Stream {
    io: Arc<TcpStream>,
    peer: SocketAddr,
    since: Instant,
    /// Held until somebody has proved whose the stream is.
    pass: Option<Pass>,
    unsent: Vec<u8>,
    /// Bytes at the front of `unsent` that are sent already.
    sent: usize,
    /// Since when the peer takes nothing.
    stalled: Option<Instant>,
    wants_to_write: Arc<Notify>,
    reader: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// All streams of a worker. Lives on the worker's thread.
#[derive(Debug)]
pub(super) struct Streams {
    all: FxHashMap<StreamId, Stream>,
    next: u64,
    happened: mpsc::Sender<StreamEvent>,
}

impl Streams {
    /// None yet; what happens comes out of the receiver.
    pub(super) fn new() -> (Self, mpsc::Receiver<StreamEvent>) {
        let (happened, events) = mpsc::channel(MAX_EVENTS);
        (Self { all: FxHashMap::default(), next: 0, happened }, events)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes a stream in; its reader runs on this thread's runtime.
    pub(super) fn arrive(&mut self, now: Instant, arrival: TcpArrival) {
        let TcpArrival { stream, peer, frames, pass } = arrival;
        let io = match TcpStream::from_std(stream) {
            Ok(io) => Arc::new(io),
            Err(error) => {
                debug!(%error, "a TCP stream was not taken in");
                return;
            }
        };
        let id = StreamId(self.next);
        self.next += 1;
        let wants_to_write = Arc::new(Notify::new());
        let reading = read(id, Arc::clone(&io), frames, self.happened.clone(), Arc::clone(&wants_to_write));
        let reader = tokio::spawn(reading).abort_handle();
        let stream = Stream {
            io,
            peer,
            since: now,
            pass: Some(pass),
            unsent: Vec::new(),
            sent: 0,
            stalled: None,
            wants_to_write,
            reader,
        };
        self.all.insert(id, stream);
    }

    pub(super) fn peer(&self, id: StreamId) -> Option<SocketAddr> {
        self.all.get(&id).map(|stream| stream.peer)
    }

    pub(super) fn close(&mut self, id: StreamId) {
        self.all.remove(&id);
    }

    /// Sends datagrams, each in a frame. A peer that does not take them gets no pictures until it
    /// does, and one that does not even take the rest is let go: true.
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
            if (waiting > PICTURES && is_video(datagram)) || !write_frame(&mut stream.unsent, datagram) {
                counts.send_dropped += 1;
                continue;
            }
            counts.datagrams_out += 1;
            counts.bytes_out += datagram.len() as u64;
        }
        counts.sends += 1;
        self.write(now, id)
    }

    /// Writes what waits. True when the peer is let go.
    pub(super) fn write(&mut self, now: Instant, id: StreamId) -> bool {
        let Some(stream) = self.all.get_mut(&id) else { return false };
        while let Some(rest) = stream.unsent.get(stream.sent..).filter(|rest| !rest.is_empty()) {
            match stream.io.try_write(rest) {
                Ok(taken) => {
                    stream.sent += taken;
                    stream.stalled = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.wants_to_write.notify_one();
                    stream.stalled.get_or_insert(now);
                    break;
                }
                Err(error) => {
                    debug!(%error, "a TCP stream ended");
                    return true;
                }
            }
        }
        if stream.sent == stream.unsent.len() {
            stream.unsent.clear();
            stream.sent = 0;
        } else if stream.sent > PICTURES {
            stream.unsent.drain(..stream.sent);
            stream.sent = 0;
        }
        stream.unsent.len() - stream.sent > MOST
    }

    /// Streams that nobody has proved in time, or that take nothing any more. Those that were
    /// proved make place for others that prove themselves.
    pub(super) fn overdue(&mut self, now: Instant, is_proved: impl Fn(StreamId) -> bool) -> Vec<StreamId> {
        for (id, stream) in &mut self.all {
            if stream.pass.is_some() && is_proved(*id) {
                stream.pass = None;
            }
        }
        let late = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        let overdue = |stream: &Stream| {
            (stream.pass.is_some() && late(stream.since, UNPROVED))
                || stream.stalled.is_some_and(|since| late(since, STALLED))
        };
        self.all.iter().filter(|(_, stream)| overdue(stream)).map(|(id, _)| *id).collect()
    }
}

/// Reads frames until the stream ends, and tells when more can be written.
async fn read(
    id: StreamId,
    io: Arc<TcpStream>,
    mut frames: Frames,
    happened: mpsc::Sender<StreamEvent>,
    wants_to_write: Arc<Notify>,
) {
    let mut writing = false;
    loop {
        loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    if happened.send(StreamEvent::Frame(id, frame)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    debug!(%error, "a TCP stream broke the framing");
                    let _ = happened.send(StreamEvent::Ended(id)).await;
                    return;
                }
            }
        }
        tokio::select! {
            () = wants_to_write.notified(), if !writing => writing = true,
            writable = io.writable(), if writing => {
                writing = false;
                if writable.is_err() || happened.send(StreamEvent::Writable(id)).await.is_err() {
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
                    // The worker may be gone as well.
                    let _ = happened.send(StreamEvent::Ended(id)).await;
                    return;
                }
            }
        }
    }
}

/// A sealed RTP packet that is not audio: its header is in the clear.
fn is_video(datagram: &[u8]) -> bool {
    let Some(payload_type) = datagram.get(1).map(|byte| byte & 0x7f) else { return false };
    classify(datagram) == Some(Class::Rtp)
        && Codec::from_payload_type(payload_type).is_none_or(|codec| codec.kind() != Kind::Audio)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    async fn a_peer_that_does_not_read_loses_pictures_first_and_is_then_let_go() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deaf = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let pass = crate::tcp::Gate::default().admit(peer.ip()).unwrap();
        let arrival =
            TcpArrival { stream: stream.into_std().unwrap(), peer, frames: Frames::default(), pass };
        let (mut streams, mut events) = Streams::new();
        let (now, id, mut counts) = (Instant::now(), StreamId(0), WorkerCounts::default());
        streams.arrive(now, arrival);
        // The kernel takes some megabytes before it is full for good.
        let (pictures, mut full) = (datagrams(96, 50), 0);
        while full < 50 {
            let before = counts.send_dropped;
            assert!(!streams.send(now, id, &pictures, &mut counts), "pictures alone end no stream");
            full = if counts.send_dropped > before { full + 1 } else { 0 };
            if let Ok(StreamEvent::Writable(id)) = events.try_recv() {
                assert!(!streams.write(now, id));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = |streams: &Streams| streams.all.get(&id).map_or(0, |one| one.unsent.len() - one.sent);
        assert!(waiting(&streams) < 2 * PICTURES, "what waits is bounded");
        let (sound, before) = (datagrams(111, 1), counts.send_dropped);
        assert!(!streams.send(now, id, &sound, &mut counts));
        assert_eq!(counts.send_dropped, before, "sound still goes");
        assert!(streams.overdue(now, |_| true).is_empty());
        assert_eq!(streams.overdue(now + STALLED * 2, |_| true), [id], "it takes nothing any more");
        assert!(streams.send(now, id, &datagrams(111, MOST / 1_000), &mut counts), "not even sound");
        drop(deaf);
    }

    #[test]
    fn only_pictures_are_given_up() {
        assert!(is_video(&[0x80, 96]) && is_video(&[0x90, 0x80 | 97]));
        assert!(!is_video(&[0x80, 111]), "sound");
        assert!(!is_video(&[0x80, 200]), "a report");
        assert!(!is_video(&[22, 254]), "DTLS");
        assert!(!is_video(&[0, 1]) && !is_video(&[]));
    }
}
