//! The clients whose signalling this gateway relays to other media nodes, so that a drain can ask them to reconnect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use systir_assignment::RoomId;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
struct Clients {
    next: u64,
    by_id: BTreeMap<u64, (RoomId, CancellationToken)>,
}

/// The clients whose signalling this gateway relays.
#[derive(Debug, Default)]
pub(crate) struct RelayedClients(Mutex<Clients>);

/// One of them. When it is dropped, its signalling has ended.
#[derive(Debug)]
pub(crate) struct RelayedSignalling {
    id: u64,
    asked: CancellationToken,
    clients: Arc<RelayedClients>,
}

impl RelayedClients {
    // A poisoned lock is safe to use: each entry is written as a whole.
    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a client.
    pub(crate) fn add(self: &Arc<Self>, room: RoomId) -> RelayedSignalling {
        let (mut clients, asked) = (self.lock(), CancellationToken::new());
        let id = clients.next;
        clients.next += 1;
        clients.by_id.insert(id, (room, asked.clone()));
        drop(clients);
        RelayedSignalling { id, asked, clients: self.clone() }
    }

    /// The clients, each with its room; later ones have greater numbers.
    pub(super) fn all(&self) -> Vec<(u64, RoomId)> {
        self.lock().by_id.iter().map(|(id, (room, _))| (*id, room.clone())).collect()
    }

    /// Has a client asked to reconnect.
    pub(super) fn ask(&self, id: u64) {
        if let Some((_, asked)) = self.lock().by_id.get(&id) {
            asked.cancel();
        }
    }
}

impl RelayedSignalling {
    /// Returns when the client must be asked to reconnect.
    pub(crate) async fn asked(&self) {
        self.asked.cancelled().await;
    }
}

impl Drop for RelayedSignalling {
    fn drop(&mut self) {
        self.clients.lock().by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_is_known_until_its_signalling_ends() {
        let clients = Arc::new(RelayedClients::default());
        let room = |tag| RoomId::new("ku.dk", tag);
        let (first, second) = (clients.add(room("a")), clients.add(room("b")));
        assert_eq!(clients.all(), [(0, room("a")), (1, room("b"))]);
        clients.ask(1);
        second.asked().await;
        assert!(!first.asked.is_cancelled());
        drop(second);
        clients.ask(1);
        assert_eq!(clients.all(), [(0, room("a"))]);
        assert_eq!(clients.add(room("c")).id, 2, "a later client has a greater number");
    }
}
