//! Messages that wait for one other node. All rooms of a link share its queue; while that is full each
//! room keeps its own messages, in order, and tries again like the others. When too many wait, the room is
//! opened to that node again: other rooms are not affected, and the link ends only when the node takes
//! nothing of any room for seconds.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use systir_proto::cluster::v1::room_message::Body;

use super::pushed::Pushed;
use crate::link_queue::{may_be_lost, size};

/// Messages that may wait.
const MAX_MESSAGES: usize = 4096;
/// Their bytes.
const MAX_BYTES: usize = 16 << 20;
/// Lossy messages between two hand-overs.
const MAX_LOSSY: usize = 1024;
/// From here on the room takes no more from its clients than it must.
const LONG: usize = 256;

/// A layer of a track, which a subscription is about.
type LayerOfTrack = (String, u32);

/// The messages for one node.
#[derive(Debug, Default)]
pub(super) struct PeerQueue {
    waiting: VecDeque<Body>,
    /// Lossy data does not wait behind other messages: short messages are datagrams.
    lossy: VecDeque<Body>,
    bytes: usize,
    /// Messages that have left since `waiting` was last empty.
    left: usize,
    /// Where the last subscription of a layer waits, counted from when `waiting` was last empty.
    subscriptions: FxHashMap<LayerOfTrack, usize>,
    /// The link did not take the first waiting message.
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
        // Only the newest subscription of a layer counts, so tracks bound how many wait.
        let layer = layer_of(&body);
        let earlier = layer.as_ref().and_then(|layer| self.subscriptions.get(layer));
        if let Some(waiting) = earlier.and_then(|at| self.waiting.get_mut(at.checked_sub(self.left)?)) {
            *waiting = body;
            return Pushed::Kept;
        }
        let bytes = size(&body);
        if self.waiting.len() >= MAX_MESSAGES || self.bytes + bytes > MAX_BYTES {
            *self = Self { overflowed: true, ..Self::default() };
            return Pushed::Overflowed;
        }
        if let Some(layer) = layer {
            self.subscriptions.insert(layer, self.left + self.waiting.len());
        }
        self.bytes += bytes;
        self.waiting.push_back(body);
        Pushed::Kept
    }

    /// Hands messages over until the link takes no more. `send` returns what the link does not take now.
    /// Answers how many messages that may be lost were dropped.
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
            self.left += 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            if let Some(layer) = layer {
                self.subscriptions.remove(&layer);
            }
        }
        if self.waiting.is_empty() {
            (self.left, self.bytes) = (0, 0);
        }
        for body in std::mem::take(&mut self.lossy) {
            dropped += u64::from(send(body).is_err());
        }
        dropped
    }

    /// Does something wait?
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.lossy.is_empty()
    }

    /// Does so much wait that the room should not add to it?
    pub(super) fn is_long(&self) -> bool {
        self.waiting.len() >= LONG || self.bytes >= MAX_BYTES / 4
    }

    /// Has the node caught up?
    pub(super) fn is_short(&self) -> bool {
        self.waiting.len() < LONG / 2 && self.bytes < MAX_BYTES / 8
    }

    /// Must the room be opened to the node again?
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

    /// A link that takes a limited number of messages.
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
    fn a_stalled_link_loses_no_message_and_no_order() {
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
        assert!(!queue.is_waiting() && !queue.is_long());
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
        // Some leave, and later subscriptions still find theirs.
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
    fn lossy_data_does_not_wait_behind_messages_and_speakers_are_never_lost() {
        let (mut link, mut queue) = (Link::default(), PeerQueue::default());
        queue.push(data(0));
        queue.push(Body::Speakers(Speakers::default()));
        assert_eq!(queue.flush(|body| link.take(body)), 0);
        assert_eq!(queue.push(lossy(1)), Pushed::Kept);
        // The link takes datagrams while its queue of messages is full.
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
        assert_eq!(queue.push(Body::KeyFrame(KeyFrame::default())), Pushed::Dropped, "the link is full");
        assert_eq!(queue.push(data(0)), Pushed::Overflowed);
        link.free = 100;
        assert_eq!(queue.push(data(0)), Pushed::Overflowed, "refused until the room is opened again");
        queue.flush(|body| link.take(body));
        assert!(queue.has_overflowed() && link.sent.is_empty());
    }
}
