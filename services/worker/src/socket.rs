//! A UDP socket of a worker. It sends the datagrams of several clients in one call, those of one client as segments of
//! one message (UDP segmentation offload, GSO), and one by one to a destination for which the kernel refuses that.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn_udp::UdpSocketState;
use rustc_hash::FxHashMap;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::multi_send::{Message, MultiSender, SendOptions};
use super::send_batch::SendBatch;
use super::stats::WorkerCounts;

/// Destinations that are remembered because segmented sends to them were refused; more are forgotten.
const MAX_REFUSED: usize = 1024;
/// When segmented sends to such a destination are tried again: its route may have changed.
const RETRY_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) io: UdpSocket,
    pub(super) state: UdpSocketState,
    /// What its next system call sends.
    pub(super) batch: SendBatch,
    /// The kernel took no more of it in the time that there was.
    pub(super) is_full: bool,
    /// Segments that the kernel takes in one message.
    max_segments: usize,
    /// Destinations for which a segmented send was refused, and until when.
    refused: FxHashMap<SocketAddr, Instant>,
}

/// Why a send failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// The send buffer stayed full.
    Full,
    /// Nothing can be sent to this destination now.
    Unreachable,
    /// The kernel refused this send.
    Refused,
}

impl Socket {
    pub(super) fn new(io: UdpSocket, state: UdpSocketState) -> Self {
        let max_segments = state.max_gso_segments();
        let (batch, refused) = (SendBatch::default(), FxHashMap::default());
        Self { io, state, batch, is_full: false, max_segments, refused }
    }

    /// Datagrams that one send to this destination may hold.
    pub(super) fn max_segments(&self, now: Instant, to: SocketAddr) -> usize {
        if self.is_refused(now, to) { 1 } else { self.max_segments }
    }

    /// Is segmentation refused for this destination?
    pub(super) fn is_refused(&self, now: Instant, to: SocketAddr) -> bool {
        // Nearly always empty.
        !self.refused.is_empty() && self.refused.get(&to).is_some_and(|until| now < *until)
    }

    /// Sends the messages of the batch as the socket takes them, and deducts the time waited from `max_wait`. What is not
    /// taken in that time stays in the batch; what the kernel refuses is dropped and counted. A socket that was full is not
    /// waited for: others have packets to send.
    pub(super) async fn send(
        &mut self,
        now: Instant,
        sender: &mut MultiSender,
        max_wait: &mut Duration,
        counts: &mut WorkerCounts,
    ) {
        let was_full = self.is_full;
        while !self.batch.is_empty() {
            let options = self.batch.options();
            let mut no_wait = Duration::ZERO;
            let wait = if was_full { &mut no_wait } else { &mut *max_wait };
            let sent = self.transmit(sender, options, &self.batch.messages(), wait).await;
            self.is_full = sent == Err(Failed::Full);
            match sent {
                Ok(messages) => {
                    let (datagrams, bytes) = self.batch.remove_first(messages.max(1));
                    count(counts, datagrams, bytes, Ok(()));
                }
                Err(Failed::Full) => return,
                Err(Failed::Refused) if options.segment_size.is_some() => {
                    self.send_unsegmented(now, sender, max_wait, counts).await;
                    self.batch.remove_first(1);
                }
                Err(failed) => {
                    let (datagrams, bytes) = self.batch.remove_first(1);
                    count(counts, datagrams, bytes, Err(failed));
                }
            }
        }
    }

    /// Sends the first message of the batch datagram by datagram: it has an oversized segment, or a route without GSO. The
    /// others must not suffer from it.
    async fn send_unsegmented(
        &mut self,
        now: Instant,
        sender: &mut MultiSender,
        max_wait: &mut Duration,
        counts: &mut WorkerCounts,
    ) {
        let Some((route, datagrams)) = self.batch.first() else { return };
        let options = SendOptions { segment_size: None, ..self.batch.options() };
        let mut taken = false;
        for bytes in datagrams {
            let sent = self.transmit(sender, options, &[Message { to: route.to, bytes }], max_wait).await;
            taken |= sent.is_ok();
            count(counts, 1, bytes.len(), sent.map(|_| ()));
        }
        if taken {
            if self.refused.len() >= MAX_REFUSED {
                self.refused.clear();
            }
            self.refused.insert(route.to, now + RETRY_AFTER);
        }
    }

    /// Returns how many messages were taken.
    async fn transmit(
        &self,
        sender: &mut MultiSender,
        options: SendOptions,
        messages: &[Message<'_>],
        max_wait: &mut Duration,
    ) -> Result<usize, Failed> {
        loop {
            let send = || sender.send((&self.io, &self.state), options, messages);
            let error = match self.io.try_io(Interest::WRITABLE, send) {
                Ok(taken) => return Ok(taken),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock if max_wait.is_zero() => return Err(Failed::Full),
                io::ErrorKind::WouldBlock => {
                    let since = Instant::now();
                    let waited = tokio::time::timeout(*max_wait, self.io.writable()).await;
                    *max_wait = if waited.is_err() {
                        Duration::ZERO
                    } else {
                        max_wait.saturating_sub(since.elapsed())
                    };
                }
                io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::PermissionDenied => return Err(Failed::Unreachable),
                _ => return Err(Failed::Refused),
            }
        }
    }
}

fn count(counts: &mut WorkerCounts, datagrams: usize, bytes: usize, sent: Result<(), Failed>) {
    if sent.is_ok() {
        counts.sends += 1;
        counts.datagrams_out += datagrams as u64;
        counts.bytes_out += bytes as u64;
    } else {
        counts.send_dropped += datagrams as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi_send::MAX_MESSAGES;
    use crate::send_queue::{Datagrams, Route, Via};

    const WAIT: Duration = Duration::from_secs(1);

    fn socket() -> Socket {
        let io = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        io.set_nonblocking(true).unwrap();
        let state = UdpSocketState::new((&io).into()).unwrap();
        Socket::new(UdpSocket::from_std(io).unwrap(), state)
    }

    fn receiver() -> (UdpSocket, Route) {
        let io = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        io.set_nonblocking(true).unwrap();
        let route = to(io.local_addr().unwrap());
        (UdpSocket::from_std(io).unwrap(), route)
    }

    fn to(to: SocketAddr) -> Route {
        Route { via: Via::Udp(0), source: None, to }
    }

    /// A batch with `count` datagrams of ten bytes for each destination, however many the kernel takes in one message.
    fn batch(routes: &[Route], count: usize) -> SendBatch {
        let mut batch = SendBatch::default();
        for route in routes {
            let mut datagrams = Datagrams::default();
            for _ in 0..count {
                datagrams.push_with(|bytes, start| {
                    bytes.resize(start + 10, 7);
                    true
                });
            }
            for group in batch.take(*route, datagrams, count) {
                assert!(batch.push(&group, false));
            }
        }
        batch
    }

    async fn send(socket: &mut Socket, now: Instant, routes: &[Route], count: usize) -> WorkerCounts {
        let (mut counts, mut wait) = (WorkerCounts::default(), WAIT);
        socket.batch = batch(routes, count);
        socket.send(now, &mut MultiSender::default(), &mut wait, &mut counts).await;
        assert!(socket.batch.is_empty() && !socket.is_full);
        counts
    }

    async fn received(io: &UdpSocket, count: usize) {
        for _ in 0..count {
            let mut buffer = [0; 100];
            let datagram = tokio::time::timeout(WAIT * 10, io.recv(&mut buffer)).await.unwrap().unwrap();
            assert_eq!(datagram, 10);
        }
    }

    #[tokio::test]
    async fn datagrams_for_many_clients_leave_in_one_call() {
        let (mut socket, now) = (socket(), Instant::now());
        let receivers: Vec<_> = (0..MAX_MESSAGES).map(|_| receiver()).collect();
        let routes: Vec<_> = receivers.iter().map(|(_, route)| *route).collect();
        for datagrams in [1, 3] {
            let counts = send(&mut socket, now, &routes, datagrams).await;
            for (io, _) in &receivers {
                received(io, datagrams).await;
            }
            let all = (MAX_MESSAGES * datagrams) as u64;
            assert_eq!((counts.sends, counts.datagrams_out, counts.send_dropped), (1, all, 0));
        }
    }

    #[tokio::test]
    async fn a_refused_message_delays_none_of_its_batch() {
        let (mut socket, now) = (socket(), Instant::now());
        let ((first, one), (second, other)) = (receiver(), receiver());
        let nobody = to("127.0.0.1:0".parse().unwrap());
        for datagrams in [1, 3] {
            let counts = send(&mut socket, now, &[one, nobody, other], datagrams).await;
            received(&first, datagrams).await;
            received(&second, datagrams).await;
            assert_eq!((counts.datagrams_out, counts.send_dropped), (2 * datagrams as u64, datagrams as u64));
        }
        assert!(!socket.is_refused(now, one.to) && !socket.is_refused(now, other.to));
    }

    #[tokio::test]
    async fn a_refused_destination_does_not_end_segmentation_for_others() {
        let (mut socket, now) = (socket(), Instant::now());
        let (io, route) = receiver();
        let before = socket.max_segments(now, route.to);
        let nobody = to("127.0.0.1:0".parse().unwrap());
        let refused = send(&mut socket, now, &[nobody], 3).await;
        assert_eq!((refused.datagrams_out, refused.send_dropped), (0, 3));
        assert_eq!(socket.max_segments(now, route.to), before);
        let counts = send(&mut socket, now, &[route], 4).await;
        received(&io, 4).await;
        assert_eq!((counts.sends, counts.datagrams_out, counts.send_dropped), (1, 4, 0));
    }

    #[tokio::test]
    async fn a_group_that_is_refused_is_sent_datagram_by_datagram() {
        let (mut socket, now) = (socket(), Instant::now());
        let ((io, route), (_, other)) = (receiver(), receiver());
        let before = socket.max_segments(now, route.to);
        // More segments than any kernel takes.
        let counts = send(&mut socket, now, &[route], 200).await;
        received(&io, 200).await;
        assert_eq!((counts.sends, counts.datagrams_out, counts.send_dropped), (200, 200, 0));
        assert_eq!(socket.max_segments(now, route.to), 1);
        assert_eq!(socket.max_segments(now, other.to), before, "another destination");
        assert_eq!(socket.max_segments(now + RETRY_AFTER, route.to), before, "tried again later");
    }
}
