//! Which rooms need a link with which peer.

use super::dial;
use super::established::lock;
use super::link_rooms::Need;
use super::runtime::LinkRuntime;
use super::table::State;
use crate::event::RoomKey;
use crate::peer_address::PeerAddress;
use std::sync::Arc;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::CloseRoom;
use systir_proto::cluster::v1::session_message::Body;

pub(crate) fn need(
    runtime: &Arc<LinkRuntime>,
    room: &str,
    address: PeerAddress,
    epoch: u64,
    policy_version: u64,
) {
    if address.id == *runtime.credentials.id() || runtime.cancel.is_cancelled() {
        return;
    }
    let id = address.id.clone();
    runtime.table.with_peer(&id, |peer| {
        let key: RoomKey = room.into();
        let need = Need { epoch, policy_version };
        peer.needs.insert(key.clone(), need);
        let moved = peer.address.replace(address.clone()).is_some_and(|before| before != address);
        match &peer.state {
            State::Up(link) => link.ask(&key, need),
            State::Idle => dial::begin(runtime, &id, peer, false),
            // It came back elsewhere: what was tried at the old address counts no more.
            State::Waiting(_) if moved => dial::begin(runtime, &id, peer, false),
            State::Dialling(_, attempt) if moved => attempt.cancel(),
            _ => {}
        }
    });
}

pub(crate) fn drop_room(runtime: &LinkRuntime, room: &str, id: &SpiffeId) {
    let mut peers = runtime.table.peers();
    let Some(peer) = peers.get_mut(id) else { return };
    peer.needs.remove(room);
    if let State::Up(link) = &peer.state {
        let mut rooms = lock(&link.rooms);
        rooms.close(room);
        link.put(Body::CloseRoom(CloseRoom { room: room.to_owned() }));
    }
}
