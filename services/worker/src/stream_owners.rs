//! Maps TCP streams to connections. A stream is assigned to the connection whose ufrag its first check
//! carries, and never changes it. It is authenticated once a check on it was.

use std::net::SocketAddr;
use std::time::Instant;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use systir_transport::Protocol;

use super::demux::{binding_request_ufrag, protocol_of};
use super::engine::Engine;
use super::send_queue::{Route, Via};
use super::streams::StreamId;

/// Streams of one connection at a time.
const MAX_STREAMS: usize = 4;

#[derive(Debug, Clone, Copy)]
struct StreamOwner {
    connection: usize,
    authenticated: bool,
}

/// The connections of all streams. A connection is identified by its slab key.
#[derive(Debug, Default)]
pub(super) struct StreamOwners {
    by_stream: FxHashMap<StreamId, StreamOwner>,
    by_connection: FxHashMap<usize, SmallVec<[StreamId; MAX_STREAMS]>>,
    /// Streams without a connection, to be closed.
    unowned: Vec<StreamId>,
}

impl StreamOwners {
    /// Assigns a stream to a connection. Over the limit the oldest stream is removed, unauthenticated ones
    /// first.
    fn assign(&mut self, stream: StreamId, connection: usize) -> StreamOwner {
        let streams = self.by_connection.entry(connection).or_default();
        if streams.len() == MAX_STREAMS {
            let unauthenticated =
                |id: &StreamId| self.by_stream.get(id).is_none_or(|owner| !owner.authenticated);
            let removed = streams.remove(streams.iter().position(unauthenticated).unwrap_or(0));
            self.by_stream.remove(&removed);
            self.unowned.push(removed);
        }
        streams.push(stream);
        let owner = StreamOwner { connection, authenticated: false };
        self.by_stream.insert(stream, owner);
        owner
    }

    /// A check on the stream was authenticated.
    pub(super) fn mark_authenticated(&mut self, stream: StreamId) {
        if let Some(owner) = self.by_stream.get_mut(&stream) {
            owner.authenticated = true;
        }
    }

    /// The connection of a stream.
    pub(super) fn connection(&self, stream: StreamId) -> Option<usize> {
        self.by_stream.get(&stream).map(|owner| owner.connection)
    }

    pub(super) fn is_authenticated(&self, stream: StreamId) -> bool {
        self.by_stream.get(&stream).is_some_and(|owner| owner.authenticated)
    }

    /// Removes a stream that ended.
    pub(super) fn stream_ended(&mut self, stream: StreamId) {
        let Some(owner) = self.by_stream.remove(&stream) else { return };
        if let Some(streams) = self.by_connection.get_mut(&owner.connection) {
            streams.retain(|id| *id != stream);
            if streams.is_empty() {
                self.by_connection.remove(&owner.connection);
            }
        }
    }

    /// Removes the streams of a connection that ended.
    pub(super) fn connection_ended(&mut self, connection: usize) {
        for stream in self.by_connection.remove(&connection).unwrap_or_default() {
            self.by_stream.remove(&stream);
            self.unowned.push(stream);
        }
    }

    /// Takes the streams to close. Called after pending datagrams were sent on them.
    pub(super) fn take_unowned(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.unowned)
    }
}

impl Engine {
    /// What waits to be sent on a TCP stream, and how much has left, in bytes.
    pub(super) fn backlog(&mut self, now: Instant, stream: StreamId, unsent: usize, left: u64) {
        let Some(connection) = self.stream_owners.connection(stream) else { return };
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        // Of several streams, media is sent on one.
        if conn.route.is_some_and(|route| route.via == Via::Tcp(stream))
            && let Some(control) = conn.send_control()
        {
            control.backlog(now, unsent, left);
        }
    }

    /// Handles a frame of a TCP stream. False when the stream has no connection and the frame is not a check
    /// for one of ours: the stream is to be closed.
    pub(super) fn frame(
        &mut self,
        now: Instant,
        stream: StreamId,
        from: SocketAddr,
        bytes: &mut [u8],
    ) -> bool {
        self.egress.now = now;
        self.egress.counts.datagrams_in += 1;
        self.egress.counts.bytes_in += bytes.len() as u64;
        let Some(protocol) = protocol_of(bytes) else {
            self.egress.counts.datagrams_rejected += 1;
            return true;
        };
        let by_ufrag =
            || binding_request_ufrag(bytes).and_then(|ufrag| self.demux.connection_by_ufrag(ufrag));
        let owner = match self.stream_owners.by_stream.get(&stream).copied() {
            Some(owner)
                if protocol == Protocol::Stun && by_ufrag().is_some_and(|one| one != owner.connection) =>
            {
                // A stream carries one peer connection only.
                self.egress.counts.datagrams_rejected += 1;
                return true;
            }
            Some(owner) => owner,
            None => match by_ufrag() {
                Some(connection) => self.stream_owners.assign(stream, connection),
                None => {
                    self.egress.counts.datagrams_rejected += 1;
                    return false;
                }
            },
        };
        let connection = owner.connection;
        match protocol {
            Protocol::Stun | Protocol::Dtls => {
                let path = Route { via: Via::Tcp(stream), source: None, to: from };
                if self.handshake(now, connection, path, bytes) {
                    self.stream_owners.mark_authenticated(stream);
                }
            }
            Protocol::Rtp if owner.authenticated => self.rtp(now, connection, bytes),
            Protocol::Rtcp if owner.authenticated => self.rtcp(now, connection, bytes),
            Protocol::Rtp | Protocol::Rtcp => self.egress.counts.datagrams_rejected += 1,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_streams_of_a_connection_is_bounded_and_authenticated_ones_stay() {
        let mut stream_owners = StreamOwners::default();
        for id in 0..MAX_STREAMS as u64 {
            stream_owners.assign(StreamId::of(id), 7);
        }
        stream_owners.mark_authenticated(StreamId::of(0));
        stream_owners.assign(StreamId::of(9), 7);
        assert_eq!(stream_owners.take_unowned(), [StreamId::of(1)], "the oldest unauthenticated one");
        stream_owners.stream_ended(StreamId::of(2));
        stream_owners.connection_ended(7);
        assert_eq!(stream_owners.take_unowned(), [StreamId::of(0), StreamId::of(3), StreamId::of(9)]);
        assert!(stream_owners.by_stream.is_empty() && stream_owners.by_connection.is_empty());
    }
}
