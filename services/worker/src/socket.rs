//! A UDP socket of a worker. It sends a group of datagrams in one call (UDP segmentation offload, GSO), and one by
//! one to a destination for which the kernel refuses that.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn_udp::{Transmit, UdpSocketState};
use rustc_hash::FxHashMap;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::send_queue::{GsoGroup, Route};
use super::stats::WorkerCounts;

/// Destinations that are remembered because segmented sends to them were refused; more are forgotten.
const MAX_REFUSED: usize = 1024;
/// When segmented sends to such a destination are tried again: its route may have changed.
const RETRY_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) io: UdpSocket,
    pub(super) state: UdpSocketState,
    /// Segments that the kernel takes in one send. Asked once: quinn-udp's own figure falls to one for good when
    /// any send is refused, whoever it was for.
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
        Self { io, state, max_segments, refused: FxHashMap::default() }
    }

    /// Datagrams that one send to this destination may hold.
    pub(super) fn max_segments(&self, now: Instant, to: SocketAddr) -> usize {
        // Nearly always empty.
        let refused = !self.refused.is_empty() && self.refused.get(&to).is_some_and(|until| now < *until);
        if refused { 1 } else { self.max_segments }
    }

    /// Sends a group once the socket is writable, and deducts the time waited from `max_wait`. What the kernel does
    /// not take is dropped and counted.
    pub(super) async fn send(
        &mut self,
        now: Instant,
        route: &Route,
        group: &GsoGroup<'_>,
        max_wait: &mut Duration,
        counts: &mut WorkerCounts,
    ) {
        let segment_size = (group.count > 1).then_some(group.segment_size);
        let sent = self.transmit(route, group.bytes, segment_size, max_wait).await;
        if sent == Err(Failed::Refused) && group.count > 1 {
            // An oversized segment, or a route without GSO: the others must not suffer from it.
            let mut taken = false;
            for datagram in group.bytes.chunks(group.segment_size) {
                let sent = self.transmit(route, datagram, None, max_wait).await;
                taken |= sent.is_ok();
                count(counts, 1, datagram.len(), sent);
            }
            if taken {
                if self.refused.len() >= MAX_REFUSED {
                    self.refused.clear();
                }
                self.refused.insert(route.to, now + RETRY_AFTER);
            }
            return;
        }
        count(counts, group.count, group.bytes.len(), sent);
    }

    async fn transmit(
        &self,
        route: &Route,
        contents: &[u8],
        segment_size: Option<usize>,
        max_wait: &mut Duration,
    ) -> Result<(), Failed> {
        let transmit =
            Transmit { destination: route.to, ecn: None, contents, segment_size, src_ip: route.source };
        loop {
            let send = || self.state.try_send((&self.io).into(), &transmit);
            let Err(error) = self.io.try_io(Interest::WRITABLE, send) else { return Ok(()) };
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
    use crate::send_queue::Via;

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

    async fn send(socket: &mut Socket, now: Instant, route: &Route, count: usize) -> WorkerCounts {
        let (bytes, mut counts, mut wait) = (vec![7; count * 10], WorkerCounts::default(), WAIT);
        let group = GsoGroup { bytes: &bytes, segment_size: 10, count };
        socket.send(now, route, &group, &mut wait, &mut counts).await;
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
    async fn a_refused_destination_does_not_end_segmentation_for_others() {
        let (mut socket, now) = (socket(), Instant::now());
        let (io, route) = receiver();
        let before = socket.max_segments(now, route.to);
        let nobody = to("127.0.0.1:0".parse().unwrap());
        let refused = send(&mut socket, now, &nobody, 3).await;
        assert_eq!((refused.datagrams_out, refused.send_dropped), (0, 3));
        assert_eq!(socket.state.max_gso_segments(), 1, "quinn-udp has given up segmentation");
        assert_eq!(socket.max_segments(now, route.to), before);
        let counts = send(&mut socket, now, &route, 4).await;
        received(&io, 4).await;
        assert_eq!((counts.sends, counts.datagrams_out, counts.send_dropped), (1, 4, 0));
    }

    #[tokio::test]
    async fn a_group_that_is_refused_is_sent_datagram_by_datagram() {
        let (mut socket, now) = (socket(), Instant::now());
        let ((io, route), (_, other)) = (receiver(), receiver());
        let before = socket.max_segments(now, route.to);
        // More segments than any kernel takes.
        let counts = send(&mut socket, now, &route, 200).await;
        received(&io, 200).await;
        assert_eq!((counts.sends, counts.datagrams_out, counts.send_dropped), (200, 200, 0));
        assert_eq!(socket.max_segments(now, route.to), 1);
        assert_eq!(socket.max_segments(now, other.to), before, "another destination");
        assert_eq!(socket.max_segments(now + RETRY_AFTER, route.to), before, "tried again later");
    }
}
