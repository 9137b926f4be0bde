//! Which rooms are open on a link, without I/O. A node asks its own policy before it requests a room, and again on the
//! identity that the other node proved when that one opens it; the room is open once the policies of both nodes allow it. Either node closes it
//! immediately. Nothing of a room is sent or delivered while it is not open.

use super::text_limits::{is_key, is_layer, is_short};
use crate::event::{LinkRoomKey, RoomBody};
use crate::flow::{FlowId, Parity};
use crate::open_flows::LinkFlows;
use rustc_hash::FxHashMap;
use systir_proto::cluster::v1::{Subscribe, Unsubscribe};

/// Rooms on one link, at most.
const MAX_ROOMS: usize = 1 << 14;

/// The rooms of one link.
#[derive(Debug)]
pub(crate) struct LinkRooms {
    rooms: FxHashMap<LinkRoomKey, RoomEntry>,
    last_decision: u64,
    /// Of the flows that this node chooses.
    own: Parity,
    /// The flows of all open rooms.
    flows: LinkFlows,
}

/// What a request for a room is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomVersion {
    pub(crate) epoch: u64,
    pub(crate) policy_version: u64,
}

#[derive(Debug, Default)]
struct RoomEntry {
    /// The last request to the peer.
    requested: Option<RoomVersion>,
    /// Number of the pending decision of this node's policy.
    decision: Option<u64>,
    open: bool,
    /// The peer's subscriptions.
    subscribed: Subscriptions,
    /// This node's subscriptions.
    own: Subscriptions,
}

/// The layers of tracks that a node subscribed to, and the flows for their packets.
type Subscriptions = FxHashMap<(String, u32), FlowId>;

/// How a room changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomChange {
    /// It opened.
    Opened,
    /// It was open or requested, and no longer is.
    Closed,
    /// It did not change.
    Unchanged,
    /// The peer opened a room that this node did not request; the peer must close it.
    NotRequested,
}

impl LinkRooms {
    /// No rooms. `own` is the parity of the flows that this node chooses.
    pub(crate) fn new(own: Parity, flows: LinkFlows) -> Self {
        Self { rooms: FxHashMap::default(), last_decision: 0, own, flows }
    }

    /// Has this node not requested the room in this version yet?
    pub(crate) fn must_request(&self, key: &str, version: RoomVersion) -> bool {
        self.rooms.get(key).is_none_or(|room| room.requested != Some(version))
    }

    /// This node requests the room. True when the peer must be asked (again).
    pub(crate) fn request(&mut self, key: &LinkRoomKey, version: RoomVersion) -> bool {
        let room = self.rooms.entry(key.clone()).or_default();
        room.requested.replace(version) != Some(version)
    }

    /// Has this node requested the room?
    pub(crate) fn is_requested(&self, key: &str) -> bool {
        self.rooms.get(key).is_some_and(|room| room.requested.is_some())
    }

    /// The peer allowed a request of this node.
    pub(crate) fn peer_opened(&mut self, key: &str) -> RoomChange {
        match self.rooms.get_mut(key) {
            Some(room) if room.requested.is_some() => {
                if std::mem::replace(&mut room.open, true) {
                    RoomChange::Unchanged
                } else {
                    RoomChange::Opened
                }
            }
            _ => RoomChange::NotRequested,
        }
    }

    /// The room was refused, or closed by either node. A pending decision about it becomes void.
    pub(crate) fn close(&mut self, key: &str) -> RoomChange {
        let Some(room) = self.rooms.remove(key) else { return RoomChange::Unchanged };
        self.flows.sent.remove(room.subscribed.into_values());
        self.flows.received.remove(room.own.into_values());
        if room.open || room.requested.is_some() { RoomChange::Closed } else { RoomChange::Unchanged }
    }

    /// The link has ended.
    pub(crate) fn close_all(&mut self) {
        for room in std::mem::take(&mut self.rooms).into_values() {
            self.flows.sent.remove(room.subscribed.into_values());
            self.flows.received.remove(room.own.into_values());
        }
    }

    /// A message of the peer: the shared key of its room. None when the message does not count, or the room is not open.
    pub(crate) fn receive(&mut self, key: &str, body: Option<&RoomBody>) -> Option<LinkRoomKey> {
        let counts = match body {
            Some(body) if !is_short(body) => false,
            Some(RoomBody::Subscribe(subscribe)) => self.subscribe(key, subscribe),
            Some(RoomBody::Unsubscribe(unsubscribe)) => {
                self.unsubscribe(key, unsubscribe);
                true
            }
            _ => true,
        };
        if counts { self.open_key(key) } else { None }
    }

    /// The peer subscribes to a layer of a track of an open room. False when there can be no such layer, the peer cannot have
    /// chosen its flow, or it is one of another track: the message does not count.
    pub(crate) fn subscribe(&mut self, key: &str, subscribe: &Subscribe) -> bool {
        // Kept before it is known whether the track exists.
        if !is_layer(&subscribe.track_sid, subscribe.layer) {
            return false;
        }
        let Some(room) = self.rooms.get_mut(key).filter(|room| room.open) else { return false };
        let flow = FlowId::from_raw(subscribe.flow).filter(|flow| flow.parity() != self.own);
        let Some(flow) = flow else { return false };
        let track = (subscribe.track_sid.clone(), subscribe.layer);
        if room.subscribed.get(&track) == Some(&flow) {
            return true;
        }
        if !self.flows.sent.insert(flow) {
            return false;
        }
        self.flows.sent.remove(room.subscribed.insert(track, flow));
        true
    }

    /// This node subscribes to a layer of a track of an open room: media of its flow is expected from now on.
    pub(crate) fn subscribe_self(&mut self, key: &str, subscribe: &Subscribe) {
        let Some(room) = self.rooms.get_mut(key).filter(|room| room.open) else { return };
        let flow = FlowId::from_raw(subscribe.flow).filter(|flow| flow.parity() == self.own);
        let Some(flow) = flow.filter(|flow| self.flows.received.insert(*flow)) else { return };
        let track = (subscribe.track_sid.clone(), subscribe.layer);
        self.flows.received.remove(room.own.insert(track, flow));
    }

    /// This node ends a subscription.
    pub(crate) fn unsubscribe_self(&mut self, key: &str, unsubscribe: &Unsubscribe) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        self.flows.received.remove(room.own.remove(&(unsubscribe.track_sid.clone(), unsubscribe.layer)));
    }

    /// The peer ends a subscription.
    pub(crate) fn unsubscribe(&mut self, key: &str, unsubscribe: &Unsubscribe) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        self.flows.sent.remove(room.subscribed.remove(&(unsubscribe.track_sid.clone(), unsubscribe.layer)));
    }

    /// The peer requests the room: the number of the decision to make. None when the key is invalid or
    /// there are too many rooms.
    pub(crate) fn begin_decision(&mut self, key: &str) -> Option<(LinkRoomKey, u64)> {
        if !is_key(key) {
            return None;
        }
        if self.rooms.len() >= MAX_ROOMS && !self.rooms.contains_key(key) {
            return None;
        }
        self.last_decision += 1;
        let key: LinkRoomKey = key.into();
        let room = self.rooms.entry(key.clone()).or_default();
        room.decision = Some(self.last_decision);
        Some((key, self.last_decision))
    }

    /// This node's policy allows the room. None when the decision is void: the room was closed or
    /// requested again since.
    pub(crate) fn allow(&mut self, key: &str, decision: u64) -> Option<RoomChange> {
        let room = self.rooms.get_mut(key).filter(|room| room.decision == Some(decision))?;
        room.decision = None;
        Some(if std::mem::replace(&mut room.open, true) { RoomChange::Unchanged } else { RoomChange::Opened })
    }

    /// Is this the pending decision about the room?
    pub(crate) fn is_current(&self, key: &str, decision: u64) -> bool {
        self.rooms.get(key).is_some_and(|room| room.decision == Some(decision))
    }

    /// Is the room open?
    pub(crate) fn is_open(&self, key: &str) -> bool {
        self.rooms.get(key).is_some_and(|room| room.open)
    }

    /// The shared key of an open room.
    pub(crate) fn open_key(&self, key: &str) -> Option<LinkRoomKey> {
        self.rooms.get_key_value(key).filter(|(_, room)| room.open).map(|(key, _)| key.clone())
    }

    /// The open rooms.
    pub(crate) fn open(&self) -> Vec<LinkRoomKey> {
        self.rooms.iter().filter(|(_, room)| room.open).map(|(key, _)| key.clone()).collect()
    }

    /// Is there no room, neither open nor requested by either node?
    pub(crate) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open_flows::KnownOpenFlows;
    use proptest::prelude::*;

    fn key() -> LinkRoomKey {
        "ku.dk/lecture".into()
    }

    fn rooms() -> LinkRooms {
        LinkRooms::new(Parity::Greater, LinkFlows::default())
    }

    fn epoch(epoch: u64) -> RoomVersion {
        RoomVersion { epoch, policy_version: 1 }
    }

    #[test]
    fn a_room_opens_when_the_peer_allows_it() {
        let mut rooms = rooms();
        assert!(rooms.request(&key(), epoch(1)));
        assert!(!rooms.request(&key(), epoch(1)), "the same request is not repeated");
        assert!(!rooms.is_open(&key()));
        assert_eq!(rooms.peer_opened(&key()), RoomChange::Opened);
        assert_eq!(rooms.peer_opened(&key()), RoomChange::Unchanged);
        assert!(rooms.is_open(&key()));
        assert!(rooms.request(&key(), epoch(2)), "a new epoch is a new request");
    }

    #[test]
    fn a_peer_cannot_open_a_room_that_was_not_requested() {
        let mut rooms = rooms();
        assert_eq!(rooms.peer_opened(&key()), RoomChange::NotRequested);
        assert!(!rooms.is_open(&key()));
    }

    #[test]
    fn a_decision_is_void_after_the_room_was_closed() {
        let mut rooms = rooms();
        let (_, decision) = rooms.begin_decision(&key()).unwrap();
        assert_eq!(rooms.close(&key()), RoomChange::Unchanged);
        assert_eq!(rooms.allow(&key(), decision), None);
        let (_, newer) = rooms.begin_decision(&key()).unwrap();
        assert_eq!(rooms.allow(&key(), decision), None, "an older decision does not count");
        assert_eq!(rooms.allow(&key(), newer), Some(RoomChange::Opened));
    }

    #[test]
    fn a_peer_cannot_fill_the_table() {
        let mut rooms = rooms();
        for number in 0..MAX_ROOMS {
            assert!(rooms.begin_decision(&number.to_string()).is_some());
        }
        assert!(rooms.begin_decision("one more").is_none());
        assert!(rooms.begin_decision(&"x".repeat(10_000)).is_none());
        assert!(rooms.begin_decision("").is_none());
    }

    #[test]
    fn a_flow_is_open_with_its_room_and_belongs_to_one_track() {
        let flows = LinkFlows::default();
        let mut known = KnownOpenFlows::of(flows.sent.clone());
        let mut rooms = LinkRooms::new(Parity::Greater, flows);
        let mut is_open = |number: u32| {
            known.refresh();
            known.contains(FlowId::from_raw(number << 5).unwrap())
        };
        let subscribe =
            |track: &str, number: u32| Subscribe { track_sid: track.to_owned(), layer: 0, flow: number << 5 };
        assert!(!rooms.subscribe(&key(), &subscribe("TR_a", 1)), "the room is not open");
        for room in [key(), "ku.dk/seminar".into()] {
            rooms.request(&room, epoch(1));
            rooms.peer_opened(&room);
        }
        assert!(rooms.subscribe(&key(), &subscribe("TR_a", 1)) && is_open(1));
        assert!(rooms.subscribe(&key(), &subscribe("TR_a", 1)), "a repeated message changes nothing");
        // Otherwise the room's packets would be sent until the other room is closed.
        assert!(!rooms.subscribe("ku.dk/seminar", &subscribe("TR_b", 1)), "a flow of another room");
        assert!(!rooms.subscribe(&key(), &subscribe("TR_c", 0)), "a reserved flow");
        let own = Subscribe { flow: 7 << 5 | 1, ..subscribe("TR_c", 7) };
        assert!(!rooms.subscribe(&key(), &own), "a flow that this node chooses");
        assert!(rooms.subscribe(&key(), &subscribe("TR_a", 2)) && is_open(2) && !is_open(1));
        assert!(rooms.subscribe(&key(), &subscribe("TR_c", 3)) && is_open(3));
        rooms.unsubscribe(&key(), &Unsubscribe { track_sid: "TR_a".to_owned(), layer: 0 });
        assert!(!is_open(2) && is_open(3));
        rooms.close(&key());
        assert!(!is_open(3));
    }

    #[test]
    fn a_subscription_to_what_can_be_no_layer_of_a_track_is_not_kept() {
        let mut rooms = rooms();
        rooms.request(&key(), epoch(1));
        rooms.peer_opened(&key());
        let long = "TR_".repeat(1_000);
        for (track, layer) in [(&*long, 0), ("TR_a", 3), ("TR_a", u32::MAX)] {
            let subscribe = Subscribe { track_sid: track.to_owned(), layer, flow: 1 << 5 };
            assert!(!rooms.subscribe(&key(), &subscribe), "{layer}");
        }
        assert!(rooms.rooms[&key()].subscribed.is_empty());
        let subscribe = Subscribe { track_sid: "TR_a".to_owned(), layer: 2, flow: 1 << 5 };
        assert!(rooms.subscribe(&key(), &subscribe), "the flow is free");
    }

    #[test]
    fn media_is_expected_on_the_flows_that_this_node_subscribed_to_as_long_as_their_rooms_are_open() {
        let flows = LinkFlows::default();
        let mut known = KnownOpenFlows::of(flows.received.clone());
        let mut is_expected = |number: u32| {
            known.refresh();
            known.contains(FlowId::from_raw(number << 5 | 1).unwrap())
        };
        let mut rooms = LinkRooms::new(Parity::Greater, flows);
        let subscribe = |track: &str, number: u32| Subscribe {
            track_sid: track.to_owned(),
            layer: 0,
            flow: number << 5 | 1,
        };
        rooms.subscribe_self(&key(), &subscribe("TR_a", 1));
        assert!(!is_expected(1), "the room is not open");
        rooms.request(&key(), epoch(1));
        rooms.peer_opened(&key());
        for (track, number) in [("TR_a", 1), ("TR_b", 2), ("TR_c", 3), ("TR_a", 1)] {
            rooms.subscribe_self(&key(), &subscribe(track, number));
        }
        assert!(is_expected(1) && is_expected(2) && is_expected(3) && !is_expected(4));
        rooms.subscribe_self(&key(), &subscribe("TR_b", 4));
        rooms.unsubscribe_self(&key(), &Unsubscribe { track_sid: "TR_c".to_owned(), layer: 0 });
        assert!(!is_expected(2) && is_expected(4) && !is_expected(3));
        rooms.close(&key());
        assert!(!is_expected(1) && !is_expected(4));
    }

    proptest! {
        /// In every order of messages, a room is open only after the newest request of one node was
        /// allowed, and never after a close.
        #[test]
        fn a_room_opens_only_when_allowed(steps in proptest::collection::vec(0u8..6, 0..60)) {
            let mut rooms = rooms();
            let (mut requested, mut decisions, mut open) = (false, Vec::new(), false);
            let mut current = None;
            for step in steps {
                match step {
                    0 => { rooms.request(&key(), epoch(1)); requested = true; }
                    1 => { rooms.peer_opened(&key()); open |= requested; }
                    2 => { rooms.close(&key()); requested = false; open = false; current = None; }
                    3 => {
                        let (_, decision) = rooms.begin_decision(&key()).unwrap();
                        decisions.push(decision);
                        current = Some(decision);
                    }
                    4 => {
                        if let Some(decision) = decisions.last().copied() {
                            let valid = current == Some(decision);
                            prop_assert_eq!(rooms.allow(&key(), decision).is_some(), valid);
                            open |= valid;
                            if valid { current = None; }
                        }
                    }
                    _ => {
                        if let Some(decision) = decisions.first().copied() {
                            let valid = current == Some(decision);
                            prop_assert_eq!(rooms.allow(&key(), decision).is_some(), valid);
                            open |= valid;
                            if valid { current = None; }
                        }
                    }
                }
                prop_assert_eq!(rooms.is_open(&key()), open);
            }
        }
    }
}
