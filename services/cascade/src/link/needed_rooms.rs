//! The node's requests to open and close rooms on links.

use super::dial;
use super::established::lock;
use super::link_rooms::RoomVersion;
use super::runtime::LinkRuntime;
use super::table::LinkState;
use crate::event::LinkRoomKey;
use crate::peer_address::PeerAddress;
use std::sync::Arc;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::CloseRoom;
use systir_proto::cluster::v1::session_message::Body;

/// Requests a room on the link with a peer, and dials the peer if there is no link.
pub(crate) fn open_room(
    runtime: &Arc<LinkRuntime>,
    room: &str,
    address: PeerAddress,
    epoch: u64,
    policy_version: u64,
) {
    if address.id == *runtime.authenticator.me() || runtime.cancel.is_cancelled() {
        return;
    }
    let id = address.id.clone();
    // Not while the table is locked: the handler may ask whether a link is up. If the room may not be open now, the link
    // requests it later.
    let grant = runtime.handler.may_be_open(room).then(|| runtime.handler.grant(room));
    runtime.table.with_peer(&id, |peer| {
        let key: LinkRoomKey = room.into();
        let version = RoomVersion { epoch, policy_version };
        peer.needed_rooms.insert(key.clone(), version);
        let moved = peer.address.replace(address.clone()).is_some_and(|before| before != address);
        match &peer.state {
            LinkState::Up(link) => {
                if let Some(grant) = grant {
                    link.request_room(&key, version, grant);
                }
            }
            LinkState::Idle => dial::start(runtime, &id, peer, false),
            // The peer has a new address: end the backoff or dial that used the old one.
            LinkState::Waiting(_) if moved => dial::start(runtime, &id, peer, false),
            LinkState::Dialling(_, attempt) if moved => attempt.cancel(),
            _ => {}
        }
    });
}

/// Closes a room on the link with a peer, at both nodes.
pub(crate) fn close_room(runtime: &LinkRuntime, room: &str, id: &SpiffeId) {
    let mut peers = runtime.table.peers();
    let Some(peer) = peers.get_mut(id) else { return };
    peer.needed_rooms.remove(room);
    if let LinkState::Up(link) = &peer.state {
        let mut rooms = lock(&link.rooms);
        rooms.close(room);
        link.send(Body::CloseRoom(CloseRoom { room: room.to_owned() }));
    }
}
