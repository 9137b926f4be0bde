//! What the room still has to tell one other node. All rooms of a link share its queue; while that
//! is full each room keeps its own messages, in order, and tries again like the others. A room that
//! keeps too much is opened to the node afresh: other rooms do not pay for it, and the link ends only
//! when the node takes nothing of any room for seconds.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use systir_proto::cluster::v1::room_message::Body;

use super::inbox::{may_be_lost, size};

/// Messages that may wait.
const MAX_MESSAGES: usize = 4096;
/// Their bytes.
const MAX_BYTES: usize = 16 << 20;
/// From here on the room takes no more from its clients than it must.
const LONG: usize = 256;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The link has it, or will get it.
    Kept,
    /// It was one that may be lost, and was.
    Dropped,
    /// Nothing more can wait: the room must be opened to the node afresh.
    Overflow,
}

/// A layer of a track, of which a subscription speaks.
type Layer = (String, u32);

/// The messages for one node.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Body>,
    bytes: usize,
    /// Messages that have left since it was last empty.
    left: usize,
    /// Where the last word about a layer waits, counted from when it was last empty.
    wishes: FxHashMap<Layer, usize>,
    overflowed: bool,
}

impl Outbox {
    /// Tells the node, now or in the room's turn. `send` gives back what the link does not take now.
    /// After an overflow everything is refused.
    pub(super) fn post(&mut self, body: Body, send: impl FnOnce(Body) -> Result<(), Box<Body>>) -> Told {
        if self.overflowed {
            return Told::Overflow;
        }
        // Lossy data does not share the way of what waits: short messages are datagrams.
        let body = if self.waiting.is_empty() || matches!(body, Body::LossyData(_)) {
            match send(body) {
                Ok(()) => return Told::Kept,
                Err(back) => *back,
            }
        } else {
            body
        };
        if may_be_lost(&body) {
            return Told::Dropped;
        }
        // Only the newest wish for a layer counts, so tracks bound how many wait.
        let wish = wish(&body);
        let earlier = wish.as_ref().and_then(|layer| self.wishes.get(layer));
        if let Some(place) = earlier.and_then(|at| self.waiting.get_mut(at.checked_sub(self.left)?)) {
            *place = body;
            return Told::Kept;
        }
        let bytes = size(&body);
        if self.waiting.len() >= MAX_MESSAGES || self.bytes + bytes > MAX_BYTES {
            *self = Self { overflowed: true, ..Self::default() };
            return Told::Overflow;
        }
        if let Some(layer) = wish {
            self.wishes.insert(layer, self.left + self.waiting.len());
        }
        self.bytes += bytes;
        self.waiting.push_back(body);
        Told::Kept
    }

    /// Tries again.
    pub(super) fn hand_over(&mut self, mut send: impl FnMut(Body) -> Result<(), Box<Body>>) {
        while let Some(body) = self.waiting.pop_front() {
            let (bytes, wish) = (size(&body), wish(&body));
            if let Err(back) = send(body) {
                self.waiting.push_front(*back);
                return;
            }
            self.left += 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            if let Some(layer) = wish {
                self.wishes.remove(&layer);
            }
        }
        (self.left, self.bytes) = (0, 0);
    }

    /// Does something wait?
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Does so much wait that the room should not add to it?
    pub(super) fn is_long(&self) -> bool {
        self.waiting.len() >= LONG || self.bytes >= MAX_BYTES / 4
    }

    /// Has the node caught up?
    pub(super) fn is_short(&self) -> bool {
        self.waiting.len() < LONG / 2 && self.bytes < MAX_BYTES / 8
    }

    /// Must the room be opened to the node afresh?
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }
}

fn wish(body: &Body) -> Option<Layer> {
    match body {
        Body::Subscribe(wanted) => Some((wanted.track_sid.clone(), wanted.layer)),
        Body::Unsubscribe(wanted) => Some((wanted.track_sid.clone(), wanted.layer)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use systir_proto::cluster::v1::{LossyData, ReliableData, Speakers, Subscribe, Unsubscribe};

    use super::*;

    fn data(number: usize) -> Body {
        Body::ReliableData(ReliableData { sender_sid: number.to_string(), ..Default::default() })
    }

    fn wanted(track: &str, flow: u32) -> Body {
        Body::Subscribe(Subscribe { track_sid: track.to_owned(), layer: 1, flow })
    }

    fn unwanted(track: &str) -> Body {
        Body::Unsubscribe(Unsubscribe { track_sid: track.to_owned(), layer: 1 })
    }

    /// A link that takes so many messages and no more.
    #[derive(Default)]
    struct Link {
        room: RefCell<usize>,
        got: RefCell<Vec<Body>>,
    }

    impl Link {
        fn take(&self, body: Body) -> Result<(), Box<Body>> {
            let mut room = self.room.borrow_mut();
            if *room == 0 {
                return Err(Box::new(body));
            }
            *room -= 1;
            self.got.borrow_mut().push(body);
            Ok(())
        }
    }

    #[test]
    fn a_link_that_stalls_loses_nothing_and_no_order() {
        let (link, mut outbox) = (Link::default(), Outbox::default());
        for number in 0..1000 {
            *link.room.borrow_mut() += usize::from(number % 3 == 0);
            assert_eq!(outbox.post(data(number), |body| link.take(body)), Told::Kept);
            if number % 7 == 0 {
                outbox.hand_over(|body| link.take(body));
            }
        }
        assert!(outbox.is_waiting() && outbox.is_long());
        *link.room.borrow_mut() = 1000;
        outbox.hand_over(|body| link.take(body));
        assert!(!outbox.is_waiting() && !outbox.is_long());
        assert_eq!(*link.got.borrow(), (0..1000).map(data).collect::<Vec<_>>());
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn somebody_who_changes_their_mind_without_end_fills_nothing() {
        let (link, mut outbox) = (Link::default(), Outbox::default());
        let mut post = |body| assert_eq!(outbox.post(body, |body| link.take(body)), Told::Kept);
        post(data(0));
        for flow in 0..100_000 {
            post(wanted("TR_a", flow));
            post(unwanted("TR_b"));
            post(unwanted("TR_a"));
            post(wanted("TR_b", flow));
        }
        // Some leave, and what comes then finds its place among the others.
        *link.room.borrow_mut() = 2;
        outbox.hand_over(|body| link.take(body));
        let mut post = |body| assert_eq!(outbox.post(body, |body| link.take(body)), Told::Kept);
        post(wanted("TR_a", 7));
        post(wanted("TR_b", 8));
        *link.room.borrow_mut() = 100;
        outbox.hand_over(|body| link.take(body));
        let last = [data(0), unwanted("TR_a"), wanted("TR_b", 8), wanted("TR_a", 7)];
        assert_eq!(*link.got.borrow(), last);
    }

    #[test]
    fn lossy_data_overtakes_what_waits_and_who_speaks_is_never_lost() {
        let (link, mut outbox) = (Link::default(), Outbox::default());
        let lossy = || Body::LossyData(LossyData { sender_sid: "PA_quick".to_owned(), ..Default::default() });
        assert_eq!(outbox.post(data(0), |body| link.take(body)), Told::Kept);
        assert_eq!(outbox.post(Body::Speakers(Speakers::default()), |body| link.take(body)), Told::Kept);
        *link.room.borrow_mut() = 1;
        assert_eq!(outbox.post(lossy(), |body| link.take(body)), Told::Kept);
        *link.room.borrow_mut() = 2;
        outbox.hand_over(|body| link.take(body));
        assert_eq!(*link.got.borrow(), [lossy(), data(0), Body::Speakers(Speakers::default())]);
    }

    #[test]
    fn what_may_be_lost_gives_way_and_an_overflow_is_told() {
        let (link, mut outbox) = (Link::default(), Outbox::default());
        let mut post = |body| outbox.post(body, |body| link.take(body));
        assert_eq!(post(Body::LossyData(LossyData::default())), Told::Dropped);
        for number in 0..MAX_MESSAGES {
            assert_eq!(post(data(number)), Told::Kept);
        }
        assert_eq!(post(data(0)), Told::Overflow);
        *link.room.borrow_mut() = 100;
        assert_eq!(post(data(0)), Told::Overflow, "nothing goes before it is opened afresh");
        assert!(outbox.has_overflowed() && link.got.borrow().is_empty());
    }
}
