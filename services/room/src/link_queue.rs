//! What links tell a room. The one task that reads link events serves all rooms and must not wait
//! for any; so each room has a queue of its own, in order and bounded. When a node says more than the
//! room takes, what may be lost goes first; then the room is closed to that node and opened afresh, so
//! that both begin from whole copies. Nothing else is lost.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message as _;
use systir_proto::cluster::v1::RoomMessage;
use systir_proto::cluster::v1::room_message::Body;
use tokio::sync::Notify;

/// Messages of nodes that may wait.
const MAX_MESSAGES: usize = 4096;
/// Their bytes.
const MAX_BYTES: usize = 32 << 20;
/// Words of links about themselves; a node that opens and closes without end is opened afresh.
const MAX_WORDS: usize = 256;

/// One thing that links tell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FromLinks {
    /// The room is open on the link to that node, at both ends.
    Opened {
        /// The node's name.
        node: String,
        /// The link's number.
        link: u32,
    },
    /// The other node does not open it, or closed it.
    Refused {
        /// The node's name.
        node: String,
        /// Why.
        reason: String,
        /// Was it open before?
        closed: bool,
    },
    /// The link to another node is down.
    Down {
        /// The node's name.
        node: String,
    },
    /// Something about the room from another node.
    Says {
        /// The node's name, as TLS proved it.
        node: String,
        /// What.
        body: Body,
    },
    /// The node said more than the room could take: open the room to it afresh.
    Flooded {
        /// The node's name.
        node: String,
    },
}

impl FromLinks {
    fn node(&self) -> &str {
        match self {
            Self::Opened { node, .. }
            | Self::Refused { node, .. }
            | Self::Down { node }
            | Self::Says { node, .. }
            | Self::Flooded { node } => node,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The room will hear it.
    Kept,
    /// It was one that may be lost, and was.
    Dropped,
    /// The room is over.
    Over,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<(usize, FromLinks)>,
    messages: usize,
    bytes: usize,
    /// Nodes of which nothing is taken until the room is open to them afresh.
    flooded: BTreeSet<String>,
    over: bool,
}

/// One room's queue.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves word for the room; never waits.
    pub(crate) fn post(&self, event: FromLinks) -> Posted {
        let posted = self.lock().post(event);
        if posted == Posted::Kept {
            self.bell.notify_one();
        }
        posted
    }

    /// The next thing, in order. Nothing is lost when it is not awaited to its end.
    pub(crate) async fn next(&self) -> FromLinks {
        loop {
            if let Some(event) = self.lock().take() {
                return event;
            }
            self.bell.notified().await;
        }
    }

    /// The room is over: nothing is taken any more. What nobody read is answered.
    pub(crate) fn close(&self) -> Vec<FromLinks> {
        let mut waiting = self.lock();
        waiting.over = true;
        std::mem::take(&mut waiting.queue).into_iter().map(|(_, event)| event).collect()
    }
}

impl Waiting {
    fn post(&mut self, event: FromLinks) -> Posted {
        if self.over {
            return Posted::Over;
        }
        let FromLinks::Says { node, body } = &event else {
            if self.queue.len() - self.messages >= MAX_WORDS {
                self.open_afresh(event.node().to_owned());
                return Posted::Kept;
            }
            if matches!(event, FromLinks::Opened { .. } | FromLinks::Down { .. }) {
                self.flooded.remove(event.node());
            }
            self.queue.push_back((0, event));
            return Posted::Kept;
        };
        if self.flooded.contains(node) {
            return Posted::Dropped;
        }
        let bytes = size(body);
        let share = if may_be_lost(body) { 2 } else { 1 };
        if self.messages < MAX_MESSAGES / share && self.bytes + bytes <= MAX_BYTES / share {
            self.messages += 1;
            self.bytes += bytes;
            self.queue.push_back((bytes, event));
            return Posted::Kept;
        }
        if may_be_lost(body) {
            return Posted::Dropped;
        }
        self.open_afresh(node.clone());
        Posted::Kept
    }

    /// What waits of the node is void: the room will be opened to it afresh.
    fn open_afresh(&mut self, node: String) {
        self.queue.retain(|(_, event)| event.node() != node);
        let says = |(_, event): &&(usize, FromLinks)| matches!(event, FromLinks::Says { .. });
        self.messages = self.queue.iter().filter(says).count();
        self.bytes = self.queue.iter().map(|(bytes, _)| bytes).sum();
        self.queue.push_back((0, FromLinks::Flooded { node: node.clone() }));
        self.flooded.insert(node);
    }

    fn take(&mut self) -> Option<FromLinks> {
        let (bytes, event) = self.queue.pop_front()?;
        if matches!(event, FromLinks::Says { .. }) {
            self.messages -= 1;
            self.bytes -= bytes;
        }
        Some(event)
    }
}

/// Bytes that a message holds.
pub(super) fn size(body: &Body) -> usize {
    match body {
        Body::ReliableData(data) => data.packet.len(),
        Body::LossyData(data) => data.packet.len(),
        Body::StateUpdate(update) => update.updates.iter().map(bytes::Bytes::len).sum(),
        other => RoomMessage { room: String::new(), body: Some(other.clone()) }.encoded_len(),
    }
}

/// What may be lost by its nature, or is asked for again. Who speaks is told once, when it changes.
pub(super) fn may_be_lost(body: &Body) -> bool {
    matches!(body, Body::LossyData(_) | Body::KeyFrame(_))
}

#[cfg(test)]
mod tests {
    use systir_proto::cluster::v1::{LossyData, ReliableData, Unsubscribe};

    use super::*;

    fn says(node: &str, body: Body) -> FromLinks {
        FromLinks::Says { node: node.to_owned(), body }
    }

    fn request(node: &str) -> FromLinks {
        says(node, Body::Unsubscribe(Unsubscribe::default()))
    }

    fn opened(node: &str, link: u32) -> FromLinks {
        FromLinks::Opened { node: node.to_owned(), link }
    }

    fn all(inbox: &Inbox) -> Vec<FromLinks> {
        std::iter::from_fn(|| inbox.lock().take()).collect()
    }

    #[tokio::test]
    async fn what_is_posted_is_heard_in_order() {
        let inbox = std::sync::Arc::new(Inbox::default());
        let posts: Vec<FromLinks> = (0..100).map(|link| opened("sto-1", link)).collect();
        let room = inbox.clone();
        let heard = tokio::spawn(async move {
            let mut heard = Vec::new();
            while heard.len() < 100 {
                heard.push(room.next().await);
            }
            heard
        });
        for event in &posts {
            assert_eq!(inbox.post(event.clone()), Posted::Kept);
            tokio::task::yield_now().await;
        }
        assert_eq!(heard.await.unwrap(), posts);
    }

    #[test]
    fn a_node_that_floods_a_deaf_room_is_opened_afresh_and_the_others_are_heard() {
        let inbox = Inbox::default();
        inbox.post(opened("sto-1", 1));
        inbox.post(request("osl-1"));
        for _ in 0..MAX_MESSAGES - 1 {
            assert_eq!(inbox.post(request("sto-1")), Posted::Kept);
        }
        assert_eq!(inbox.post(says("sto-1", Body::LossyData(LossyData::default()))), Posted::Dropped);
        assert_eq!(inbox.post(request("sto-1")), Posted::Kept);
        assert_eq!(
            inbox.post(request("sto-1")),
            Posted::Dropped,
            "nothing more of it until it is open afresh"
        );
        assert_eq!(inbox.post(request("osl-1")), Posted::Kept, "the others are heard");
        inbox.post(opened("sto-1", 2));
        assert_eq!(inbox.post(request("sto-1")), Posted::Kept);
        let flooded = FromLinks::Flooded { node: "sto-1".to_owned() };
        let heard = [request("osl-1"), flooded, request("osl-1"), opened("sto-1", 2), request("sto-1")];
        assert_eq!(all(&inbox), heard);
    }

    #[test]
    fn a_node_that_opens_and_closes_without_end_fills_nothing() {
        let inbox = Inbox::default();
        inbox.post(opened("osl-1", 7));
        for link in 0..100_000 {
            inbox.post(opened("sto-1", link));
            inbox.post(FromLinks::Down { node: "sto-1".to_owned() });
        }
        let heard = all(&inbox);
        assert!(heard.len() <= MAX_WORDS + 1, "{}", heard.len());
        assert!(heard.contains(&opened("osl-1", 7)), "the others' words stay");
    }

    #[test]
    fn bytes_are_bounded_too_and_come_free_again() {
        let inbox = Inbox::default();
        let large = || {
            let packet = bytes::Bytes::from(vec![0; MAX_BYTES / 4]);
            says("sto-1", Body::ReliableData(ReliableData { packet, ..Default::default() }))
        };
        for _ in 0..10 {
            for _ in 0..4 {
                assert_eq!(inbox.post(large()), Posted::Kept);
            }
            assert_eq!(all(&inbox).len(), 4);
        }
        for _ in 0..5 {
            let _ = inbox.post(large());
        }
        assert_eq!(all(&inbox), [FromLinks::Flooded { node: "sto-1".to_owned() }]);
    }

    #[test]
    fn a_room_that_is_over_takes_nothing() {
        let inbox = Inbox::default();
        inbox.post(opened("sto-1", 1));
        assert_eq!(inbox.close(), [opened("sto-1", 1)]);
        assert_eq!(inbox.post(opened("sto-1", 2)), Posted::Over);
    }
}
