//! The link event queue: link events that wait for one room. One task reads the events of all links and must
//! never wait for a room, so each room has a bounded queue, in order. When a node sends more than the room
//! handles, lossy messages are dropped first. Then the queue overflows for the node that has most in it, whoever sent last: the
//! room is closed to it and opened again, so that both ends exchange snapshots. Events of other nodes are not affected.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message as _;
use systir_proto::cluster::v1::room_message::Body;

/// Most waiting messages of nodes.
const MAX_MESSAGES: usize = 4096;
/// Most bytes of waiting messages.
const MAX_BYTES: usize = 32 << 20;
/// Most waiting events that are not messages. A node that opens and closes too often overflows the queue.
const MAX_LINK_EVENTS: usize = 256;
/// What each entry of a message counts in addition to its bytes: an empty one takes memory too.
const ENTRY_BYTES: usize = 64;

/// An event of one room on a link.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomLinkEvent {
    /// The room opened on the link to a node, at both ends.
    Opened {
        /// The node's name.
        node: String,
        /// The link's number.
        link: u32,
    },
    /// The other node refused to open the room, or closed it.
    Refused {
        /// The node's name.
        node: String,
        /// The reason.
        reason: String,
        /// Did the other node refuse or close it, and not this one?
        by_peer: bool,
    },
    /// The link to a node is down.
    Down {
        /// The node's name.
        node: String,
    },
    /// A message about the room from another node.
    Message {
        /// The node's name, proved by TLS.
        node: String,
        /// The message.
        body: Body,
    },
    /// The node sent more than the room handled: the room must be reopened to it.
    Overflowed {
        /// The node's name.
        node: String,
    },
}

impl RoomLinkEvent {
    fn node(&self) -> &str {
        match self {
            Self::Opened { node, .. }
            | Self::Refused { node, .. }
            | Self::Down { node }
            | Self::Message { node, .. }
            | Self::Overflowed { node } => node,
        }
    }
}

/// What became of an event that was pushed to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It is in the queue.
    Kept,
    /// It may be lost, and was dropped.
    Dropped,
    /// The room has ended.
    Ended,
}

/// An event in the queue.
#[derive(Debug)]
struct Waiting {
    /// What a message counts.
    bytes: usize,
    event: RoomLinkEvent,
}

impl Waiting {
    fn is_message(&self) -> bool {
        matches!(self.event, RoomLinkEvent::Message { .. })
    }
}

/// The queue of one room.
#[derive(Debug, Default)]
pub struct LinkEventQueue {
    queue: VecDeque<Waiting>,
    messages: usize,
    bytes: usize,
    /// Nodes whose messages are dropped until the room is reopened to them.
    overflowed: BTreeSet<String>,
    ended: bool,
}

impl LinkEventQueue {
    /// Queues an event.
    pub fn push(&mut self, event: RoomLinkEvent) -> Queued {
        if self.ended {
            return Queued::Ended;
        }
        let RoomLinkEvent::Message { node, body } = &event else {
            if self.queue.len() - self.messages >= MAX_LINK_EVENTS {
                let most = self.node_with_most(event.node(), 1, |event| usize::from(!event.is_message()));
                let pushing = most == event.node();
                self.overflow(most);
                if pushing {
                    return Queued::Kept;
                }
            }
            if matches!(event, RoomLinkEvent::Opened { .. } | RoomLinkEvent::Down { .. }) {
                self.overflowed.remove(event.node());
            }
            self.queue.push_back(Waiting { bytes: 0, event });
            return Queued::Kept;
        };
        if self.overflowed.contains(node) {
            return Queued::Dropped;
        }
        let bytes = size(body);
        let share = if may_be_lost(body) { 2 } else { 1 };
        if self.messages < MAX_MESSAGES / share && self.bytes + bytes <= MAX_BYTES / share {
            self.messages += 1;
            self.bytes += bytes;
            self.queue.push_back(Waiting { bytes, event });
            return Queued::Kept;
        }
        if may_be_lost(body) {
            return Queued::Dropped;
        }
        let most = if self.messages < MAX_MESSAGES {
            self.node_with_most(node, bytes, |event| event.bytes)
        } else {
            self.node_with_most(node, 1, |event| usize::from(event.is_message()))
        };
        let pushing = most == *node;
        self.overflow(most);
        // Each overflow removes a node's messages, so this ends.
        if pushing { Queued::Kept } else { self.push(event) }
    }

    /// The node that has most in the queue, with so much `more` of the one that pushes.
    fn node_with_most(&self, pushing: &str, more: usize, of: impl Fn(&Waiting) -> usize) -> String {
        let mut by_node = BTreeMap::from([(pushing, more)]);
        for waiting in &self.queue {
            *by_node.entry(waiting.event.node()).or_default() += of(waiting);
        }
        let most = by_node.into_iter().max_by_key(|(node, sum)| (*sum, *node == pushing));
        most.map_or(pushing, |(node, _)| node).to_owned()
    }

    /// Removes the node's waiting events: the room will be reopened to it.
    fn overflow(&mut self, node: String) {
        self.queue.retain(|waiting| waiting.event.node() != node);
        self.messages = self.queue.iter().filter(|waiting| waiting.is_message()).count();
        self.bytes = self.queue.iter().map(|waiting| waiting.bytes).sum();
        self.queue.push_back(Waiting { bytes: 0, event: RoomLinkEvent::Overflowed { node: node.clone() } });
        self.overflowed.insert(node);
    }

    /// The next event, in order.
    pub fn pop(&mut self) -> Option<RoomLinkEvent> {
        let waiting = self.queue.pop_front()?;
        if waiting.is_message() {
            self.messages -= 1;
            self.bytes -= waiting.bytes;
        }
        Some(waiting.event)
    }

    /// Closes the queue when the room has ended. Returns the unread events.
    pub fn close(&mut self) -> Vec<RoomLinkEvent> {
        self.ended = true;
        std::mem::take(&mut self.queue).into_iter().map(|waiting| waiting.event).collect()
    }
}

/// Size of a message in bytes, for limits.
pub(crate) fn size(body: &Body) -> usize {
    match body {
        Body::ReliableData(data) => {
            data.sender_sid.len() + data.packet.len() + texts(&data.destination_identities)
        }
        Body::LossyData(data) => {
            data.sender_sid.len() + data.packet.len() + texts(&data.destination_identities)
        }
        Body::StateUpdate(update) => update.updates.iter().map(|update| ENTRY_BYTES + update.len()).sum(),
        Body::Speakers(told) => ENTRY_BYTES * told.speakers.len() + told.encoded_len(),
        Body::Qualities(told) => ENTRY_BYTES * told.qualities.len() + told.encoded_len(),
        Body::Links(told) => ENTRY_BYTES * told.links.len() + told.encoded_len(),
        Body::Assignment(told) => ENTRY_BYTES * told.spill.len() + told.encoded_len(),
        Body::Ticket(note) => note.len(),
        Body::Subscribe(wanted) => wanted.encoded_len(),
        Body::Unsubscribe(wanted) => wanted.encoded_len(),
        Body::KeyFrame(wanted) => wanted.encoded_len(),
        Body::SlowData(told) => told.encoded_len(),
    }
}

fn texts(entries: &[String]) -> usize {
    entries.iter().map(|text| ENTRY_BYTES + text.len()).sum()
}

/// May the message be lost? Lossy data may, and key frame requests are repeated. Speaker changes are sent
/// only once, so they may not.
pub(crate) fn may_be_lost(body: &Body) -> bool {
    matches!(body, Body::LossyData(_) | Body::KeyFrame(_))
}

#[cfg(test)]
mod tests {
    use systir_proto::cluster::v1::{LossyData, ReliableData, Unsubscribe};

    use super::*;

    fn message(node: &str, body: Body) -> RoomLinkEvent {
        RoomLinkEvent::Message { node: node.to_owned(), body }
    }

    fn request(node: &str) -> RoomLinkEvent {
        message(node, Body::Unsubscribe(Unsubscribe::default()))
    }

    fn opened(node: &str, link: u32) -> RoomLinkEvent {
        RoomLinkEvent::Opened { node: node.to_owned(), link }
    }

    fn all(queue: &mut LinkEventQueue) -> Vec<RoomLinkEvent> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn empty_updates_count_and_a_message_of_very_many_overflows_the_queue_for_its_node_only() {
        let mut queue = LinkEventQueue::default();
        let empty = |count| {
            let updates = vec![bytes::Bytes::new(); count];
            Body::StateUpdate(systir_proto::cluster::v1::StateUpdate { updates, snapshot: false })
        };
        assert_eq!(queue.push(request("osl-1")), Queued::Kept);
        queue.push(message("sto-1", empty(1_000)));
        queue.push(message("sto-1", empty(8_000_000)));
        let overflowed = RoomLinkEvent::Overflowed { node: "sto-1".to_owned() };
        assert_eq!(all(&mut queue), [request("osl-1"), overflowed]);
        for _ in 0..100_000 {
            queue.push(message("osl-1", empty(1_000)));
        }
        assert!(queue.bytes <= MAX_BYTES && queue.queue.len() <= MAX_BYTES / (1_000 * ENTRY_BYTES));
    }

    #[test]
    fn all_entries_of_a_message_count_and_so_do_texts_beside_its_packet() {
        use systir_proto::cluster::v1::{Qualities, RoomAssignment, RoomLinks, Speakers};
        fn many<T: Clone + Default>() -> Vec<T> {
            vec![T::default(); 10_000]
        }
        let long = "x".repeat(1 << 20);
        let bodies = [
            Body::ReliableData(ReliableData { destination_identities: many(), ..Default::default() }),
            Body::LossyData(LossyData { destination_identities: many(), ..Default::default() }),
            Body::Speakers(Speakers { speakers: many() }),
            Body::Qualities(Qualities { qualities: many() }),
            Body::Links(RoomLinks { links: many() }),
            Body::Assignment(RoomAssignment { spill: many(), ..Default::default() }),
            Body::ReliableData(ReliableData { sender_sid: long.clone(), ..Default::default() }),
            Body::LossyData(LossyData { destination_identities: vec![long], ..Default::default() }),
        ];
        for body in bodies {
            let mut queue = LinkEventQueue::default();
            let mut most = 0;
            for _ in 0..MAX_MESSAGES {
                queue.push(message("sto-1", body.clone()));
                most = most.max(queue.messages);
            }
            assert!(most <= MAX_BYTES / (10_000 * 24), "{most} messages in the queue");
        }
    }

    #[test]
    fn events_are_read_in_order() {
        let mut queue = LinkEventQueue::default();
        let events: Vec<RoomLinkEvent> = (0..100).map(|link| opened("sto-1", link)).collect();
        for event in &events {
            assert_eq!(queue.push(event.clone()), Queued::Kept);
        }
        assert_eq!(all(&mut queue), events);
    }

    #[test]
    fn an_overflow_affects_only_the_node_that_caused_it() {
        let mut queue = LinkEventQueue::default();
        queue.push(opened("sto-1", 1));
        queue.push(request("osl-1"));
        for _ in 0..MAX_MESSAGES - 1 {
            assert_eq!(queue.push(request("sto-1")), Queued::Kept);
        }
        assert_eq!(queue.push(message("sto-1", Body::LossyData(LossyData::default()))), Queued::Dropped);
        assert_eq!(queue.push(request("sto-1")), Queued::Kept);
        assert_eq!(queue.push(request("sto-1")), Queued::Dropped, "kept before the room was reopened");
        assert_eq!(queue.push(request("osl-1")), Queued::Kept, "another node is affected");
        queue.push(opened("sto-1", 2));
        assert_eq!(queue.push(request("sto-1")), Queued::Kept);
        let overflowed = RoomLinkEvent::Overflowed { node: "sto-1".to_owned() };
        let read = [request("osl-1"), overflowed, request("osl-1"), opened("sto-1", 2), request("sto-1")];
        assert_eq!(all(&mut queue), read);
    }

    #[test]
    fn a_full_queue_overflows_for_the_node_that_has_most_in_it_whoever_sends_next() {
        fn large(node: &str) -> RoomLinkEvent {
            let packet = bytes::Bytes::from(vec![0; MAX_BYTES / 4]);
            message(node, Body::ReliableData(ReliableData { packet, ..Default::default() }))
        }
        fn opens(node: &str) -> RoomLinkEvent {
            opened(node, 1)
        }
        type Event = fn(&str) -> RoomLinkEvent;
        let fills: [(usize, Event, usize); 3] =
            [(MAX_MESSAGES, request, 100), (4, large, 1), (MAX_LINK_EVENTS, opens, 10)];
        for (capacity, event, of_other) in fills {
            for last in ["osl-1", "sto-1"] {
                let mut queue = LinkEventQueue::default();
                for _ in 0..of_other {
                    assert_eq!(queue.push(event("osl-1")), Queued::Kept);
                }
                for _ in of_other..capacity {
                    assert_eq!(queue.push(event("sto-1")), Queued::Kept);
                }
                assert_eq!(queue.push(event(last)), Queued::Kept);
                let left = of_other + usize::from(last == "osl-1");
                let read = all(&mut queue);
                let of = |node: &str| read.iter().filter(|read| **read == event(node)).count();
                assert_eq!((of("osl-1"), of("sto-1")), (left, 0), "{last} is the last of {capacity}");
                assert!(read.contains(&RoomLinkEvent::Overflowed { node: "sto-1".to_owned() }));
                assert_eq!(read.len(), left + 1);
            }
        }
    }

    #[test]
    fn a_node_that_opens_and_closes_repeatedly_does_not_fill_the_queue() {
        let mut queue = LinkEventQueue::default();
        queue.push(opened("osl-1", 7));
        for link in 0..100_000 {
            queue.push(opened("sto-1", link));
            queue.push(RoomLinkEvent::Down { node: "sto-1".to_owned() });
        }
        let read = all(&mut queue);
        assert!(read.len() <= MAX_LINK_EVENTS + 1, "{}", read.len());
        assert!(read.contains(&opened("osl-1", 7)), "an event of another node was removed");
    }

    #[test]
    fn bytes_are_bounded_and_freed_when_read() {
        let mut queue = LinkEventQueue::default();
        let large = || {
            let packet = bytes::Bytes::from(vec![0; MAX_BYTES / 4]);
            message("sto-1", Body::ReliableData(ReliableData { packet, ..Default::default() }))
        };
        for _ in 0..10 {
            for _ in 0..4 {
                assert_eq!(queue.push(large()), Queued::Kept);
            }
            assert_eq!(all(&mut queue).len(), 4);
        }
        for _ in 0..5 {
            let _ = queue.push(large());
        }
        assert_eq!(all(&mut queue), [RoomLinkEvent::Overflowed { node: "sto-1".to_owned() }]);
    }

    #[test]
    fn an_ended_room_queues_nothing() {
        let mut queue = LinkEventQueue::default();
        queue.push(opened("sto-1", 1));
        assert_eq!(queue.close(), [opened("sto-1", 1)]);
        assert_eq!(queue.push(opened("sto-1", 2)), Queued::Ended);
    }
}
