//! The link event queue of one room, shared by the task that reads all links and the room's task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use systir_room::{LinkEventQueue, Queued, RoomLinkEvent};
use tokio::sync::Notify;

/// The link event queue of one room.
#[derive(Debug, Default)]
pub(crate) struct SharedLinkEventQueue {
    queue: Mutex<LinkEventQueue>,
    queued: Notify,
}

impl SharedLinkEventQueue {
    fn lock(&self) -> MutexGuard<'_, LinkEventQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event. Never waits.
    pub(crate) fn push(&self, event: RoomLinkEvent) -> Queued {
        let queued = self.lock().push(event);
        if queued == Queued::Kept {
            self.queued.notify_one();
        }
        queued
    }

    /// Waits for the next event, in order. Cancel safe: no event is lost when the future is dropped.
    pub(crate) async fn next(&self) -> RoomLinkEvent {
        loop {
            if let Some(event) = self.lock().pop() {
                return event;
            }
            self.queued.notified().await;
        }
    }

    /// Closes the queue when the room has ended. Returns the unread events.
    pub(crate) fn close(&self) -> Vec<RoomLinkEvent> {
        self.lock().close()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn events_are_read_in_order_while_others_are_queued() {
        let events = Arc::new(SharedLinkEventQueue::default());
        let opened = |link| RoomLinkEvent::Opened { node: "sto-1".to_owned(), link };
        let room = events.clone();
        let read = tokio::spawn(async move {
            let mut read = Vec::new();
            while read.len() < 100 {
                read.push(room.next().await);
            }
            read
        });
        for link in 0..100 {
            assert_eq!(events.push(opened(link)), Queued::Kept);
            tokio::task::yield_now().await;
        }
        assert_eq!(read.await.unwrap(), (0..100).map(opened).collect::<Vec<_>>());
    }
}
