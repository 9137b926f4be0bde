//! The gRPC connections of this node, dialled and accepted.

use super::connection::{ConnectionSecret, NodeConnection};
use crate::event::DownReason;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use systir_identity::{HandshakeRole, ProvenIdentity, SpiffeId};

/// Connections that this node accepts from one peer, at most. An honest peer has few: one for calls, one for the
/// link, and for a moment those that replace them.
pub(crate) const MAX_ACCEPTED: usize = 8;

/// The gRPC connections of this node.
#[derive(Default)]
pub(crate) struct OpenConnections {
    open: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    connections: HashMap<u64, Arc<NodeConnection>>,
}

impl OpenConnections {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection. None when the peer has too many.
    pub(super) fn add(
        self: &Arc<Self>,
        role: HandshakeRole,
        secret: ConnectionSecret,
        peer: ProvenIdentity,
        until: SystemTime,
    ) -> Option<ConnectionEntry> {
        let mut table = self.table();
        if role == HandshakeRole::Listener && table.accepted_from(peer.id()) >= MAX_ACCEPTED {
            return None;
        }
        table.last += 1;
        let number = table.last;
        let connection = Arc::new(NodeConnection::new(number, role, secret, peer, until));
        table.connections.insert(number, connection.clone());
        Some(ConnectionEntry { open: self.clone(), connection })
    }

    /// Ends all connections whose peer is not accepted any more.
    pub(crate) fn end_unless(&self, accepts: impl Fn(&ProvenIdentity) -> bool) {
        let connections: Vec<_> = self.table().connections.values().cloned().collect();
        for connection in connections.iter().filter(|connection| !accepts(&connection.peer())) {
            connection.end(DownReason::Unlisted);
        }
    }

    /// For each peer, when the first of its connections ends unless certificates are renewed.
    pub(crate) fn ends(&self) -> BTreeMap<SpiffeId, SystemTime> {
        let mut ends = BTreeMap::new();
        for connection in self.table().connections.values() {
            let (peer, until) = (connection.peer(), connection.until());
            ends.entry(peer.id().clone()).and_modify(|end| *end = until.min(*end)).or_insert(until);
        }
        ends
    }

    /// A peer asks on the connection `by` to move an older connection of its own to the certificate and the node key
    /// that it proved on this one. False when it has none with that secret.
    pub(crate) fn renew(&self, by: &NodeConnection, secret: &[u8]) -> bool {
        let peer = by.peer();
        let older = self.table().connections.values().find(|older| older.secret == secret).cloned();
        let own = |older: &Arc<NodeConnection>| {
            older.role == HandshakeRole::Listener && older.peer().id() == peer.id()
        };
        let Some(older) = older.filter(own) else { return false };
        older.renew(peer, by.until());
        true
    }
}

impl Table {
    fn accepted_from(&self, peer: &SpiffeId) -> usize {
        let accepted =
            self.connections.values().filter(|connection| connection.role == HandshakeRole::Listener);
        accepted.filter(|connection| connection.peer().id() == peer).count()
    }
}

/// Keeps a connection in the table; dropping it removes the connection.
pub(super) struct ConnectionEntry {
    open: Arc<OpenConnections>,
    connection: Arc<NodeConnection>,
}

impl ConnectionEntry {
    pub(super) fn connection(&self) -> &Arc<NodeConnection> {
        &self.connection
    }
}

impl Drop for ConnectionEntry {
    fn drop(&mut self) {
        self.open.table().connections.remove(&self.connection.number);
        self.connection.closed.cancel();
    }
}
