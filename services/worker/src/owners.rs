//! Whose TCP stream is it? A stream belongs to the connection that its first check names, for good;
//! it counts as proved once a check on it was authentic.

use std::net::SocketAddr;
use std::time::Instant;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use systir_transport::Class;

use super::demux::{binding_request_ufrag, protocol_of};
use super::engine::Engine;
use super::outgoing::{Route, Via};
use super::streams::StreamId;

/// Streams that one connection may have at a time.
const MAX_STREAMS: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Owned {
    connection: usize,
    proved: bool,
}

/// The owners of all streams. Connections are named by their slab key.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_stream: FxHashMap<StreamId, Owned>,
    by_connection: FxHashMap<usize, SmallVec<[StreamId; MAX_STREAMS]>>,
    /// Streams that have no owner any more.
    orphans: Vec<StreamId>,
}

impl Owners {
    /// Gives a stream to a connection. The oldest gives way when there are too many, one that
    /// nobody has proved before one that is in use.
    fn claim(&mut self, stream: StreamId, connection: usize) -> Owned {
        let streams = self.by_connection.entry(connection).or_default();
        if streams.len() == MAX_STREAMS {
            let unproved = |id: &StreamId| self.by_stream.get(id).is_none_or(|owned| !owned.proved);
            let victim = streams.remove(streams.iter().position(unproved).unwrap_or(0));
            self.by_stream.remove(&victim);
            self.orphans.push(victim);
        }
        streams.push(stream);
        let owned = Owned { connection, proved: false };
        self.by_stream.insert(stream, owned);
        owned
    }

    /// A check on it was authentic.
    pub(super) fn prove(&mut self, stream: StreamId) {
        if let Some(owned) = self.by_stream.get_mut(&stream) {
            owned.proved = true;
        }
    }

    pub(super) fn is_proved(&self, stream: StreamId) -> bool {
        self.by_stream.get(&stream).is_some_and(|owned| owned.proved)
    }

    /// The stream ended.
    pub(super) fn stream_ended(&mut self, stream: StreamId) {
        let Some(owned) = self.by_stream.remove(&stream) else { return };
        if let Some(streams) = self.by_connection.get_mut(&owned.connection) {
            streams.retain(|id| *id != stream);
            if streams.is_empty() {
                self.by_connection.remove(&owned.connection);
            }
        }
    }

    /// The connection ended, and its streams with it.
    pub(super) fn connection_ended(&mut self, connection: usize) {
        for stream in self.by_connection.remove(&connection).unwrap_or_default() {
            self.by_stream.remove(&stream);
            self.orphans.push(stream);
        }
    }

    /// Streams to close, now that what was to be said on them is sent.
    pub(super) fn take_orphans(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.orphans)
    }
}

impl Engine {
    /// A frame of a TCP stream. False when the stream is a stranger's, who names nobody here.
    pub(super) fn frame(
        &mut self,
        now: Instant,
        stream: StreamId,
        from: SocketAddr,
        bytes: &mut [u8],
    ) -> bool {
        self.outside.counts.datagrams_in += 1;
        self.outside.counts.bytes_in += bytes.len() as u64;
        let Some(protocol) = protocol_of(bytes) else {
            self.outside.counts.junk += 1;
            return true;
        };
        let named = || binding_request_ufrag(bytes).and_then(|ufrag| self.demux.named(ufrag));
        let owned = match self.owners.by_stream.get(&stream).copied() {
            Some(owned) if protocol == Class::Stun && named().is_some_and(|one| one != owned.connection) => {
                // One stream, one peer connection.
                self.outside.counts.junk += 1;
                return true;
            }
            Some(owned) => owned,
            None => match named() {
                Some(connection) => self.owners.claim(stream, connection),
                None => {
                    self.outside.counts.junk += 1;
                    return false;
                }
            },
        };
        let connection = owned.connection;
        match protocol {
            Class::Stun | Class::Dtls => {
                let path = Route { via: Via::Tcp(stream), source: None, to: from };
                if self.handshake(now, connection, path, bytes) {
                    self.owners.prove(stream);
                }
            }
            Class::Rtp if owned.proved => self.rtp(now, connection, bytes),
            Class::Rtcp if owned.proved => self.rtcp(now, connection, bytes),
            Class::Rtp | Class::Rtcp => self.outside.counts.junk += 1,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_few_streams_and_keeps_those_in_use() {
        let mut owners = Owners::default();
        for id in 0..MAX_STREAMS as u64 {
            owners.claim(StreamId::of(id), 7);
        }
        owners.prove(StreamId::of(0));
        owners.claim(StreamId::of(9), 7);
        assert_eq!(owners.take_orphans(), [StreamId::of(1)], "the oldest that proved nothing");
        owners.stream_ended(StreamId::of(2));
        owners.connection_ended(7);
        assert_eq!(owners.take_orphans(), [StreamId::of(0), StreamId::of(3), StreamId::of(9)]);
        assert!(owners.by_stream.is_empty() && owners.by_connection.is_empty());
    }
}
