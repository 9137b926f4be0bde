//! The peer queue: messages of one room that wait for one peer. All rooms on a link share the link's short
//! queue. While that is full, each room keeps its own messages, in order. When a peer queue overflows, the
//! room is reopened to that peer; other rooms on the link are not affected.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use systir_proto::cluster::v1::room_message::Body;

use super::pushed::Pushed;
use crate::link_queue::{may_be_lost, size};

/// Most waiting messages, without lossy ones.
const MAX_MESSAGES: usize = 4096;
/// Most bytes of waiting messages.
const MAX_BYTES: usize = 16 << 20;
/// Most lossy messages between two flushes.
const MAX_LOSSY: usize = 1024;
/// From this length on data is read slowly from those who send it.
const LONG: usize = 256;
/// From this length on the room stops accepting worker events and client requests.
const NEARLY_FULL: usize = MAX_MESSAGES / 2;

/// A layer of a track: track id and layer.
type LayerOfTrack = (String, u32);

/// The messages for one peer.
#[derive(Debug, Default)]
pub(super) struct PeerQueue {
    waiting: VecDeque<Body>,
    /// Lossy data does not wait behind other messages, because the link sends it as datagrams.
    lossy: VecDeque<Body>,
    bytes: usize,
    /// Messages sent since `waiting` was last empty.
    sent: usize,
    /// Position of the waiting subscription of each layer, counted since `waiting` was last empty.
    subscriptions: FxHashMap<LayerOfTrack, usize>,
    /// The link did not accept the first waiting message.
    blocked: bool,
    overflowed: bool,
}

impl PeerQueue {
    /// Queues a message. After an overflow every message is refused.
    pub(super) fn push(&mut self, body: Body) -> Pushed {
        if self.overflowed {
            return Pushed::Overflowed;
        }
        if matches!(body, Body::LossyData(_)) {
            if self.lossy.len() >= MAX_LOSSY {
                return Pushed::Dropped;
            }
            self.lossy.push_back(body);
            return Pushed::Kept;
        }
        if may_be_lost(&body) && self.blocked {
            return Pushed::Dropped;
        }
        // A subscription must not come before a ticket after which it was made.
        if matches!(body, Body::Ticket(_)) {
            self.subscriptions.clear();
        }
        // Only the newest subscription of a layer matters: it replaces one that waits. So the number of
        // tracks bounds how many wait.
        let layer = layer_of(&body);
        let earlier = layer.as_ref().and_then(|layer| self.subscriptions.get(layer));
        if let Some(waiting) = earlier.and_then(|at| self.waiting.get_mut(at.checked_sub(self.sent)?)) {
            *waiting = body;
            return Pushed::Kept;
        }
        let bytes = size(&body);
        if self.waiting.len() >= MAX_MESSAGES || self.bytes + bytes > MAX_BYTES {
            *self = Self { overflowed: true, ..Self::default() };
            return Pushed::Overflowed;
        }
        if let Some(layer) = layer {
            self.subscriptions.insert(layer, self.sent + self.waiting.len());
        }
        self.bytes += bytes;
        self.waiting.push_back(body);
        Pushed::Kept
    }

    /// Sends messages until the link accepts no more. `send` returns a message that the link does not accept
    /// now. Returns the number of dropped messages, of those that may be lost.
    pub(super) fn flush(&mut self, mut send: impl FnMut(Body) -> Result<(), Box<Body>>) -> u64 {
        let mut dropped = 0;
        self.blocked = false;
        while let Some(body) = self.waiting.pop_front() {
            let (bytes, layer) = (size(&body), layer_of(&body));
            if let Err(back) = send(body) {
                if !may_be_lost(&back) {
                    self.waiting.push_front(*back);
                    self.blocked = true;
                    break;
                }
                dropped += 1;
            }
            self.sent += 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            if let Some(layer) = layer {
                self.subscriptions.remove(&layer);
            }
        }
        if self.waiting.is_empty() {
            (self.sent, self.bytes) = (0, 0);
        }
        for body in std::mem::take(&mut self.lossy) {
            dropped += u64::from(send(body).is_err());
        }
        dropped
    }

    /// Are there waiting messages?
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.lossy.is_empty()
    }

    /// Is the queue so long that those who send data should be slowed down?
    pub(super) fn is_long(&self) -> bool {
        self.waiting.len() >= LONG || self.bytes >= MAX_BYTES / 16
    }

    /// Is the queue so long that the room should stop accepting events?
    pub(super) fn is_nearly_full(&self) -> bool {
        self.waiting.len() >= NEARLY_FULL || self.bytes >= MAX_BYTES / 2
    }

    /// Is the queue short again?
    pub(super) fn is_short(&self) -> bool {
        self.waiting.len() < LONG / 2 && self.bytes < MAX_BYTES / 32
    }

    /// Must the room be reopened to the peer?
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }
}

fn layer_of(body: &Body) -> Option<LayerOfTrack> {
    match body {
        Body::Subscribe(wanted) => Some((wanted.track_sid.clone(), wanted.layer)),
        Body::Unsubscribe(wanted) => Some((wanted.track_sid.clone(), wanted.layer)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use systir_proto::cluster::v1::{KeyFrame, LossyData, ReliableData, Speakers, Subscribe, Unsubscribe};

    use super::*;

    fn data(number: usize) -> Body {
        Body::ReliableData(ReliableData { sender_sid: number.to_string(), ..Default::default() })
    }

    fn lossy(number: usize) -> Body {
        Body::LossyData(LossyData { sender_sid: number.to_string(), ..Default::default() })
    }

    fn subscribe(track: &str, flow: u32) -> Body {
        Body::Subscribe(Subscribe { track_sid: track.to_owned(), layer: 1, flow })
    }

    fn unsubscribe(track: &str) -> Body {
        Body::Unsubscribe(Unsubscribe { track_sid: track.to_owned(), layer: 1 })
    }

    /// A link that accepts a limited number of messages.
    #[derive(Default)]
    struct Link {
        free: usize,
        sent: Vec<Body>,
    }

    impl Link {
        fn take(&mut self, body: Body) -> Result<(), Box<Body>> {
            if self.free == 0 {
                return Err(Box::new(body));
            }
            self.free -= 1;
            self.sent.push(body);
            Ok(())
        }
    }

    #[test]
    fn on_a_stalled_link_no_message_is_lost_or_reordered() {
        let (mut link, mut queue) = (Link::default(), PeerQueue::default());
        for number in 0..1000 {
            link.free += usize::from(number % 3 == 0);
            assert_eq!(queue.push(data(number)), Pushed::Kept);
            if number % 7 == 0 {
                queue.flush(|body| link.take(body));
            }
        }
        assert!(queue.is_waiting() && queue.is_long());
        link.free = 1000;
        queue.flush(|body| link.take(body));
        assert!(!queue.is_waiting() && !queue.is_long() && queue.is_short());
        assert_eq!(link.sent, (0..1000).map(data).collect::<Vec<_>>());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn repeated_subscriptions_of_a_layer_do_not_fill_the_queue() {
        let (mut link, mut queue) = (Link::default(), PeerQueue::default());
        assert_eq!(queue.push(data(0)), Pushed::Kept);
        for flow in 0..100_000 {
            for body in
                [subscribe("TR_a", flow), unsubscribe("TR_b"), unsubscribe("TR_a"), subscribe("TR_b", flow)]
            {
                assert_eq!(queue.push(body), Pushed::Kept);
            }
        }
        // After some are sent, later subscriptions still replace those that wait.
        link.free = 2;
        queue.flush(|body| link.take(body));
        assert_eq!(queue.push(subscribe("TR_a", 7)), Pushed::Kept);
        assert_eq!(queue.push(subscribe("TR_b", 8)), Pushed::Kept);
        link.free = 100;
        queue.flush(|body| link.take(body));
        let last = [data(0), unsubscribe("TR_a"), subscribe("TR_b", 8), subscribe("TR_a", 7)];
        assert_eq!(link.sent, last);
    }

    #[test]
    fn a_subscription_stays_behind_the_ticket_before_it() {
        let (mut link, mut queue) = (Link::default(), PeerQueue::default());
        let bodies = [
            subscribe("TR_a", 0),
            Body::Ticket(bytes::Bytes::new()),
            Body::Ticket("x".into()),
            subscribe("TR_a", 1),
        ];
        for body in bodies.clone() {
            assert_eq!(queue.push(body), Pushed::Kept);
        }
        assert_eq!(queue.push(subscribe("TR_a", 2)), Pushed::Kept);
        link.free = 100;
        queue.flush(|body| link.take(body));
        let [first, empty, ticket, _] = bodies;
        assert_eq!(link.sent, [first, empty, ticket, subscribe("TR_a", 2)]);
        assert_eq!(queue.push(subscribe("TR_a", 3)), Pushed::Kept);
    }

    #[test]
    fn lossy_data_does_not_wait_behind_messages_and_speakers_are_never_lost() {
        let (mut link, mut queue) = (Link::default(), PeerQueue::default());
        queue.push(data(0));
        queue.push(Body::Speakers(Speakers::default()));
        assert_eq!(queue.flush(|body| link.take(body)), 0);
        assert_eq!(queue.push(lossy(1)), Pushed::Kept);
        // The link accepts datagrams while its message queue is full.
        let mut datagrams = Vec::new();
        let dropped = queue.flush(|body| match body {
            Body::LossyData(_) => {
                datagrams.push(body);
                Ok(())
            }
            _ => Err(Box::new(body)),
        });
        assert_eq!((dropped, datagrams), (0, vec![lossy(1)]));
        link.free = 2;
        queue.flush(|body| link.take(body));
        assert_eq!(link.sent, [data(0), Body::Speakers(Speakers::default())]);
    }

    #[test]
    fn messages_that_may_be_lost_are_dropped_and_an_overflow_is_reported() {
        let (mut link, mut queue) = (Link::default(), PeerQueue::default());
        queue.push(lossy(0));
        assert_eq!(queue.flush(|body| link.take(body)), 1);
        for number in 0..MAX_MESSAGES {
            assert_eq!(queue.push(data(number)), Pushed::Kept);
        }
        queue.flush(|body| link.take(body));
        assert_eq!(
            queue.push(Body::KeyFrame(KeyFrame::default())),
            Pushed::Dropped,
            "kept while the link is full"
        );
        assert_eq!(queue.push(data(0)), Pushed::Overflowed);
        link.free = 100;
        assert_eq!(queue.push(data(0)), Pushed::Overflowed, "accepted before the room was reopened");
        queue.flush(|body| link.take(body));
        assert!(queue.has_overflowed() && link.sent.is_empty());
    }
}
